//! One file of a picture, decoded and brought to the model's shape: PNG, JPEG, WebP, BMP, GIF or TIFF.
//!
//! The order is: decode to 8 bits, turn upright (EXIF orientation), convert grey and colour, then [`fit`] to
//! the size.
//!
//! - Colour to grey is (19595·R + 38470·G + 7471·B + 32768) div 65536, which is ITU-R BT.601's luma and Pillow's
//!   `convert("L")`. Grey to colour repeats the value three times.
//! - An alpha channel is accepted only where every pixel is opaque: what lies behind others is not in the file.
//! - More than 8 bits a channel are refused: halving the levels is left to the one who knows what they mean.
//! - CMYK becomes colour as (255 − ink)(255 − black)/255, which is Pillow's `convert("RGB")` up to rounding. In a JPEG the
//!   numbers are taken to be 255 − ink, as Adobe writes them and Pillow reads them.
//! - Gamma and colour profiles are ignored, as training code in general does.
//! - Of an animation the first frame is taken, of a TIFF with several pages the first page.
//!
//! All but JPEG are decoded to the same bytes everywhere. JPEG, alone or in a TIFF, is not promised to be: the standard
//! leaves the rounding of the inverse cosine transform to the decoder, and this one's depends on the processor. Where
//! bits matter, use PNG.

use std::io::Cursor;
use std::path::Path;

use image::codecs::{gif::GifDecoder, png::PngDecoder, webp::WebPDecoder};
use image::metadata::Orientation;
use image::{AnimationDecoder, DynamicImage, ImageDecoder, ImageError, ImageFormat, ImageReader, Limits};

use super::Shape;
use super::fit::fit;
use crate::{Error, Result};

const FORMATS: [ImageFormat; 6] =
    [ImageFormat::Png, ImageFormat::Jpeg, ImageFormat::WebP, ImageFormat::Bmp, ImageFormat::Gif, ImageFormat::Tiff];

/// The longest side that is decoded, in pixels: the most that a JPEG can have.
const LONGEST_SIDE: u32 = 65_535;

/// The most memory that one decoded picture may take, in bytes.
const LARGEST_PICTURE: u64 = 512 << 20;

/// No byte of a PNG, JPEG or BMP stands for more pixels than this: eight of one bit in each of the 1032 bytes that
/// deflate can make of one. (A JPEG needs a bit for 64 pixels, a run in a BMP a byte for 128.) A WebP, GIF or TIFF of one
/// colour may have more, up to [`ON_TRUST`].
const PIXELS_PER_BYTE: u64 = 8 * 1032;

/// The most memory for a picture of which only its header says that it is so large, in bytes.
const ON_TRUST: u64 = 64 << 20;

/// One picture of the model's shape.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Picture {
    /// (h, w, c) of the shape, channels last, 0 to 255.
    pub pixels: Vec<u8>,
    /// Height and width of the picture in the file, upright.
    pub size: (usize, usize),
    /// Whether the file has other frames or pages, which are not read.
    pub has_more_frames: bool,
    /// Whether it has colours, which an image with one channel does not show.
    pub is_colour: bool,
}

/// The picture in the bytes of a file, whatever its name; `path` is for messages.
///
/// # Errors
/// If the file is damaged or of another format, a side exceeds 65,535 pixels or the picture 512 MiB, it has more than 8
/// bits a channel, or a pixel is not opaque.
pub fn decode(file: &[u8], path: &Path, shape: Shape) -> Result<Picture> {
    let (image, has_more_frames) = decode_upright(file, path)?;
    let (height, width, color) = (image.height() as usize, image.width() as usize, image.color());
    let channels = usize::from(color.channel_count());
    let bits = 8 * usize::from(color.bytes_per_pixel()) / channels;
    if bits != 8 {
        let remedy = "convert it, for example: magick in.png -depth 8 out.png";
        return Err(Error::file(path, format!("expected 8 bits a channel, found {bits}"), remedy));
    }
    let pixels = image.into_bytes();
    let is_transparent = |pixel: &[u8]| color.has_alpha() && pixel.last() < Some(&255);
    if let Some(i) = pixels.chunks_exact(channels).position(is_transparent) {
        let (row, column) = (i / width, i % width);
        let problem = format!("expected opaque pixels, found a transparent one in row {row}, column {column} (from 0)");
        let remedy = "flatten it on a background, for example: magick in.png -background white -flatten out.png";
        return Err(Error::file(path, problem, remedy));
    }
    let pixels = fit(&convert(&pixels, channels, shape.channels), height, width, shape);
    Ok(Picture { pixels, size: (height, width), has_more_frames, is_colour: channels >= 3 })
}

/// The first frame, and whether there are others.
fn decode_upright(file: &[u8], path: &Path) -> Result<(DynamicImage, bool)> {
    let damaged =
        |problem: String| Error::file(path, problem, "it is damaged: replace it, or take it out of the folder");
    let format = match image::guess_format(file) {
        Ok(format) if FORMATS.contains(&format) => format,
        _ => return Err(damaged("expected a PNG, JPEG, WebP, BMP, GIF or TIFF file, found other first bytes".into())),
    };
    if format == ImageFormat::Jpeg && !ends_after_its_last_scan(file) {
        return Err(damaged("expected JPEG's end marker after the picture, found a file that was cut off".into()));
    }

    let mut limits = Limits::default();
    limits.max_image_width = Some(LONGEST_SIDE);
    limits.max_image_height = Some(LONGEST_SIDE);
    limits.max_alloc = Some(LARGEST_PICTURE);
    let unreadable = |cause: ImageError| match cause {
        ImageError::Limits(_) => {
            let problem = format!("expected sides up to {LONGEST_SIDE} pixels and 512 MiB decoded, found more");
            Error::file(path, problem, "shrink the picture")
        }
        ImageError::Unsupported(cause) => {
            let problem = format!("expected a picture of a kind that can be read, found another: {cause}");
            Error::file(path, problem, "convert it, for example: magick in.tif out.png")
        }
        cause => damaged(format!("expected a picture, cannot decode it: {cause}")),
    };

    let mut reader = ImageReader::with_format(Cursor::new(file), format);
    reader.limits(limits.clone());
    let mut decoder = reader.into_decoder().map_err(unreadable)?;
    limits.reserve(decoder.total_bytes()).map_err(unreadable)?;
    let (width, height) = decoder.dimensions();
    let may_be_packed_tightly = matches!(format, ImageFormat::WebP | ImageFormat::Gif | ImageFormat::Tiff);
    let is_likely = u64::from(width) * u64::from(height) <= PIXELS_PER_BYTE * file.len() as u64;
    if !(is_likely || may_be_packed_tightly && decoder.total_bytes() <= ON_TRUST) {
        return Err(damaged(format!("expected {height}x{width} pixels, found only {} bytes", file.len())));
    }
    let orientation = decoder.orientation().unwrap_or(Orientation::NoTransforms);
    let mut image = DynamicImage::from_decoder(decoder).map_err(unreadable)?;
    image.apply_orientation(orientation);
    Ok((image, has_more_frames(file, format, limits)))
}

/// Whether a file whose first frame is in order has others.
fn has_more_frames(file: &[u8], format: ImageFormat, limits: Limits) -> bool {
    let file = Cursor::new(file);
    match format {
        ImageFormat::Png => PngDecoder::with_limits(file, limits).and_then(|png| png.is_apng()).unwrap_or(false),
        ImageFormat::WebP => WebPDecoder::new(file).is_ok_and(|webp| webp.has_animation()),
        ImageFormat::Gif => GifDecoder::new(file).is_ok_and(|mut gif| {
            gif.set_limits(limits).is_ok() && gif.into_frames().nth(1).is_some_and(|frame| frame.is_ok())
        }),
        ImageFormat::Tiff => has_next_page(file.into_inner()).unwrap_or(false),
        _ => false,
    }
}

/// Whether the first directory of a TIFF file leads to another. A directory is a count (u16), as many entries of 12
/// bytes, and the offset of the next directory, 0 after the last.
fn has_next_page(tiff: &[u8]) -> Option<bool> {
    let little_endian = tiff.starts_with(b"II");
    let number = |at: usize, length: usize| -> Option<usize> {
        let digits = tiff.get(at..at.checked_add(length)?)?.iter();
        let push = |number: usize, digit: &u8| number << 8 | usize::from(*digit);
        Some(if little_endian { digits.rev().fold(0, push) } else { digits.fold(0, push) })
    };
    let first = number(4, 4)?;
    let entries = number(first, 2)?;
    Some(number(first + 2 + 12 * entries, 4)? != 0)
}

/// Whether an end-of-image marker follows the last start-of-scan marker. The decoder makes up what is missing of a
/// JPEG; inside a scan a byte FF is always followed by 00 or a restart marker, so the pair FF D9 is no accident.
fn ends_after_its_last_scan(jpeg: &[u8]) -> bool {
    let last = |marker: [u8; 2]| jpeg.windows(2).rposition(|pair| pair == marker);
    last([0xff, 0xda]) < last([0xff, 0xd9])
}

/// Converts pixels of 1 (grey), 2 (grey, alpha), 3 (colour) or 4 (colour, alpha) channels to `wanted`, 1 or 3.
fn convert(pixels: &[u8], channels: usize, wanted: usize) -> Vec<u8> {
    let pixels = pixels.chunks_exact(channels);
    match (channels >= 3, wanted) {
        (true, 1) => pixels.map(|p| luma([p[0], p[1], p[2]])).collect(),
        (true, _) => pixels.flat_map(|p| [p[0], p[1], p[2]]).collect(),
        (false, 1) => pixels.map(|p| p[0]).collect(),
        (false, _) => pixels.flat_map(|p| [p[0]; 3]).collect(),
    }
}

fn luma([r, g, b]: [u8; 3]) -> u8 {
    ((19_595 * u32::from(r) + 38_470 * u32::from(g) + 7_471 * u32::from(b) + 32_768) / 65_536) as u8
}

#[cfg(test)]
mod tests {
    use image::codecs::png::PngEncoder;
    use image::{ExtendedColorType, GrayAlphaImage, ImageBuffer, ImageEncoder, Luma, RgbImage, Rgba, RgbaImage};
    use proptest::prelude::*;

    use super::*;

    const SHAPE: Shape = Shape { height: 3, width: 5, channels: 3 };

    fn encode(image: impl Into<DynamicImage>, format: ImageFormat) -> Vec<u8> {
        let mut file = Cursor::new(Vec::new());
        image.into().write_to(&mut file, format).expect("writing to memory");
        file.into_inner()
    }

    /// 3 rows, 5 columns; every byte different.
    fn rgb() -> RgbImage {
        RgbImage::from_raw(5, 3, (0..45).map(|x| 5 * x).collect()).expect("45 bytes")
    }

    /// Gives every whole chunk of a PNG file the checksum of what it holds now.
    fn repair_checksums(png: &mut [u8]) {
        let mut rest = png.get_mut(8..).unwrap_or_default();
        while let Some((&length, _)) = rest.split_first_chunk::<4>() {
            let end = 8 + u32::from_be_bytes(length) as usize;
            if rest.len() < end + 4 {
                return;
            }
            let mut crc = flate2::Crc::new();
            crc.update(&rest[4..end]);
            rest[end..end + 4].copy_from_slice(&crc.sum().to_be_bytes());
            rest = &mut rest[end + 4..];
        }
    }

    fn pixels(file: &[u8], shape: Shape) -> Vec<u8> {
        decode(file, Path::new("p"), shape).expect("valid").pixels
    }

    fn problem(file: &[u8]) -> String {
        decode(file, Path::new("p.png"), SHAPE).expect_err("not decodable").to_string()
    }

    #[test]
    fn png_of_the_wanted_shape_is_returned_byte_for_byte() {
        let file = encode(rgb(), ImageFormat::Png);
        assert_eq!(pixels(&file, SHAPE), rgb().into_raw());
    }

    #[test]
    fn exif_orientation_turns_the_picture_upright() {
        // TIFF, little-endian, one entry: tag 0112 (orientation), a u16, 6 (the top is on the right).
        let exif = b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0\x01\0\0\0\x06\0\0\0\0\0\0\0";
        let mut file = Vec::new();
        let mut encoder = PngEncoder::new(&mut file);
        encoder.set_exif_metadata(exif.to_vec()).expect("PNG holds EXIF");
        encoder.write_image(&[1, 2, 3, 4, 5, 6], 3, 2, ExtendedColorType::L8).expect("writing to memory");
        let upright = Shape { height: 3, width: 2, channels: 1 };
        assert_eq!(pixels(&file, upright), [4, 1, 5, 2, 6, 3]);
    }

    #[test]
    fn luma_of_greys_is_the_grey_and_weights_are_those_of_bt_601() {
        assert!((0..=255).all(|x| luma([x; 3]) == x));
        assert_eq!([luma([255, 0, 0]), luma([0, 255, 0]), luma([0, 0, 255])], [76, 150, 29]);
    }

    #[test]
    fn grey_and_colour_are_converted_both_ways() {
        let grey = ImageBuffer::<Luma<u8>, _>::from_raw(2, 1, vec![10, 200]).expect("2 bytes");
        let shape = Shape { height: 1, width: 2, channels: 3 };
        let file = encode(grey, ImageFormat::Png);
        assert_eq!(pixels(&file, shape), [10, 10, 10, 200, 200, 200]);
        let colour = encode(rgb(), ImageFormat::Png);
        let grey = pixels(&colour, Shape { channels: 1, ..SHAPE });
        assert_eq!((grey.len(), grey[0]), (15, luma([0, 5, 10])));
    }

    #[test]
    fn alpha_is_accepted_only_where_every_pixel_is_opaque() {
        let mut image = RgbaImage::from_pixel(5, 3, Rgba([1, 2, 3, 255]));
        let file = encode(image.clone(), ImageFormat::Png);
        assert_eq!(pixels(&file, SHAPE), [1, 2, 3].repeat(15));
        image.put_pixel(4, 1, Rgba([1, 2, 3, 254]));
        assert!(problem(&encode(image, ImageFormat::Png)).contains("row 1, column 4"));
        assert!(problem(&encode(GrayAlphaImage::new(5, 3), ImageFormat::Png)).contains("row 0, column 0"));
    }

    #[test]
    fn png_of_16_bits_is_an_error_with_a_remedy() {
        let deep = ImageBuffer::<Luma<u16>, _>::from_raw(2, 1, vec![300, 60_000]).expect("2 numbers");
        let error = problem(&encode(deep, ImageFormat::Png));
        assert!(error.contains("p.png: expected 8 bits a channel, found 16") && error.contains("-depth 8"), "{error}");
    }

    #[test]
    fn a_file_cut_anywhere_is_an_error_or_the_whole_picture() {
        for format in FORMATS {
            let file = encode(rgb(), format);
            let whole = decode(&file, Path::new("p"), SHAPE).expect("valid");
            for length in 0..file.len() {
                match decode(&file[..length], Path::new("p"), SHAPE) {
                    Ok(picture) => assert!(
                        picture.pixels == whole.pixels && length >= file.len() - 16,
                        "{format:?} cut at {length}"
                    ),
                    Err(error) => assert!(error.to_string().contains("damaged"), "{error}"),
                }
            }
        }
    }

    #[test]
    fn a_header_that_claims_more_than_the_file_can_hold_is_an_error() {
        let mut file = encode(rgb(), ImageFormat::Png);
        for (width, height, found) in
            [(1 << 17, 1, "found more"), (65_535, 65_535, "found more"), (9_999, 9_999, "found only")]
        {
            file[16..24].copy_from_slice(&[u32::to_be_bytes(width), u32::to_be_bytes(height)].concat());
            repair_checksums(&mut file);
            let error = problem(&file);
            assert!(error.contains(found), "{error}");
        }
    }

    #[test]
    fn a_small_file_of_a_kind_that_packs_tightly_is_not_believed_to_be_huge() {
        // Claims of 8192 x 8192 pixels or more: 256 MiB and more.
        let mut gif = encode(rgb(), ImageFormat::Gif);
        gif[6..10].copy_from_slice(&[0, 32, 0, 32]);
        let mut webp = encode(rgb(), ImageFormat::WebP);
        webp[21..25].copy_from_slice(&(8191u32 | 8191 << 14).to_le_bytes());
        let mut tiff = encode(rgb(), ImageFormat::Tiff);
        let directory = u32::from_le_bytes(tiff[4..8].try_into().expect("4 bytes")) as usize;
        for entry in tiff[directory + 2..].chunks_exact_mut(12) {
            let tag = u16::from_le_bytes([entry[0], entry[1]]);
            if tag == 256 || tag == 257 {
                entry[8..12].copy_from_slice(&8192u32.to_le_bytes());
            }
        }
        for file in [gif, webp, tiff] {
            let error = problem(&file);
            assert!(error.contains("expected 8192x8192 pixels, found only"), "{error}");
        }
    }

    proptest! {
        #[test]
        fn decode_of_any_bytes_does_not_panic(tail in prop::collection::vec(any::<u8>(), 0..300), kind in 0..8usize) {
            let heads: [&[u8]; 8] = [
                b"", b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"RIFF\0\0\0\0WEBPVP8 ", b"RIFF\0\0\0\0WEBPVP8L", b"BM", b"GIF89a", b"II*\0\x08\0\0\0",
            ];
            let _ = decode(&[heads[kind], &tail].concat(), Path::new("random"), SHAPE);
        }

        #[test]
        fn decode_of_a_mutated_file_does_not_panic(
            changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..5),
            format in prop::sample::select(&FORMATS[..]),
            repaired: bool,
        ) {
            let mut file = encode(rgb(), format);
            for (at, byte) in changes {
                let at = at.index(file.len());
                file[at] = byte;
            }
            if format == ImageFormat::Png && repaired {
                repair_checksums(&mut file);
            }
            let _ = decode(&file, Path::new("mutated"), SHAPE);
        }
    }
}
