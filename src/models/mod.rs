//! Denoisers: networks that look at x_t and t and predict what is noise in it.

pub mod unet;

pub use unet::{UNet, UNetConfig};
