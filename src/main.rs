//! `ancestral`: parse, run, print the error, exit.

use std::process::ExitCode;

use ancestral::cli::note;
use ancestral::cli::{Cli, Exit};
use clap::Parser;

fn main() -> ExitCode {
    keep_memory();
    match ancestral::cli::run(Cli::parse()) {
        Ok(Exit::Passed) => ExitCode::SUCCESS,
        Ok(Exit::Failed) => ExitCode::from(1),
        Err(error) => {
            note(&format!("ancestral: {error}"));
            ExitCode::from(2)
        }
    }
}

/// Teaches glibc's allocator to keep what activations leave. It gives large blocks back to the system at once, and takes
/// a page fault for every page of the next one: a quarter of the time of a prediction on two threads. But it takes the
/// largest block that it has seen freed, up to 32 MiB, for the size from which that is worth it. Other allocators are not
/// moved by this.
fn keep_memory() {
    const LARGEST: usize = 31 << 20;
    drop(std::hint::black_box(Vec::<u8>::with_capacity(LARGEST)));
}
