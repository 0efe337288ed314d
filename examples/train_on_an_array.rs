//! A small U-Net trained on an array of floats, and pictures from it.

use ancestral::data::Dataset;
use ancestral::ndarray::Array4;
use ancestral::sample::{Settings, draw};
use ancestral::train::{Preset, Trainer};

fn main() -> ancestral::Result<()> {
    // 64 images of 16 x 16 pixels with one channel, in [-1, 1]: stripes of several widths.
    let stripes =
        Array4::from_shape_fn((64, 16, 16, 1), |(i, _, x, _)| if x / (1 + i % 4) % 2 == 0 { 1.0 } else { -1.0 });
    let data = Dataset::from_array("stripes", &stripes)?;
    let mut trainer = Trainer::new(Preset::Tiny.config().for_images(&data)?, data, None)?;
    for _ in 0..trainer.config().steps {
        trainer.step()?;
    }
    let model = trainer.pipeline()?;
    let pictures = draw(&model, &Settings::new(&model)?, 0..4, |_| Ok(()))?;
    println!("{:?}, the first pixel is {}", pictures.dim(), pictures[[0, 0, 0, 0]]);
    Ok(())
}
