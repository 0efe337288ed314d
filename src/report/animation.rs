//! Pictures one after another.

use std::path::Path;

use image::codecs::gif::{GifEncoder, Repeat};
use image::{Delay, DynamicImage, Frame, GrayImage, RgbImage};

use super::Picture;
use crate::atomic;
use crate::{Error, Result};

/// The search for a palette, 1 (best) to 30 (fastest), where a frame has more than 256 colours.
const PALETTE_SPEED: i32 = 10;

/// Writes `frames` as a GIF file that repeats for ever, each shown for `milliseconds`, the last for `last_milliseconds`
/// (both in steps of 10 ms).
///
/// A frame of at most 256 colours, so every grey one, is kept exactly; others are drawn in the best 256 found.
///
/// # Errors
/// If the frames are wider or higher than the 65,535 pixels of the format, or the file cannot be written.
///
/// # Panics
/// If there are no frames, or they differ in size.
pub fn save_gif(frames: &[Picture], milliseconds: u32, last_milliseconds: u32, path: &Path) -> Result<()> {
    let first = frames.first().expect("animation: no frames");
    let mut bytes = Vec::new();
    let mut encoder = GifEncoder::new_with_speed(&mut bytes, PALETTE_SPEED);
    let mut encode = || {
        encoder.set_repeat(Repeat::Infinite)?;
        for (i, frame) in frames.iter().enumerate() {
            assert_eq!((frame.width, frame.height), (first.width, first.height), "animation: frames differ in size");
            let shown = if i + 1 == frames.len() { last_milliseconds } else { milliseconds };
            let delay = Delay::from_numer_denom_ms(shown, 1);
            encoder.encode_frame(Frame::from_parts(rgba(frame), 0, 0, delay))?;
        }
        Ok(())
    };
    encode().map_err(|cause: image::ImageError| {
        let problem = format!("cannot hold {} x {} pixels: {cause}", first.width, first.height);
        Error::file(path, problem, "draw fewer images, or at a smaller scale")
    })?;
    drop(encoder); // writes the trailer
    atomic::write(path, &bytes)
}

/// The picture as the encoder wants it.
fn rgba(picture: &Picture) -> image::RgbaImage {
    let (width, height, pixels) = (picture.width as u32, picture.height as u32, picture.pixels.clone());
    let image = if picture.channels == 1 {
        GrayImage::from_raw(width, height, pixels).map(DynamicImage::from)
    } else {
        RgbImage::from_raw(width, height, pixels).map(DynamicImage::from)
    };
    image.expect("as many bytes as width x height x channels").into_rgba8()
}

#[cfg(test)]
mod tests {
    use super::*;
    use image::AnimationDecoder;
    use image::codecs::gif::GifDecoder;
    use std::io::Cursor;

    fn frames(channels: usize) -> Vec<Picture> {
        let frame = |i: u8| {
            let mut picture = Picture::filled(5, 3, channels, 10 * i);
            picture.pixel_mut(i as usize, 4).fill(200);
            picture.pixel_mut(2, 1)[channels - 1] = 255;
            picture
        };
        (0..3).map(frame).collect()
    }

    #[test]
    fn gif_read_back_has_the_frames_their_times_and_no_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a.gif");
        for channels in [1, 3] {
            save_gif(&frames(channels), 80, 1500, &path).unwrap();
            let bytes = std::fs::read(&path).unwrap();
            assert!(bytes.windows(16).any(|w| w == b"NETSCAPE2.0\x03\x01\0\0\0"), "no endless loop");
            let read = GifDecoder::new(Cursor::new(&bytes)).unwrap().into_frames().collect_frames().unwrap();
            let milliseconds: Vec<(u32, u32)> = read.iter().map(|frame| frame.delay().numer_denom_ms()).collect();
            assert_eq!(milliseconds, [(80, 1), (80, 1), (1500, 1)]);
            for (read, frame) in read.iter().zip(&frames(channels)) {
                assert_eq!(*read.buffer(), rgba(frame));
            }
        }
    }

    #[test]
    fn gif_wider_than_the_format_fails_and_names_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("wide.gif");
        let message = save_gif(&[Picture::filled(65_536, 1, 1, 0)], 80, 80, &path).unwrap_err().to_string();
        assert!(message.contains(&path.display().to_string()) && message.contains("65536 x 1"), "{message}");
        assert!(!path.exists());
    }

    #[test]
    fn gif_under_a_file_fails_and_names_the_file() {
        let file = tempfile::NamedTempFile::new().unwrap();
        let path = file.path().join("a.gif");
        let message = save_gif(&frames(1), 80, 80, &path).unwrap_err().to_string();
        assert!(message.contains(&path.display().to_string()), "{message}");
    }
}
