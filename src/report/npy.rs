//! Images as numbers for Python: a file that `numpy.load` reads.
//!
//! The format is NumPy's, version 1.0: the magic `\x93NUMPY`, the version, the header's length as a u16, the header as a
//! Python dictionary filled up with spaces to a multiple of 64 bytes, and the numbers, all little-endian.

use std::path::Path;

use ndarray::{Array4, ArrayView4};

use crate::Result;
use crate::atomic;
use crate::layers::flat;

/// Writes images as a `.npy` file in PyTorch's order of axes, unclipped and unrounded.
///
/// # Shapes
/// `images` is (n, h, w, c); the file holds float32 of shape (n, c, h, w).
///
/// # Errors
/// If the file cannot be written.
pub fn save_npy(images: ArrayView4<f32>, path: &Path) -> Result<()> {
    atomic::write(path, &encode(images))
}

fn encode(images: ArrayView4<f32>) -> Vec<u8> {
    let images: Array4<f32> = images.permuted_axes([0, 3, 1, 2]).as_standard_layout().to_owned();
    let fields = format!("{{'descr': '<f4', 'fortran_order': False, 'shape': {:?}, }}", images.dim());
    const BEFORE: usize = 10; // magic, version, length
    let width = (BEFORE + fields.len() + 1).next_multiple_of(64) - BEFORE - 1;
    let header = format!("{fields:width$}\n");

    let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
    bytes.extend((header.len() as u16).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.extend(flat(&images).iter().flat_map(|x| x.to_le_bytes()));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::digest::sha256;

    #[test]
    fn npy_file_has_the_bytes_that_numpy_writes() {
        // NumPy 2.4.6: np.save of np.arange(120, dtype="<f4").reshape(2, 3, 4, 5).transpose(0, 3, 1, 2), made contiguous.
        let images = Array4::from_shape_vec((2, 3, 4, 5), (0..120).map(|i| i as f32).collect()).unwrap();
        let file = tempfile::tempdir().unwrap();
        let path = file.path().join("images.npy");
        save_npy(images.view(), &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let header = String::from_utf8_lossy(&bytes[10..128]);
        assert!(header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 5, 3, 4), } "), "{header}");
        assert_eq!(sha256(&bytes), "f25f19e7de801d26662c0ef8e930146044b65580cd9042bd53d532287540da3c");
    }
}
