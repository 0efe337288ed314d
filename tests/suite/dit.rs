//! Transformers written by diffusers: outputs, loss and every parameter's gradient against PyTorch's float64; and what no
//! fixture has, against central differences and against themselves run otherwise.

use crate::peer::{Peer, fixture, worst};
use ancestral::checkpoint::weights;
use ancestral::layers::affine::Affine;
use ancestral::layers::dropout::Key;
use ancestral::layers::gradient_check::check;
use ancestral::layers::modulate::{add_gated, add_gated_backward, modulate, modulate_backward};
use ancestral::layers::{Layout, ParameterVector, Weights};
use ancestral::models::{Conditions, Dit, DitConfig, Time};
use ancestral::numerics::rng::normal;
use ancestral::numerics::{Native, Real};
use ndarray::{Array2, Array4, Axis, Slice};

const NAMES: [&str; 2] = ["small", "learned_sigma_small"];

struct Case {
    peer: Peer,
    dit: Dit,
    weights: ParameterVector<f32>,
    t: Vec<f64>,
    labels: Vec<usize>,
}

impl Case {
    fn open(name: &str) -> Self {
        let folder = fixture(&format!("dit/{name}"));
        let text = std::fs::read_to_string(folder.join("config.json")).expect("a config");
        let dit = Dit::new(DitConfig::from_json(&text, "config.json").expect("supported")).expect("supported");
        let weights = weights::read(&folder.join("diffusion_pytorch_model.safetensors"), &dit.layout).expect("weights");
        let peer = Peer::open(&format!("dit/{name}/io.safetensors"));
        let t = peer.get("t").iter().copied().collect();
        let labels = peer.get("class_labels").iter().map(|&label| label as usize).collect();
        Case { peer, dit, weights, t, labels }
    }

    fn conditions(&self) -> Conditions<'_> {
        Conditions { time: Time::Steps(&self.t), labels: Some(&self.labels) }
    }

    fn predict<F: Real>(&self) -> Array4<F> {
        let x = self.peer.images("x").mapv(F::from_f64);
        self.dit.predict(&self.weights.cast(), x, self.conditions()).expect("a prediction")
    }
}

#[test]
fn dit_in_f64_equals_pytorch_for_output_loss_and_every_gradient() {
    for name in NAMES {
        let case = Case::open(name);
        let w = case.weights.cast::<f64>();
        let (out, tape) = case.dit.forward(&w, case.peer.images("x"), case.conditions(), None).expect("a prediction");
        let expected = case.peer.images("out_f64");
        let (error, scale) = worst(out.iter().copied(), &expected);
        assert!(error <= 1e-9 * scale, "{name}: output off by {error:e} of {scale}");

        let count = out.len() as f64;
        let difference = &out - &case.peer.images("noise");
        let loss = difference.mapv(|d| d * d).sum() / count;
        let expected = case.peer.get("loss_f64").iter().next().copied().expect("one number");
        assert!((loss - expected).abs() <= 1e-9 * expected, "{name}: loss {loss}, PyTorch {expected}");

        let mut grads = ParameterVector::zeros(w.0.len());
        let dx = case.dit.backward(&w, tape, Some(&case.labels), &(difference * (2.0 / count)), &mut grads);
        let (error, scale) = worst(dx.iter().copied(), &case.peer.images("grad.x"));
        assert!(error <= 1e-9 * scale, "{name}: grad.x off by {error:e} of {scale}");
        let mut largest = 0.0f64;
        for entry in &case.dit.layout.entries {
            let expected = case.peer.parameter(&format!("grad.{}", entry.name), &entry.axes);
            let (error, scale) = worst(grads[entry.span].iter().copied(), &expected);
            // Scores that all move alike change no softmax: the gradient of a key's bias is zero but for rounding.
            let bound = if entry.name.ends_with("to_k.bias") { 1e-15 } else { 1e-9 * scale };
            assert!(error <= bound, "{name}: grad.{} off by {error:e} of {scale:e}", entry.name);
            if !entry.name.ends_with("to_k.bias") {
                largest = largest.max(error / scale);
            }
        }
        println!("{name}: gradients off by at most {largest:e} of the largest element");
    }
}

#[test]
fn dit_in_f32_is_as_near_to_the_truth_as_pytorch_in_f32() {
    for name in NAMES {
        let case = Case::open(name);
        let truth = case.peer.images("out_f64");
        let (theirs, _) = worst(case.peer.images("out_f32").iter().copied(), &truth);
        let (ours, _) = worst(case.predict::<f32>().iter().map(|&y| y as f64), &truth);
        println!("{name}: f32 error {ours:e}, PyTorch's {theirs:e}");
        assert!(ours <= 3.0 * theirs, "{name}: off by {ours:e}, PyTorch by {theirs:e}");
    }
}

/// Three heads, patches of three pixels, no bias before the scores, a norm with parameters.
fn unusual() -> (Dit, ParameterVector<f64>) {
    let config = DitConfig {
        num_attention_heads: 3,
        attention_head_dim: 4,
        in_channels: 2,
        out_channels: Some(1),
        num_layers: 2,
        dropout: 0.3,
        attention_bias: false,
        sample_size: 9,
        patch_size: 3,
        num_embeds_ada_norm: 4,
        norm_elementwise_affine: true,
        ..Default::default()
    };
    let dit = Dit::new(config).expect("supported");
    let moved = normal(dit.layout.count(), 9) * 0.3;
    (dit, ParameterVector(moved.to_vec()))
}

#[test]
fn dit_with_every_option_has_the_gradient_of_central_differences() {
    let (dit, w) = unusual();
    let (t, labels) = ([7.0, 940.0], [4, 1]);
    let conditions = Conditions { time: Time::Steps(&t), labels: Some(&labels) };
    let key = Some(Key { seed: 1, step: 2, first_image: 0 });
    let x = normal((2, 9, 9, 2), 1);
    let (y, tape) = dit.forward(&w, x.clone(), conditions, key).expect("a prediction");
    let dy = normal(y.dim(), 2);
    let mut grads = ParameterVector::zeros(w.0.len());
    let dx = dit.backward(&w, tape, Some(&labels), &dy, &mut grads);
    let loss = |w: &ParameterVector<f64>, x: &Array4<f64>| {
        (dit.forward(w, x.clone(), conditions, key).expect("a prediction").0 * &dy).sum()
    };
    // Along a random direction of length about 1 in each tensor, and in x: as of one number, truncation and rounding are below
    // 1e-8 (see `gradient_check`), here with a margin of a hundred.
    let direction_of = |len: usize| normal(len, 3) / (len as f64).sqrt();
    let slope_is = |what: &str, expected: f64, at: &dyn Fn(f64) -> f64| {
        let found = (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!(
            (found - expected).abs() <= 1e-6 * (expected.abs() + 1.0),
            "{what}: gradient {expected}, slope {found}"
        );
    };
    for entry in &dit.layout.entries {
        let direction = direction_of(entry.span.len);
        let expected = grads[entry.span].iter().zip(&direction).map(|(g, d)| g * d).sum();
        slope_is(&entry.name, expected, &|h| {
            let mut moved = w.clone();
            moved[entry.span].iter_mut().zip(&direction).for_each(|(w, d)| *w += h * d);
            loss(&moved, &x)
        });
    }
    let direction = direction_of(x.len()).into_shape_with_order(x.dim()).expect("as many numbers");
    slope_is("x", (&dx * &direction).sum(), &|h| loss(&w, &(&x + &(&direction * h))));

    let mut alone = ParameterVector::zeros(w.0.len());
    let tape = dit.forward(&w, x, conditions, key).expect("a prediction").1;
    dit.parameter_gradients(&w, tape, Some(&labels), &dy, &mut alone);
    assert_eq!(alone, grads);
}

#[test]
fn dit_of_one_block_has_the_gradient_of_central_differences_in_every_number() {
    let config = DitConfig {
        num_attention_heads: 2,
        attention_head_dim: 2,
        in_channels: 1,
        num_layers: 1,
        sample_size: 4,
        num_embeds_ada_norm: 1,
        ..Default::default()
    };
    let dit = Dit::new(config).expect("supported");
    let w = ParameterVector((normal(dit.layout.count(), 9) * 0.3).to_vec());
    let (t, labels) = ([3.0], [0]);
    let conditions = Conditions { time: Time::Steps(&t), labels: Some(&labels) };
    check(
        &w,
        &normal((1, 4, 4, 1), 1),
        2,
        |w, x| dit.forward(w, x.clone(), conditions, None).expect("a prediction"),
        |w, tape, dy, grads| dit.backward(w, tape, Some(&labels), dy, grads),
    )
    .expect("the gradients are right");
}

#[test]
fn dit_of_new_weights_predicts_zero() {
    let (dit, _) = unusual();
    let conditions = Conditions { time: Time::Steps(&[5.0]), labels: Some(&[0]) };
    let w: ParameterVector<f32> = dit.layout.initial(1);
    let y = dit.predict(&w, normal((1, 9, 9, 2), 1).mapv(|x| x as f32), conditions).expect("a prediction");
    assert!(y.iter().all(|&y| y == 0.0));
}

#[test]
fn dit_has_the_same_bits_over_threads_and_for_an_image_alone() {
    let case = Case::open("learned_sigma_small");
    let run = |threads: usize| {
        let pool = rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool of threads");
        pool.install(|| {
            let x = case.peer.images("x").mapv(|x| x as f32);
            let w: &dyn Weights<f32> = &case.weights;
            let (out, tape) = case.dit.forward(w, x, case.conditions(), None).expect("a prediction");
            let mut grads = ParameterVector::zeros(case.dit.layout.count());
            let dx = case.dit.backward(w, tape, Some(&case.labels), &out, &mut grads);
            (out, dx, grads)
        })
    };
    let alone = run(1);
    for threads in [2, 3] {
        assert_eq!(run(threads), alone, "{threads} threads");
    }
    let second = Slice::from(1..2);
    let x = case.peer.images("x").slice_axis(Axis(0), second).mapv(|x| x as f32);
    let conditions = Conditions { time: Time::Steps(&case.t[1..2]), labels: Some(&case.labels[1..2]) };
    let out = case.dit.predict(&case.weights, x, conditions).expect("a prediction");
    assert_eq!(out, alone.0.slice_axis(Axis(0), second));
}

#[test]
fn dit_traced_gives_every_module_by_its_name_and_the_same_output() {
    let case = Case::open("small");
    let x = case.peer.images("x").mapv(|x| x as f32);
    let (out, _, taps) = case.dit.forward_traced(&case.weights, x, case.conditions()).expect("a prediction");
    assert_eq!(out, case.predict::<f32>());
    let shape = |name: &str| {
        let tap = taps.iter().find(|(tap, _)| tap == name).unwrap_or_else(|| panic!("no tap {name}"));
        tap.1.shape().to_vec()
    };
    for (name, expected) in [
        ("pos_embed.proj", vec![3, 4, 4, 24]),
        ("pos_embed", vec![3, 16, 24]),
        ("transformer_blocks.0.norm1.emb.timestep_embedder", vec![3, 24]),
        ("transformer_blocks.0.norm1.emb.class_embedder", vec![3, 24]),
        ("transformer_blocks.0.norm1.linear", vec![3, 144]),
        ("transformer_blocks.1.norm1", vec![3, 16, 24]),
        ("transformer_blocks.1.attn1.to_q", vec![3, 16, 24]),
        ("transformer_blocks.1.attn1.to_out.0", vec![3, 16, 24]),
        ("transformer_blocks.1.attn1", vec![3, 16, 24]),
        ("transformer_blocks.1.norm3", vec![3, 16, 24]),
        ("transformer_blocks.1.ff.net.0", vec![3, 16, 96]),
        ("transformer_blocks.1.ff", vec![3, 16, 24]),
        ("transformer_blocks.1", vec![3, 16, 24]),
        ("norm_out", vec![3, 16, 24]),
        ("proj_out_1", vec![3, 48]),
        ("proj_out_2", vec![3, 16, 16]),
    ] {
        assert_eq!(shape(name), expected, "{name}");
    }
}

#[test]
fn dit_refuses_images_and_labels_that_it_cannot_take() {
    let case = Case::open("small");
    let refusal = |size: (usize, usize), labels: Option<&[usize]>| {
        let conditions = Conditions { time: Time::Steps(&[1.0]), labels };
        let x = Array4::zeros((1, size.0, size.1, 1));
        case.dit.predict(&case.weights, x, conditions).unwrap_err().to_string()
    };
    assert!(refusal((16, 12), Some(&[0])).contains("16 x 12"));
    assert!(refusal((16, 16), None).contains("class labels"));
    assert!(refusal((16, 16), Some(&[11])).contains("0 to 10"));
}

/// Down a column: 16 terms at a time in F from +0, each group then added to a total in f64, which is rounded to F.
fn column_sum<F: Real>(rows: std::ops::Range<usize>, add: impl Fn(F, usize) -> F) -> F {
    let rows: Vec<usize> = rows.collect();
    let groups = rows.chunks(16).map(|group| group.iter().fold(F::zero(), |sum, &row| add(sum, row)).to_f64());
    F::from_f64(groups.fold(0.0, |total, group| total + group))
}

#[test]
fn modulation_gate_and_affine_have_the_bits_of_their_definition() {
    fn in_precision<F: Real>() {
        let (images, tokens, c) = (2, 37, 11);
        let numbers = |rows: usize, columns: usize, key: u64| normal((rows, columns), key).mapv(F::from_f64);
        let rows = images * tokens;
        let (x, u, a, dy) = (numbers(rows, c, 1), numbers(images, 3 * c, 2), numbers(rows, c, 3), numbers(rows, c, 4));
        let mut du = Array2::zeros(u.dim());
        let y = modulate(&x, &u, [0, 1]);
        let dx = modulate_backward(&x, &u, [0, 1], &dy, &mut du);
        let gated = add_gated(&x, &a, &u, 2);
        let da = add_gated_backward(&a, &u, 2, &dy, &mut du);
        let mut layout = Layout::default();
        let affine = Affine::new(&mut layout, "affine", c);
        let w = ParameterVector(numbers(1, layout.count(), 5).into_raw_vec_and_offset().0);
        let mut grads = ParameterVector::zeros(layout.count());
        let (scaled, d_scaled) = (affine.forward(&w, &x), affine.backward(&w, &x, &dy, &mut grads));
        for ((row, i), &x) in x.indexed_iter() {
            let part = |part: usize| u[[row / tokens, part * c + i]];
            let (at, factor) = ([row, i], F::one() + part(1));
            assert!(y[at] == x.fma::<Native>(factor, part(0)) && dx[at] == dy[at] * factor, "modulation {at:?}");
            assert!(gated[at] == a[at].fma::<Native>(part(2), x) && da[at] == dy[at] * part(2), "gate {at:?}");
            assert!(scaled[at] == x.fma::<Native>(w.0[i], w.0[c + i]) && d_scaled[at] == dy[at] * w.0[i], "{at:?}");
        }
        let product = |of: &Array2<F>, i: usize| {
            let (dy, of) = (dy.column(i).to_vec(), of.column(i).to_vec());
            move |sum: F, row: usize| dy[row].fma::<Native>(of[row], sum)
        };
        for i in 0..c {
            for image in 0..images {
                let of_image = || image * tokens..(image + 1) * tokens;
                assert_eq!(du[[image, i]], column_sum(of_image(), |sum: F, row| sum + dy[[row, i]]), "shift {i}");
                assert_eq!(du[[image, c + i]], column_sum(of_image(), product(&x, i)), "scale {i}");
                assert_eq!(du[[image, 2 * c + i]], column_sum(of_image(), product(&a, i)), "gate {i}");
            }
            assert_eq!(grads.0[i], column_sum(0..rows, product(&x, i)), "gamma {i}");
            assert_eq!(grads.0[c + i], column_sum(0..rows, |sum: F, row| sum + dy[[row, i]]), "beta {i}");
        }
    }
    in_precision::<f32>();
    in_precision::<f64>();
}
