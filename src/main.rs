//! `ancestral`: parse, run, print the error, exit.

use std::process::ExitCode;

use ancestral::cli::{Cli, Outcome};
use clap::Parser;

fn main() -> ExitCode {
    match ancestral::cli::run(Cli::parse()) {
        Ok(Outcome::Passed) => ExitCode::SUCCESS,
        Ok(Outcome::Failed) => ExitCode::from(1),
        Err(error) => {
            eprintln!("ancestral: {error}");
            ExitCode::from(2)
        }
    }
}
