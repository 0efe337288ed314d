//! Arrays as NumPy's files, read and written.
//!
//! The format: the magic `\x93NUMPY`, the version, the header's length, the header as a Python dictionary filled up with
//! spaces to a multiple of 64 bytes, and the numbers, all little-endian. Written is version 1.0.

use std::path::Path;

use ndarray::{Array4, ArrayD, ArrayView4, IxDyn};

use crate::golden::case::Tensor;
use crate::layers::flat;
use crate::{Error, Result, atomic};

/// Reads a `.npy` file of float32, float64 or int64, format 1.0 or 2.0, in C or Fortran order.
///
/// # Errors
/// A file of another kind, type or length.
pub fn read(path: &Path) -> Result<Tensor> {
    decode(&atomic::read(path)?).map_err(|problem| Error::file(path, problem, "write it with numpy.save, as float32"))
}

fn decode(bytes: &[u8]) -> std::result::Result<Tensor, String> {
    let cut = || "the file is cut off".to_string();
    let (magic, rest) = bytes.split_first_chunk::<8>().ok_or_else(cut)?;
    let (length, rest) = match magic {
        b"\x93NUMPY\x01\x00" => rest.split_first_chunk::<2>().map(|(n, r)| (u16::from_le_bytes(*n) as usize, r)),
        b"\x93NUMPY\x02\x00" => rest.split_first_chunk::<4>().map(|(n, r)| (u32::from_le_bytes(*n) as usize, r)),
        _ => return Err("expected a .npy file of version 1 or 2".into()),
    }
    .ok_or_else(cut)?;
    let (header, data) = rest.split_at_checked(length).ok_or_else(cut)?;
    let header = String::from_utf8_lossy(header);
    let shape = shape_of(&header).ok_or_else(|| format!("no shape in the header {header:?}"))?;
    let count = shape.iter().try_fold(1usize, |n, &axis| n.checked_mul(axis)).ok_or_else(cut)?;
    let fortran = header.contains("'fortran_order': True");
    if header.contains("'<f4'") {
        array(data, &shape, count, fortran, f32::from_le_bytes).map(Tensor::F32)
    } else if header.contains("'<f8'") {
        array(data, &shape, count, fortran, f64::from_le_bytes).map(Tensor::F64)
    } else if header.contains("'<i8'") {
        array(data, &shape, count, fortran, i64::from_le_bytes).map(Tensor::I64)
    } else {
        Err(format!("expected '<f4', '<f8' or '<i8', found the header {header:?}"))
    }
}

/// The numbers in the brackets behind `'shape':`.
fn shape_of(header: &str) -> Option<Vec<usize>> {
    let (_, rest) = header.split_once("'shape':")?;
    let (inside, _) = rest.split_once('(')?.1.split_once(')')?;
    inside.split(',').map(str::trim).filter(|n| !n.is_empty()).map(|n| n.parse().ok()).collect()
}

fn array<T: Copy, const N: usize>(
    data: &[u8],
    shape: &[usize],
    count: usize,
    fortran: bool,
    le: fn([u8; N]) -> T,
) -> std::result::Result<ArrayD<T>, String> {
    if count.checked_mul(N) != Some(data.len()) {
        return Err(format!(
            "expected {count} numbers of {N} bytes for the shape {shape:?}, found {} bytes",
            data.len()
        ));
    }
    let numbers = data.as_chunks::<N>().0.iter().map(|&bytes| le(bytes)).collect();
    let wrong = |e: ndarray::ShapeError| e.to_string();
    if fortran {
        let reversed: Vec<usize> = shape.iter().rev().copied().collect();
        let array = ArrayD::from_shape_vec(IxDyn(&reversed), numbers).map_err(wrong)?;
        return Ok(array.reversed_axes());
    }
    ArrayD::from_shape_vec(IxDyn(shape), numbers).map_err(wrong)
}

/// Writes images as a `.npy` file in PyTorch's order of axes, unclipped and unrounded.
///
/// # Shapes
/// `images` is (n, h, w, c); the file holds float32 of shape (n, c, h, w).
///
/// # Errors
/// If the file cannot be written.
pub fn write_images(images: ArrayView4<f32>, path: &Path) -> Result<()> {
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
        write_images(images.view(), &path).unwrap();
        let bytes = std::fs::read(&path).unwrap();
        let header = String::from_utf8_lossy(&bytes[10..128]);
        assert!(header.starts_with("{'descr': '<f4', 'fortran_order': False, 'shape': (2, 5, 3, 4), } "), "{header}");
        assert_eq!(sha256(&bytes), "f25f19e7de801d26662c0ef8e930146044b65580cd9042bd53d532287540da3c");
    }

    fn file(header: &str, data: &[u8]) -> Vec<u8> {
        let mut bytes = b"\x93NUMPY\x01\x00".to_vec();
        bytes.extend((header.len() as u16).to_le_bytes());
        bytes.extend(header.as_bytes());
        bytes.extend(data);
        bytes
    }

    #[test]
    fn npy_in_c_and_in_fortran_order_is_the_same_array() {
        let of = |order: &str, numbers: [f32; 6]| {
            let header = format!("{{'descr': '<f4', 'fortran_order': {order}, 'shape': (2, 3), }}\n");
            let data: Vec<u8> = numbers.iter().flat_map(|x| x.to_le_bytes()).collect();
            decode(&file(&header, &data)).expect("a file").to_f64()
        };
        let c = of("False", [1.0, 2.0, 3.0, 4.0, 5.0, 6.0]);
        assert_eq!(c, of("True", [1.0, 4.0, 2.0, 5.0, 3.0, 6.0]));
        assert_eq!(c[[1, 0]], 4.0);
    }

    #[test]
    fn npy_that_is_cut_off_or_of_another_type_is_refused() {
        let header = "{'descr': '<f4', 'fortran_order': False, 'shape': (2,), }\n";
        assert!(decode(&file(header, &[0; 8])).is_ok());
        for bytes in
            [file(header, &[0; 7]), file(header, &[0; 9]), vec![0x93], file(&header.replace("f4", "f2"), &[0; 4])]
        {
            assert!(decode(&bytes).is_err());
        }
    }
}
