//! What the lesson is about: a model, pictures that it never saw, and one set of choices for all chapters.

use ndarray::Array4;

use crate::data::Dataset;
use crate::denoise::{Denoiser, Estimate, NetworkDenoiser, Output, Sight};
use crate::diffusion::{Level, Process, Schedule};
use crate::layers::{Prepared, flat_mut};
use crate::numerics::rng::Stream;
use crate::pipeline::Pipeline;
use crate::{Error, Result};

/// The seed of everything that is drawn for the lesson.
pub const SEED: u64 = 42;

/// The most steps of a schedule whose tables a page can carry.
const MOST_STEPS: usize = 4000;

/// A model and its pictures.
pub struct Subject<'a> {
    /// The model.
    pub model: &'a Pipeline,
    /// Pictures that it was not trained on.
    pub data: &'a Dataset,
    weights: &'a Prepared<'a, f32>,
}

impl<'a> Subject<'a> {
    /// A model, its weights prepared, and its pictures.
    ///
    /// # Errors
    /// A model of another process than the variance-preserving one, of too many steps, or of pictures that are neither grey nor
    /// colour.
    pub fn new(model: &'a Pipeline, weights: &'a Prepared<'a, f32>, data: &'a Dataset) -> Result<Self> {
        let schedule = &model.scheduler().schedule;
        if schedule.process() != Process::Betas {
            let expected = "a model of the variance-preserving process (beta_schedule), of which the lesson is";
            return Err(Error::value("model", expected, format!("{:?}", schedule.process())));
        }
        if schedule.t_max() > MOST_STEPS {
            let expected = format!("at most {MOST_STEPS} steps, whose tables a page can carry");
            return Err(Error::value("num_train_timesteps", expected, schedule.t_max()));
        }
        let (_, _, channels) = model.image_shape()?;
        if channels != 1 && channels != 3 {
            return Err(Error::value("in_channels", "1 (grey) or 3 (colour), for pictures", channels));
        }
        Ok(Subject { model, data, weights })
    }

    /// Its noise.
    pub fn schedule(&self) -> &Schedule {
        &self.model.scheduler().schedule
    }

    /// The t that chapters begin with: six tenths of the way to T, where x_t is nearly noise and the network sees a picture.
    pub fn shown_t(&self) -> usize {
        (self.schedule().t_max() * 3).div_ceil(5)
    }

    /// A few t from little noise to noise alone, ascending, each once.
    pub fn some_times(&self) -> Vec<usize> {
        let t_max = self.schedule().t_max();
        let mut times: Vec<usize> =
            [0.02, 0.1, 0.3, 0.6, 0.9].map(|share| (share * t_max as f64).ceil() as usize).to_vec();
        times.dedup();
        times
    }

    /// Height, width and channels of a picture.
    pub fn shape(&self) -> (usize, usize, usize) {
        let shape = self.data.shape();
        (shape.height, shape.width, shape.channels)
    }

    /// The number that chapters begin with: in the middle, of the first channel; its place in the picture.
    pub fn first_pixel(&self) -> usize {
        let (h, w, c) = self.shape();
        (h / 2 * w + w / 2) * c
    }

    /// Numbers in a picture.
    pub fn size(&self) -> usize {
        self.data.shape().elements()
    }

    /// The network.
    pub fn network(&self) -> NetworkDenoiser<'_, f32> {
        self.model.denoiser(self.weights)
    }

    /// How its output is read.
    pub fn sight(&self) -> Sight {
        self.model.scheduler().sight()
    }

    /// The range that x̂₀ is clipped to.
    pub fn clip(&self) -> Option<f64> {
        self.model.scheduler().clip_range()
    }

    /// What the network is told of picture `i`.
    pub fn label(&self, i: usize) -> Option<usize> {
        self.label_of(self.data.label(i).map(|class| class as usize))
    }

    /// What it is told of a picture of a class: nothing, where the classes of the pictures are more than it knows.
    pub fn label_of(&self, class: Option<usize>) -> Option<usize> {
        let known = self.model.classes().unwrap_or(0);
        let fits = self.data.classes().is_some_and(|classes| classes <= known);
        self.model.label(class.filter(|_| fits)).or(self.any_label())
    }

    /// What it is told where nothing is known and it knows no "no class".
    fn any_label(&self) -> Option<usize> {
        self.model.classes().filter(|&classes| classes > 0).map(|_| 0)
    }

    /// What the network says of one image at one level.
    ///
    /// # Errors
    /// Whatever it refuses.
    pub fn see(&self, x: &Array4<f32>, level: Level, label: Option<usize>) -> Result<Output<f32>> {
        let n = x.dim().0;
        self.network().predict(x, &vec![level; n], label.map(|label| vec![label; n]).as_deref())
    }

    /// What follows from that: x̂₀ and ε̂.
    pub fn estimate(&self, x: &Array4<f32>, level: Level, output: &Output<f32>) -> Estimate<f32> {
        self.sight().estimate(x, level, output)
    }

    /// Standard noise of one picture, of the stream (seed, "lesson.PURPOSE", [index]).
    pub fn noise(&self, purpose: &str, index: u64) -> Array4<f32> {
        let (h, w, c) = self.shape();
        let mut eps = Array4::zeros((1, h, w, c));
        Stream::keyed(SEED, &format!("lesson.{purpose}"), &[index]).fill_normal(flat_mut(&mut eps));
        eps
    }

    /// Picture `i`, shape (1, h, w, c).
    pub fn picture(&self, i: usize) -> Array4<f32> {
        self.data.batch(&[i])
    }
}
