//! What tells two files, or two lists of numbers, apart.

use sha2::{Digest, Sha256};

/// SHA-256 in hexadecimal: what `sha256sum` prints for the same bytes.
pub fn sha256(bytes: &[u8]) -> String {
    hexadecimal(&Sha256::digest(bytes))
}

/// Two digits for each byte.
pub fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
