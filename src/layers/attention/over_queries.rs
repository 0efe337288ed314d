//! dk and dv: products whose sums run over the queries, which come strip by strip.
//!
//! A sum is made of blocks of 256 queries ([`gemm`](crate::numerics::gemm)). To have P and dS of a whole block would be to have
//! them in memory, as they are larger than a cache; so the sum of a block goes on from strip to strip, which changes no bit of
//! it, and joins those of the blocks before when it is whole.

use crate::numerics::Real;
use crate::numerics::buffer_pool::{self, Aligned};
use crate::numerics::gemm::{BLOCK, Epilogue, Matrix, Readable, Rectangle, panel_product_in};
use crate::numerics::instruction_set::every_instruction_set;

/// A gradient of the keys' shape, and the sum of the block that is under way.
pub(super) struct OverQueries<'c, F: Real> {
    total: Rectangle<'c, F>,
    /// None during the first block, whose sum is the total, and for a type that adds one number after another.
    block: Option<Aligned<F>>,
}

impl<'c, F: Real> OverQueries<'c, F> {
    pub(super) fn new(total: Rectangle<'c, F>) -> Self {
        OverQueries { total, block: None }
    }

    /// Adds Aᵀ B, of the rows from query `first` on; `a` has a row and `b` has a row for each of them, and none is of two blocks.
    pub(super) fn add(&mut self, first: usize, a: Matrix<F>, b: Matrix<F>) {
        let (keys, d) = self.total.shape();
        let begins = first.is_multiple_of(BLOCK);
        if begins && first > 0 && !F::SEQUENTIAL {
            self.end_block();
            self.block = Some(buffer_pool::take(keys * d));
        }
        let start =
            if begins && (first == 0 || self.block.is_some()) { Epilogue::Overwrite } else { Epilogue::Continue };
        let sum = match &mut self.block {
            Some(block) => Rectangle::new(block, d, keys, d),
            None => self.total.again(),
        };
        panel_product_in(a.t(), Readable::new(b).as_right(), sum, start);
    }

    /// The last block is whole.
    pub(super) fn end_block(&mut self) {
        if let Some(block) = self.block.take() {
            add_rows(self.total.again(), &block);
        }
    }
}

every_instruction_set! {
    /// y + x; x has no gaps.
    fn add_rows<F>(y: Rectangle<F>, x: &[F]) {
        let columns = x.len() / y.shape().0;
        let mut y = y;
        for (i, x) in x.chunks(columns).enumerate() {
            for (y, &x) in y.row(i).iter_mut().zip(x) {
                *y += x;
            }
        }
    }
}
