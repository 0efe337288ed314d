//! `ancestral`: parse, run, print the error, exit.

use std::process::ExitCode;

use ancestral::cli::{Cli, Outcome};
use ancestral::report::progress::note;
use clap::Parser;

fn main() -> ExitCode {
    match ancestral::cli::run(Cli::parse()) {
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Err(error) => {
            note(&format!("ancestral: {error}"));
            ExitCode::from(2)
        }
    }
}
