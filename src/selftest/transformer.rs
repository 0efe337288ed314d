//! What only a transformer has: its layers forward and backward, and a small one whole, as the U-Net before it.

use ndarray::Array2;

use super::Chain;
use super::layers::{numbers, weights};
use super::network::{SIDE, config, links_of};
use crate::Result;
use crate::layers::affine::Affine;
use crate::layers::modulate::{add_gated, add_gated_backward, modulate, modulate_backward};
use crate::layers::patch::{patchify, unpatchify};
use crate::layers::position::positions;
use crate::layers::{Layout, ParameterVector, flat};
use crate::models::DitConfig;
use crate::train::Config;

pub(super) fn links(chain: &mut Chain) -> Result<()> {
    layers(chain);
    let model = DitConfig {
        num_attention_heads: 2,
        attention_head_dim: 6,
        in_channels: 1,
        num_layers: 2,
        dropout: 0.1,
        sample_size: SIDE,
        num_embeds_ada_norm: 4,
        norm_elementwise_affine: true,
        ..DitConfig::default()
    };
    links_of(chain, "transformer", Config { model: model.into(), ..config() })
}

/// 37 tokens of two images: column sums have whole groups of 16 rows and a rest.
fn layers(chain: &mut Chain) {
    let patches = patchify(numbers((2, 6, 9, 2), 1), 3);
    chain.numbers("transformer.patches", &[flat(&patches), flat(&unpatchify(&patches, 3, (9, 6)))].concat());
    chain.numbers("transformer.positions", flat(&positions::<f32>((3, 5), 4, 24)));

    let (rows, c) = (2 * 37, 11);
    let (x, u, dy) = (numbers((rows, c), 1), numbers((2, 3 * c), 2), numbers((rows, c), 3));
    let mut du = Array2::zeros(u.dim());
    let y = modulate(&x, &u, [0, 1]);
    let dx = modulate_backward(&x, &u, [0, 1], &dy, &mut du);
    chain.numbers("transformer.modulation", &[flat(&y), flat(&dx), flat(&du)].concat());
    let y = add_gated(&y, &x, &u, 2);
    let dx = add_gated_backward(&x, &u, 2, &dy, &mut du);
    chain.numbers("transformer.gate", &[flat(&y), flat(&dx), flat(&du)].concat());

    let mut layout = Layout::default();
    let affine = Affine::new(&mut layout, "affine", c);
    let (w, mut grads) = (weights(&layout), ParameterVector::zeros(layout.count()));
    let (y, dx) = (affine.forward(&w, &x), affine.backward(&w, &x, &dy, &mut grads));
    chain.numbers("transformer.affine", &[flat(&y), flat(&dx), &grads.0].concat());
}
