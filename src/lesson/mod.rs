//! The lesson: the mathematics of diffusion step by step, on one page made from a real run.
//!
//! [`record`] computes everything that the page shows, [`page::render`] writes the page from the record alone. The page holds the record,
//! computes it again in the browser where that can be done, and says how many numbers agree bit for bit.
//!
//! | file | chapter |
//! |---|---|
//! | `forward` | 0, 1, 3: pictures in noise that is known |
//! | `tables` | 2: the schedule |
//! | `chain`, `pixel` | 3, 4, 7: a picture on its way from noise |
//! | `judged`, `exact` | 5, 11: errors by t, of the network and of the exact mean |
//! | `losses` | 11: how the loss fell |
//! | `samplers` | 7: one x_T, many samplers |
//! | `learning` | 8: one pair and the gradient of one weight |
//! | `mixtures` | 9: a world with known truth |
//! | `inside` | 10: inside of the network |
//! | `guidance` | 12: how strongly a class is asked for |
//! | `network` | 7: the network itself, where it was asked for |
//! | `paid` | 13: what a picture costs in bits |
//! | `page/chapters` | the words of each chapter |
//! | `page/js` | its figures |

pub mod about;
pub mod chain;
mod exact;
pub mod excerpt;
pub mod forward;
pub mod guidance;
pub mod inside;
pub mod judged;
pub mod learning;
pub mod losses;
pub mod mixtures;
pub mod network;
pub mod numbers;
pub mod page;
pub mod paid;
pub mod pixel;
pub mod samplers;
mod subject;
pub mod tables;

use serde::Serialize;

use crate::Result;
use crate::data::Dataset;
use crate::layers::Prepared;
use crate::pipeline::Pipeline;
use crate::train::metrics::Losses;

use subject::Subject;

/// Everything that the page shows.
#[derive(Clone, Debug, Serialize)]
pub struct Record {
    /// The model, the pictures, the program.
    pub about: about::About,
    /// The schedule.
    pub tables: tables::Tables,
    /// Pictures in known noise.
    pub pictures: Vec<forward::Noised>,
    /// One step of the forward process.
    pub step_noise: forward::StepNoise,
    /// A picture on its way from noise.
    pub chain: chain::Chain,
    /// Errors by t.
    pub judged: judged::Judged,
    /// One x_T, many samplers.
    pub samplers: samplers::Samplers,
    /// One training pair; none of a network that is too large.
    pub learning: Option<learning::Learning>,
    /// A world with known truth.
    pub world: mixtures::World,
    /// Inside of the network.
    pub inside: inside::Inside,
    /// How strongly a class is asked for; none where there is nothing to guide by.
    pub guidance: Option<guidance::GuidedPictures>,
    /// How the loss fell, where a run has kept it.
    pub losses: Option<losses::Curve>,
    /// What a picture costs in bits.
    pub paid: paid::Paid,
    /// The network itself, where it was asked for.
    pub network: Option<network::PageNetwork>,
    /// x_t, x̂₀ and x after the shown step side by side, as base64 of a PNG file: what stands where nothing is computed.
    pub still: String,
}

/// What a lesson is made of.
#[derive(Clone, Copy, Debug)]
pub struct Sources<'a> {
    /// The model.
    pub model: &'a Pipeline,
    /// Pictures that it was not trained on.
    pub data: &'a Dataset,
    /// Its training pictures, where they are at hand.
    pub training: Option<&'a Dataset>,
    /// The losses of its run, where they are at hand.
    pub losses: Option<&'a Losses>,
    /// Whether the page carries the network itself.
    pub with_network: bool,
}

/// The lesson of a model.
///
/// # Errors
/// A model that the lesson is not about; whatever the network refuses.
pub fn record(sources: Sources) -> Result<Record> {
    let Sources { model, data, training, losses, with_network } = sources;
    crate::numerics::environment::check_current()?;
    let prepared = Prepared::new(model.weights());
    let subject = Subject::new(model, &prepared, data)?;
    let (chain, still) = chain::record(&subject)?;
    Ok(Record {
        about: about::about(&subject),
        tables: tables::tables(&subject),
        pictures: forward::pictures(&subject)?,
        step_noise: forward::step_noise(&subject)?,
        chain,
        judged: judged::judged(&subject, training)?,
        samplers: samplers::samplers(&subject)?,
        learning: learning::learning(&subject)?,
        world: mixtures::world()?,
        inside: inside::inside(&subject)?,
        guidance: guidance::guidance(&subject)?,
        losses: losses.map(losses::curve),
        paid: paid::paid(&subject)?,
        network: with_network.then(|| network::network(&subject)).transpose()?,
        still,
    })
}
