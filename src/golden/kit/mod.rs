//! The kit: its cases, and a folder with their golden values.

mod draft;
mod export;
mod manifest;
mod networks;
mod operations;
mod processes;
mod transformer;

pub use draft::Draft;
pub use export::export;
pub use manifest::{Entry, Level, Manifest};

/// The levels in the order in which a backend is built; `probes` tell orders of addition apart.
pub const LEVELS: [&str; 11] = [
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
        processes::reverse_steps(),
        processes::trajectories(),
        networks::training(),
        transformer::training(),
        operations::probes(),
    ];
    let wanted = |draft: &Draft| levels.is_empty() || levels.iter().any(|level| level == draft.level);
    all.into_iter().flatten().filter(wanted).collect()
}
