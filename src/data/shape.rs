//! How large an image is, and which part of a data set it belongs to.

use std::fmt;

use crate::{Error, Result};

/// The longest side, in pixels, of the images that a model may ask for.
const LONGEST_SIDE: usize = 4096;

/// The size of one image, in pixels and channels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Shape {
    /// Rows, 1 to 4096.
    pub height: usize,
    /// Columns, 1 to 4096.
    pub width: usize,
    /// 1 (grey) or 3 (red, green, blue) where images come from files; 1 to 4096 where a program makes them.
    pub channels: usize,
}

impl Shape {
    /// Numbers in one image: height · width · channels.
    pub fn elements(self) -> usize {
        self.height * self.width * self.channels
    }

    /// Whether images of this shape can be read from files.
    pub(super) fn check(self) -> Result<()> {
        self.check_sides()?;
        if self.channels != 1 && self.channels != 3 {
            return Err(Error::value("image channels", "1 (grey) or 3 (red, green, blue)", self.channels));
        }
        Ok(())
    }

    /// Whether images of this shape, with any number of channels, have pixels that can be counted.
    pub(super) fn check_sides(self) -> Result<()> {
        for (field, side) in [("image height", self.height), ("image width", self.width)] {
            if side == 0 || side > LONGEST_SIDE {
                return Err(Error::value(field, format!("1 to {LONGEST_SIDE} pixels"), side));
            }
        }
        if self.channels == 0 || self.channels > LONGEST_SIDE {
            return Err(Error::value("image channels", format!("1 to {LONGEST_SIDE}"), self.channels));
        }
        Ok(())
    }
}

impl fmt::Display for Shape {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "{}x{}x{}", self.height, self.width, self.channels)
    }
}

/// Which of a data set's images: those to train on, or those kept apart to measure with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Split {
    /// Images the model learns from.
    Train,
    /// Images the model never learns from.
    Validation,
}

impl fmt::Display for Split {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(match self {
            Split::Train => "train",
            Split::Validation => "validation",
        })
    }
}
