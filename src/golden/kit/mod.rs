//! The kit: its cases, and a folder with their golden values.

mod draft;
mod export;
mod likelihood;
mod manifest;
mod networks;
mod operations;
mod processes;
mod samplers;
mod transformer;

pub use draft::Draft;
pub use export::export;
pub use manifest::{Entry, Level, Manifest};

/// The levels in the order in which a backend is built; `probes` tell orders of addition apart.
pub const LEVELS: [&str; 13] = [
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
];

/// The cases of these levels, or of all if the list is empty.
pub fn drafts(levels: &[String]) -> Vec<Draft> {
    let all = [
        operations::elementary(),
        operations::products(),
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
    let wanted = |draft: &Draft| levels.is_empty() || levels.iter().any(|level| level == draft.level);
    all.into_iter().flatten().filter(wanted).collect()
}
