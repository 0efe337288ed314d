//! What carries messages between ranks: as little as can be asked of it.

use std::sync::Arc;

/// Messages of an exchange that has not begun here, with who sent them.
pub type Early = Vec<(usize, Vec<u32>)>;

/// What takes messages to other ranks, each whole. Two from one rank to another may come in any order.
pub trait Link {
    /// Which rank this is, from 0.
    fn rank(&self) -> usize;

    /// How many there are.
    fn ranks(&self) -> usize;

    /// Sends what the talk has to send and tells it what arrives, until it is over and all that was sent has been taken.
    fn carry(&mut self, talk: &mut dyn Talk);

    /// Ends the processes of all ranks.
    fn give_up(&mut self);
}

/// What is said between ranks about one thing.
pub trait Talk {
    /// The next message and whom it is for, if there is one by now.
    fn next(&mut self) -> Option<(usize, Arc<Vec<u32>>)>;

    /// A message has arrived.
    fn hear(&mut self, from: usize, words: Vec<u32>);

    /// Whether this rank has said and heard all.
    fn is_over(&self) -> bool;

    /// The most messages that it may send.
    fn most(&self) -> usize;
}

/// How many processes were started together, as launchers tell them by variables: Open MPI's, MPICH's and Intel's, and Slurm's.
pub fn launched() -> Option<usize> {
    let counts = ["OMPI_COMM_WORLD_SIZE", "PMI_SIZE"];
    counts
        .into_iter()
        .find_map(number)
        .or_else(|| std::env::var_os("PMIX_RANK").map(|_| number("SLURM_STEP_NUM_TASKS").unwrap_or(1)))
}

/// How many of them are on this machine, where the launcher says so.
pub fn on_this_machine() -> Option<usize> {
    ["OMPI_COMM_WORLD_LOCAL_SIZE", "MPI_LOCALNRANKS"].into_iter().find_map(number)
}

fn number(variable: &str) -> Option<usize> {
    std::env::var(variable).ok()?.parse().ok()
}
