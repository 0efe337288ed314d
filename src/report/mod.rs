//! What people look at: pictures, animations, plots and tables.
//!
//! | module | shows |
//! |---|---|
//! | [`pixels`] | an image in [−1, 1] as a PNG file |
//! | [`grid`](grid()) | many images side by side |
//! | `sheet` | images in rows and columns that have names (feature `plot`) |
//! | `film` | what is kept of a reverse process for a strip or an animation (feature `plot`) |
//! | [`animation`] | pictures one after another, as a GIF file |
//! | `plot` | the loss by step, the error by timestep, as SVG files (feature `plot`) |
//! | `cost` | what an image costs in bits, as an SVG file (feature `plot`) |
//! | [`table`] | metrics in aligned columns of text |
//!
//! Nothing here flows back into a computed value, so times and platform functions are allowed.

pub mod animation;
pub mod breakdown;
#[cfg(feature = "plot")]
#[allow(clippy::disallowed_methods)] // as for `plot`
pub mod cost;
#[cfg(feature = "plot")]
pub mod film;
mod grid;
pub mod pixels;
#[cfg(feature = "plot")]
#[allow(clippy::disallowed_methods)] // a point's place in a plot is for the eye; no computed value depends on it
pub mod plot;
#[cfg(feature = "plot")]
pub mod sheet;
pub mod table;

#[cfg(feature = "plot")]
#[allow(clippy::disallowed_methods)] // a point's place in a plot is for the eye; no computed value depends on it
mod panel;

pub use grid::{grid, near_square};
pub use pixels::Picture;
