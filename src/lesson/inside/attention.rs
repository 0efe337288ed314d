//! Who attends to whom in the middle of a U-Net.

use ndarray::{Array3, Ix3};
use serde::Serialize;

use crate::layers::flat;
use crate::layers::softmax::softmax;
use crate::lesson::numbers::Numbers;
use crate::models::{Taps, UNetConfig};
use crate::numerics::gemm::{Epilogue, Matrix, matrix_product};

/// The most tokens of an attention that a page carries.
const TOKENS: usize = 64;

/// Who attends to whom, for the first head.
#[derive(Clone, Debug, Serialize)]
pub struct Attention {
    /// The module.
    pub name: String,
    /// Rows and columns of tokens.
    pub grid: [usize; 2],
    /// Channels of the head.
    pub channels: usize,
    /// Heads.
    pub heads: usize,
    /// Queries (tokens, channels).
    pub q: Numbers,
    /// Keys.
    pub k: Numbers,
    /// softmax(q kᵀ/√d), (tokens, tokens).
    pub p: Numbers,
    /// The largest of them.
    pub most: f64,
    /// The least, over the tokens, of a token's largest share: near 1 each takes all from one other.
    pub sharpness: f64,
    /// How many different tokens are the one that some token takes most from.
    pub asked: usize,
}

/// The first head of the attention in the middle; none where there is none, or too many tokens.
pub(super) fn attention(config: &UNetConfig, taps: &Taps<f32>) -> Option<Attention> {
    let (name, q) = taps.iter().find(|(name, _)| name.starts_with("mid_block") && name.ends_with(".to_q"))?;
    let module = name.strip_suffix(".to_q")?;
    let k = &taps.iter().find(|(tap, _)| *tap == format!("{module}.to_k"))?.1;
    let three = |x: &ndarray::ArrayD<f32>| x.clone().into_dimensionality::<Ix3>().ok();
    let (q, k): (Array3<f32>, Array3<f32>) = (three(q)?, three(k)?);
    let (_, tokens, inner) = q.dim();
    if tokens > TOKENS {
        return None;
    }
    let shape = taps.iter().find(|(tap, _)| tap == "mid_block.resnets.0")?.1.shape().to_vec();
    let channels = config.attention_head_dim.unwrap_or(inner);
    let head =
        |x: &Array3<f32>| -> Vec<f32> { flat(x).chunks(inner).flat_map(|row| row[..channels].to_vec()).collect() };
    let (q, k) = (head(&q), head(&k));
    let mut p = vec![0.0f32; tokens * tokens];
    let matrix = |x| Matrix::new(x, tokens, channels);
    matrix_product(matrix(&q), matrix(&k).t(), &mut p, tokens, Epilogue::Overwrite);
    let scale = (1.0 / (channels as f64).sqrt()) as f32;
    p.iter_mut().for_each(|s| *s *= scale);
    softmax(&mut p, tokens);
    let largest: Vec<(usize, f64)> = p.chunks(tokens).map(largest_share).collect();
    let mut asked: Vec<usize> = largest.iter().map(|&(token, _)| token).collect();
    asked.sort_unstable();
    asked.dedup();
    let shares = largest.iter().map(|&(_, share)| share);
    Some(Attention {
        name: module.to_string(),
        grid: [shape[1], shape[2]],
        channels,
        heads: inner / channels,
        q: Numbers::f32(&[tokens, channels], &q),
        k: Numbers::f32(&[tokens, channels], &k),
        most: shares.clone().fold(0.0, |most, share| if share > most { share } else { most }),
        sharpness: shares.fold(1.0, |least, share| if share < least { share } else { least }),
        asked: asked.len(),
        p: Numbers::f32(&[tokens, tokens], &p),
    })
}

/// The token that a token takes most from, the first of equals, and its share.
fn largest_share(shares: &[f32]) -> (usize, f64) {
    let largest = shares.iter().enumerate().fold(
        (0, shares[0]),
        |most, (token, &share)| {
            if share > most.1 { (token, share) } else { most }
        },
    );
    (largest.0, largest.1.into())
}
