//! One error type: what a user or a file got wrong, where, and what to do about it.
//!
//! A shape that does not fit between two layers is our own bug and panics; everything that depends on a file, a flag or
//! the data is an [`Error`].

use std::path::{Path, PathBuf};

/// What went wrong, in words for the person at the keyboard.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder that cannot be read, written, or believed.
    #[error("{}: {problem}\n  {remedy}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// What was expected and what was found.
        problem: String,
        /// What to do.
        remedy: String,
    },
    /// A flag or a field of a configuration with a value that cannot be used.
    #[error("{field}: expected {expected}, found {found}")]
    Value {
        /// The flag (`--lr`) or field (`train.lr`), with its file if it has one.
        field: String,
        /// What would be accepted.
        expected: String,
        /// What was there.
        found: String,
    },
    /// A number that is infinite or not a number where the mathematics has none.
    #[error("step {step}: {tensor} is not finite\n  {remedy}")]
    NonFinite {
        /// The training step, from 1, at which it appeared.
        step: u64,
        /// The tensor: the loss, or a gradient by its parameter's name.
        tensor: String,
        /// What to do.
        remedy: String,
    },
    /// A thread on which arithmetic means something else than the contract says.
    #[error("{thread}: expected arithmetic as IEEE 754 has it, found that {fault}\n  {remedy}")]
    Arithmetic {
        /// The main thread, or one of the pool.
        thread: String,
        /// What it does instead.
        fault: &'static str,
        /// What to do.
        remedy: &'static str,
    },
}

/// The result of everything that a file or a flag can spoil.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A file that is not what it should be.
    pub fn file(path: impl AsRef<Path>, problem: impl Into<String>, remedy: impl Into<String>) -> Self {
        Error::File { path: path.as_ref().into(), problem: problem.into(), remedy: remedy.into() }
    }

    /// A file that the operating system refused, `doing` being "read", "create", ...
    pub fn io(path: impl AsRef<Path>, doing: &str, cause: &std::io::Error) -> Self {
        let remedy = match cause.kind() {
            std::io::ErrorKind::NotFound | std::io::ErrorKind::NotADirectory | std::io::ErrorKind::IsADirectory => {
                "check the path"
            }
            std::io::ErrorKind::PermissionDenied => "check its permissions",
            std::io::ErrorKind::StorageFull => "free some space and run again",
            _ => "check the path, its permissions and the space on the disk",
        };
        Error::file(path, format!("cannot {doing}: {cause}"), remedy)
    }

    /// A flag or field with a value that cannot be used.
    pub fn value(field: impl Into<String>, expected: impl Into<String>, found: impl ToString) -> Self {
        Error::Value { field: field.into(), expected: expected.into(), found: found.to_string() }
    }
}
