//! The kit: its cases, and a folder with their golden values.

mod convolutions;
mod draft;
mod export;
mod halves;
mod likelihood;
mod manifest;
mod networks;
mod operations;
mod processes;
mod samplers;
mod sizes;
mod transformer;

use crate::golden::format::Format;

pub use draft::Draft;
pub use export::export;
pub use manifest::{Entry, Level, Manifest};

/// The levels in the order in which a backend is built; `probes` tell orders of addition apart, and [`SIZES`] is made on demand.
pub const LEVELS: [&str; 14] = [
    "elementary",
    "ops",
    "blocks",
    "network",
    "gradients",
    "optimizer",
    "schedule",
    "reverse_step",
    "trajectory",
    "training",
    "likelihood",
    "oracle",
    "probes",
    SIZES,
];

/// Shapes as real networks have them: some 400 MB, so that a kit has them only if they are asked for.
pub const SIZES: &str = "sizes";

/// The cases of these levels, or of all but [`SIZES`] if the list is empty, that a kit of the format has.
pub fn drafts(levels: &[String], format: Format) -> Vec<Draft> {
    let mut all = vec![
        operations::elementary(),
        operations::products(),
        convolutions::of_networks(),
        convolutions::of_others(),
        operations::layers(),
        transformer::layers(),
        operations::blocks(),
        transformer::blocks(),
        networks::forward(),
        transformer::forward(),
        networks::gradients(),
        transformer::gradients(),
        processes::optimizer(),
        processes::schedule(),
        samplers::schedules(),
        processes::reverse_steps(),
        samplers::steps(),
        processes::trajectories(),
        samplers::trajectories(),
        networks::training(),
        transformer::training(),
        likelihood::bounds(),
        likelihood::hybrid_losses(),
        likelihood::loss_weights(),
        samplers::oracles(),
        operations::probes(),
    ];
    if format != Format::F32 {
        all.push(halves::overflows());
    }
    if levels.iter().any(|level| level == SIZES) {
        all.push(sizes::all());
    }
    let wanted = |draft: &Draft| levels.is_empty() || levels.iter().any(|level| level == draft.level);
    let all = all.into_iter().flatten().filter(|draft| wanted(draft) && halves::has(format, draft));
    all.map(|draft| halves::rounded(draft, format)).collect()
}
