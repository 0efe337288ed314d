//! The exact answer beside the network's: the mean of the training pictures that fit x_t, of the class that is told.

use ndarray::{Array4, Axis};

use super::subject::Subject;
use crate::Result;
use crate::data::Dataset;
use crate::denoise::{Denoiser, Empirical};
use crate::diffusion::Level;
use crate::numerics::parallel;

/// The most numbers of the training pictures that the exact mean is taken over.
const MOST_NUMBERS: usize = 60_000 * 784;

/// The exact posterior mean of training pictures.
pub(super) struct Exact {
    /// The pictures of each class, where the network is told one; else all of them.
    sets: Vec<Empirical<f32>>,
    /// Training pictures in all.
    pub images: usize,
    /// Whether the mean is that of the class that the network is told.
    pub of_class: bool,
}

impl Exact {
    /// Of the training pictures, of a class where every one of `labels` is a class that has some.
    ///
    /// # Errors
    /// A picture with a number that is not finite.
    pub fn of(subject: &Subject, training: &Dataset, labels: Option<&[usize]>) -> Result<Self> {
        let images = training.len().min((MOST_NUMBERS / subject.size()).max(1));
        let indices: Vec<usize> = (0..images).collect();
        let of_class = |class: usize| -> Vec<usize> {
            indices
                .iter()
                .copied()
                .filter(|&i| training.label(i).is_some_and(|label| label as usize == class))
                .collect()
        };
        let classes = training.classes().filter(|&classes| subject.model.classes() == Some(classes));
        let told = labels.is_some_and(|labels| labels.iter().all(|&label| label < classes.unwrap_or(0)));
        let by_class: Vec<Vec<usize>> = (0..classes.unwrap_or(0)).map(of_class).collect();
        let of_class = told && by_class.iter().all(|of| !of.is_empty());
        let groups = if of_class { by_class } else { vec![indices] };
        let sets = groups.iter().map(|group| Empirical::new(&training.batch(group))).collect::<Result<_>>()?;
        Ok(Exact { sets, images, of_class })
    }

    /// E[x₀ | x] of pictures at one level, those of a class by its own training pictures.
    ///
    /// # Errors
    /// x with a number that is not finite.
    pub fn see(&self, x: &Array4<f32>, level: Level, labels: Option<&[usize]>) -> Result<Array4<f32>> {
        let set_of = |i: usize| labels.filter(|_| self.of_class).map_or(0, |labels| labels[i]);
        let groups: Vec<Vec<usize>> =
            (0..self.sets.len()).map(|set| (0..x.dim().0).filter(|&i| set_of(i) == set).collect()).collect();
        let means = parallel::map(self.sets.len(), |set| -> Result<Array4<f32>> {
            let group = x.select(Axis(0), &groups[set]);
            if groups[set].is_empty() {
                return Ok(group);
            }
            Ok(self.sets[set].predict(&group, &vec![level; groups[set].len()], None)?.value)
        });
        let mut all = x.clone();
        for (group, mean) in groups.iter().zip(means) {
            let mean = mean?;
            for (row, &i) in group.iter().enumerate() {
                all.index_axis_mut(Axis(0), i).assign(&mean.index_axis(Axis(0), row));
            }
        }
        Ok(all)
    }
}
