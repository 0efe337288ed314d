//! What people look at: pictures, animations, plots, tables and progress.
//!
//! | module | shows |
//! |---|---|
//! | [`pixels`] | an image in [−1, 1] as a PNG file |
//! | [`npy`] | images as numbers, for NumPy |
//! | [`grid`] | many images side by side |
//! | [`strip`] | the reverse process, one column a moment |
//! | [`animation`] | pictures one after another, as a GIF file |
//! | [`plot`] | the loss by step, the error by timestep, as SVG files |
//! | [`table`] | metrics in aligned columns of text |
//! | [`progress`] | how far a long run has come |
//!
//! Nothing here flows back into a computed value, so times and platform functions are allowed.

pub mod animation;
pub mod breakdown;
pub mod grid;
pub mod npy;
pub mod pixels;
#[allow(clippy::disallowed_methods)] // a point's place in a plot is for the eye; no computed value depends on it
pub mod plot;
pub mod progress;
pub mod strip;
pub mod table;

mod glyphs;
#[allow(clippy::disallowed_methods)] // a point's place in a plot is for the eye; no computed value depends on it
mod panel;

pub use pixels::Picture;
