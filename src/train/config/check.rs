//! What a config must hold.

use super::Config;
use crate::{Error, Result};

/// The most steps: images are counted in 64 bits, with at most 65536 images in a step.
const MAX_STEPS: u64 = 1 << 40;

/// The most numbers in the images of a step: 4 GiB of float32.
const MAX_BATCH: usize = 1 << 30;

impl Config {
    /// Refuses values with which no run is possible.
    ///
    /// # Errors
    /// The first field that does not hold.
    pub fn validate(&self) -> Result<()> {
        let check = |holds: bool, field: &str, expected: &str, found: &dyn std::fmt::Display| {
            if holds { Ok(()) } else { Err(Error::value(field, expected, found)) }
        };
        let o = &self.optimizer;
        let fraction = |x: f64| (0.0..1.0).contains(&x);
        check((1..=MAX_STEPS).contains(&self.steps), "steps", "1 to 2^40", &self.steps)?;
        check(
            self.data.to_str().is_some(),
            "data",
            "a path of UTF-8, which train.json can hold",
            &self.data.display(),
        )?;
        check((1..=1 << 16).contains(&self.batch_size), "batch_size", "1 to 65536 images", &self.batch_size)?;
        check(fraction(self.ema_decay), "ema_decay", "0 (off) or a number below 1", &self.ema_decay)?;
        check(fraction(self.label_dropout), "label_dropout", "a probability in 0..1", &self.label_dropout)?;
        check(self.checkpoint_every > 0, "checkpoint_every", "at least 1 step", &self.checkpoint_every)?;
        check((1..=4096).contains(&self.sample_count), "sample_count", "1 to 4096 pictures", &self.sample_count)?;
        self.guidance().validate()?;
        check(self.evaluation_images > 0, "evaluation_images", "at least 1", &self.evaluation_images)?;
        check(o.lr.is_finite() && o.lr > 0.0, "optimizer.lr", "a positive number", &o.lr)?;
        check(fraction(o.beta1), "optimizer.beta1", "a number in 0..1", &o.beta1)?;
        check(fraction(o.beta2), "optimizer.beta2", "a number in 0..1", &o.beta2)?;
        check(o.eps.is_finite() && o.eps > 0.0, "optimizer.eps", "a positive number", &o.eps)?;
        check(
            o.weight_decay.is_finite() && o.weight_decay >= 0.0,
            "optimizer.weight_decay",
            "0 or more",
            &o.weight_decay,
        )?;
        check(o.clip_norm.is_finite() && o.clip_norm >= 0.0, "optimizer.clip_norm", "0 (off) or more", &o.clip_norm)?;
        self.model.validate("model")?;
        let Some((height, width)) = self.model.image_size() else {
            return Err(Error::value("model.sample_size", "height and width", "null"));
        };
        let numbers = self.batch_size.saturating_mul(height * width * self.model.channels().0);
        check(
            numbers <= MAX_BATCH,
            "batch_size",
            "fewer images: at most 2^30 numbers in the images of a step",
            &format!("{}, with {numbers} numbers", self.batch_size),
        )?;
        let (channels_in, channels_out) = self.model.channels();
        let halves = self.objective.halves();
        let expected = match halves {
            1 => "as many as in_channels",
            _ => "twice as many as in_channels, because the variance is learned",
        };
        check(channels_out == halves * channels_in, "model.out_channels", expected, &channels_out)?;
        self.objective.validate(self.prediction())?;
        let steps = 1..=self.schedule.num_train_timesteps;
        check(steps.contains(&self.sample_steps), "sample_steps", "1 to num_train_timesteps", &self.sample_steps)?;
        self.scheduler().map(|_| ())
    }
}
