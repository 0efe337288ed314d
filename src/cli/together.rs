//! One command run by many processes, as `mpirun` starts them.

use std::thread::{available_parallelism, sleep};
use std::time::Duration;

use super::Exit;
use super::progress::{note, note_of_any_rank};
use crate::cluster::{Ranks, link};
use crate::digest::sha256;
use crate::numerics::CONTRACT;
use crate::{Error, Result};

/// How long a rank waits for the leading one to tell of an error that both have, before it tells of its own.
const PATIENCE: Duration = Duration::from_secs(2);

/// Threads of a process that shares its machine with others of them, where nobody says how many.
pub(super) fn usual_threads() -> usize {
    match link::on_this_machine() {
        Some(processes) if processes > 1 => (available_parallelism().map_or(1, usize::from) / processes).max(1),
        _ => 0, // rayon's: all cores
    }
}

/// Refuses ranks that run another program, since their numbers might be others.
///
/// # Errors
/// The first of them.
pub(super) fn check_programs(ranks: &Ranks) -> Result<()> {
    if ranks.count() == 1 {
        return Ok(());
    }
    let file = std::env::current_exe().and_then(std::fs::read);
    let digest = file.map_or("unknown".into(), |bytes| sha256(&bytes));
    // The contract is the same on other processors, but the file is another.
    let file = (format!("the program ({})", std::env::consts::ARCH), format!("SHA-256 {digest}"));
    let contract = format!("{CONTRACT} of version {}", env!("CARGO_PKG_VERSION"));
    ranks.agree(&[("the contract".into(), contract), file])?;
    let (count, threads) = (ranks.count(), rayon::current_num_threads());
    note(&format!("{count} ranks; threads of the first: {threads}"));
    Ok(())
}

/// Ends the processes of all ranks: after the last is ready, or at once after an error.
pub(super) fn end(ranks: &Ranks, result: Result<Exit>) -> Result<Exit> {
    if ranks.count() == 1 {
        return result;
    }
    match result {
        Ok(exit) => {
            ranks.all_gather(Vec::new()); // MPI would wait for the others, too, but keep a core busy with it
            Ok(exit)
        }
        Err(error) if ranks.leads() => {
            note(&format!("ancestral: {error}"));
            Err(given_up(ranks, error))
        }
        Err(error) => {
            sleep(PATIENCE);
            note_of_any_rank(&format!("ancestral, rank {}: {error}", ranks.rank()));
            Err(given_up(ranks, error))
        }
    }
}

fn given_up(ranks: &Ranks, error: Error) -> Error {
    ranks.give_up();
    error
}
