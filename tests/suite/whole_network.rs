//! The whole U-Net against central differences, in the settings that the peer's fixtures do not have.

use ancestral::layers::ParameterVector;
use ancestral::layers::dropout::Key;
use ancestral::layers::gradient_check::check;
use ancestral::models::unet::{SampleSize, Tape};
use ancestral::models::{Conditions, Time, UNet, UNetConfig};
use ancestral::numerics::rng::normal;
use ndarray::Array4;

fn names(list: &[&str]) -> Vec<String> {
    list.iter().map(|name| name.to_string()).collect()
}

/// Two resolutions, 4 x 6 pixels, the fewest channels with two groups and two heads.
fn small() -> UNetConfig {
    UNetConfig {
        sample_size: Some(SampleSize::Rectangle([4, 6])),
        in_channels: 2,
        out_channels: 3,
        block_out_channels: vec![4, 8],
        down_block_types: names(&["DownBlock2D", "AttnDownBlock2D"]),
        up_block_types: names(&["AttnUpBlock2D", "UpBlock2D"]),
        layers_per_block: 1,
        norm_num_groups: 2,
        attention_head_dim: Some(4),
        ..UNetConfig::default()
    }
}

/// The gradient of every parameter and of x, at random weights: at the first values whole branches are zero.
fn gradients_equal_central_differences(config: UNetConfig, key: Option<Key>) {
    let conditional = config.num_class_embeds.is_some();
    let unet = UNet::new(config).expect("supported");
    let w = ParameterVector(normal(unet.layout.count(), 5).mapv(|x| 0.3 * x).to_vec());
    let labels = [2usize, 0];
    let conditions = Conditions { time: Time::Steps(&[3.0, 700.0]), labels: conditional.then_some(&labels[..]) };
    let forward =
        |w: &ParameterVector<f64>, x: &Array4<f64>| unet.forward(w, x.clone(), conditions, key).expect("a prediction");
    let backward = |w: &ParameterVector<f64>, tape: Tape<f64>, dy: &Array4<f64>, grads: &mut ParameterVector<f64>| {
        unet.backward(w, tape, conditions.labels, dy, grads)
    };
    check(&w, &normal((2, 4, 6, 2), 1), 2, forward, backward).expect("the gradients are right");
}

#[test]
fn unet_with_scale_shift_classes_and_centred_input_has_the_gradients_of_central_differences() {
    gradients_equal_central_differences(
        UNetConfig {
            resnet_time_scale_shift: "scale_shift".into(),
            num_class_embeds: Some(3),
            center_input_sample: true,
            mid_block_scale_factor: 1.5,
            downsample_padding: 0,
            ..small()
        },
        None,
    );
}

#[test]
fn unet_with_dropout_and_without_middle_attention_has_the_gradients_of_central_differences() {
    gradients_equal_central_differences(
        UNetConfig { dropout: 0.3, add_attention: false, time_embedding_dim: Some(6), freq_shift: 1.0, ..small() },
        Some(Key { seed: 1, step: 2, first_image: 0 }),
    );
}

#[test]
fn unet_gradients_without_those_of_the_image_are_the_same() {
    let unet = UNet::new(small()).expect("supported");
    let w = unet.layout.initial::<f64>(1);
    let conditions = Conditions { time: Time::Steps(&[3.0]), labels: None };
    let run = || unet.forward(&w, normal((1, 4, 6, 2), 1), conditions, None).expect("a prediction");
    let dy = normal((1, 4, 6, 3), 2);
    let (mut all, mut parameters) = (ParameterVector::zeros(w.0.len()), ParameterVector::zeros(w.0.len()));
    unet.backward(&w, run().1, None, &dy, &mut all);
    unet.parameter_gradients(&w, run().1, None, &dy, &mut parameters);
    assert_eq!(all, parameters);
}

#[test]
fn unet_on_images_of_any_memory_order_gives_the_same_and_refuses_none() {
    let unet = UNet::new(small()).expect("supported");
    let w = unet.layout.initial::<f64>(1);
    let conditions = Conditions { time: Time::Steps(&[3.0, 9.0]), labels: None };
    let x = normal((2, 4, 6, 2), 1);
    let channels_first = x.view().permuted_axes([0, 3, 1, 2]).as_standard_layout().into_owned();
    let gaps = channels_first.permuted_axes([0, 2, 3, 1]);
    assert!(!gaps.is_standard_layout() && gaps == x);
    let [expected, found] = [x, gaps].map(|x| unet.predict(&w, x, conditions).expect("a prediction"));
    assert_eq!(expected, found);

    let nothing = Conditions { time: Time::Steps(&[]), labels: None };
    let refusal = unet.predict(&w, Array4::zeros((0, 4, 6, 2)), nothing).unwrap_err().to_string();
    assert!(refusal.starts_with("images: expected at least one"), "{refusal}");
}
