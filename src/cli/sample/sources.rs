//! The pictures that `sample --from` edits, and masks.

use std::path::Path;

use ndarray::{Array3, Array4, Axis, concatenate};

use crate::data::picture::{self, Picture};
use crate::data::{self, Shape, Split};
use crate::layers::shaped;
use crate::{Error, Result, atomic};

/// One picture, as it is edited.
pub(super) struct Source {
    /// Shape (1, h, w, c), in [−1, 1].
    pub image: Array4<f32>,
    /// Height and width in its file.
    size: (usize, usize),
}

/// Reads what a flag names: a file, or `DATA:I` for validation image I of a data set. Files of another size or with colours that
/// the model has none for are brought to its shape if `fit` says so, as training does, and refused otherwise.
///
/// # Errors
/// No such file or data set, or one that does not fit.
pub(super) fn read(flag: &str, name: &str, shape: Shape, fit: bool) -> Result<Source> {
    let path = Path::new(name);
    if !path.is_file()
        && let Some((folder, number)) = name.rsplit_once(':')
        && let Ok(number) = number.parse::<usize>()
    {
        let data = data::load(Path::new(folder), Split::Validation, shape)?;
        if number >= data.len() {
            let expected = format!("an image 0 to {} of {}", data.len() - 1, data.name());
            return Err(Error::value(flag, expected, number));
        }
        return Ok(Source { image: data.batch(&[number]), size: (shape.height, shape.width) });
    }
    if path.is_dir() {
        let expected = format!("a picture file, or {name}:I for validation image I of a data set");
        return Err(Error::value(flag, expected, format!("the folder {name}")));
    }
    let picture = decode(path, shape)?;
    if !fit {
        check_size(flag, path, &picture, shape)?;
        if shape.channels == 1 && picture.is_colour && !is_grey(path, shape)? {
            let remedy = "--fit takes it as grey";
            return Err(Error::file(path, "expected a grey picture, which the model draws, found colours", remedy));
        }
    }
    let image = picture.pixels.iter().map(|&byte| data::dataset::from_byte(byte)).collect();
    Ok(Source { image: shaped((1, shape.height, shape.width, shape.channels), image), size: picture.size })
}

fn decode(path: &Path, shape: Shape) -> Result<Picture> {
    picture::decode(&atomic::read(path)?, path, shape)
}

fn check_size(flag: &str, path: &Path, picture: &Picture, shape: Shape) -> Result<()> {
    let (height, width) = picture.size;
    if (height, width) == (shape.height, shape.width) {
        return Ok(());
    }
    let problem = format!(
        "{flag}: expected {}x{} pixels (height x width), which the model draws, found {height}x{width}",
        shape.height, shape.width
    );
    Err(Error::file(path, problem, "--fit crops it in the middle and resizes it, as training does"))
}

/// Whether the colours of a file are all grey.
fn is_grey(path: &Path, shape: Shape) -> Result<bool> {
    let colours = decode(path, Shape { channels: 3, ..shape })?;
    Ok(colours.pixels.chunks_exact(3).all(|pixel| pixel[0] == pixel[1] && pixel[1] == pixel[2]))
}

/// Where pictures are kept: true where the mask is black. White, and all that is at least as light as the middle, is drawn anew.
///
/// # Errors
/// A file that is no picture, or of another size than a source; a mask that keeps nothing or everything.
pub(super) fn mask(path: &Path, sources: &[Source], shape: Shape, fit: bool) -> Result<Array3<bool>> {
    let picture = decode(path, Shape { channels: 1, ..shape })?;
    if let Some(source) = sources.iter().find(|source| source.size != picture.size) {
        let [(h, w), (found_h, found_w)] = [source.size, picture.size];
        let problem = format!(
            "--mask: expected {h}x{w} pixels (height x width), the size of the picture, found {found_h}x{found_w}"
        );
        return Err(Error::file(path, problem, "give a mask of the picture's own size"));
    }
    if !fit {
        check_size("--mask", path, &picture, shape)?;
    }
    let kept = Array3::from_shape_fn((shape.height, shape.width, shape.channels), |(y, x, _)| {
        picture.pixels[y * shape.width + x] < 128
    });
    let found = match kept.iter().filter(|kept| **kept).count() {
        0 => "white alone: nothing is kept; without --mask the whole picture is drawn from --strength",
        n if n == kept.len() => "black alone: nothing is drawn anew",
        _ => return Ok(kept),
    };
    Err(Error::file(
        path,
        format!("expected black where the picture is kept and white elsewhere, found {found}"),
        "paint both",
    ))
}

/// All of them in one array, each `times` times in turn.
pub(super) fn repeated(sources: &[Source], times: usize) -> Array4<f32> {
    let views: Vec<_> = sources.iter().flat_map(|source| std::iter::repeat_n(source.image.view(), times)).collect();
    concatenate(Axis(0), &views).expect("pictures of one shape")
}
