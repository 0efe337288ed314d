//! Some rows and columns of the left side of a product, C (+)= A · B.

use std::marker::PhantomData;

/// Rows and columns of a matrix whose rows lie `stride` numbers apart: the part of C that one task writes.
///
/// Parts side by side have their rows between those of each other, which slices cannot say.
#[derive(Debug)]
pub struct Rectangle<'c, F> {
    first: *mut F,
    stride: usize,
    rows: usize,
    columns: usize,
    memory: PhantomData<&'c mut [F]>,
}

// SAFETY: it stands for a `&mut [F]` in which nothing else reads or writes its rows and columns.
#[allow(unsafe_code)]
unsafe impl<F: Send> Send for Rectangle<'_, F> {}

impl<'c, F> Rectangle<'c, F> {
    /// A matrix whose row i is `c[i * stride..][..columns]`.
    ///
    /// # Panics
    /// If `c` is too short for it, or the rows overlap.
    pub fn new(c: &'c mut [F], stride: usize, rows: usize, columns: usize) -> Self {
        let end = |last: usize| last.checked_mul(stride)?.checked_add(columns);
        let inside = rows.checked_sub(1).is_none_or(|last| end(last).is_some_and(|end| end <= c.len()));
        let fits = columns <= stride && inside;
        assert!(fits, "product: C is too short for {rows} x {columns}");
        Rectangle { first: c.as_mut_ptr(), stride, rows, columns, memory: PhantomData }
    }

    /// Rows and columns.
    pub fn shape(&self) -> (usize, usize) {
        (self.rows, self.columns)
    }

    /// The same numbers, for as long as `self` is borrowed.
    pub fn again(&mut self) -> Rectangle<'_, F> {
        Rectangle { memory: PhantomData, ..*self }
    }

    /// The first `rows` rows, and those below.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn split_rows(self, rows: usize) -> (Self, Self) {
        assert!(rows <= self.rows);
        let below = self.first.wrapping_add(rows * self.stride);
        (Rectangle { rows, ..self }, Rectangle { first: below, rows: self.rows - rows, ..self })
    }

    /// The first `columns` columns, and those to the right.
    ///
    /// # Panics
    /// If there are fewer.
    pub fn split_columns(self, columns: usize) -> (Self, Self) {
        assert!(columns <= self.columns);
        let right = self.first.wrapping_add(columns);
        (Rectangle { columns, ..self }, Rectangle { first: right, columns: self.columns - columns, ..self })
    }

    /// All rows, so many at a time, the last part perhaps shorter.
    pub fn by_rows(mut self, rows: usize) -> Vec<Self> {
        let mut parts = Vec::with_capacity(self.rows.div_ceil(rows));
        while self.rows > rows {
            let (part, rest) = self.split_rows(rows);
            parts.push(part);
            self = rest;
        }
        parts.push(self);
        parts
    }

    /// All columns, so many at a time, the last part perhaps narrower.
    pub fn by_columns(mut self, columns: usize) -> Vec<Self> {
        let mut parts = Vec::with_capacity(self.columns.div_ceil(columns));
        while self.columns > columns {
            let (part, rest) = self.split_columns(columns);
            parts.push(part);
            self = rest;
        }
        parts.push(self);
        parts
    }

    /// Row i of these columns.
    ///
    /// # Panics
    /// If there is none.
    #[inline(always)]
    pub fn row(&mut self, i: usize) -> &mut [F] {
        assert!(i < self.rows);
        // SAFETY: `new` has seen that row i of the whole matrix lies in its memory, and a part has no more rows and columns than
        // the whole. No other part has any of these numbers, since a split gives each to one side; and no other row of
        // this one is borrowed, since `self` is.
        #[allow(unsafe_code)]
        unsafe {
            std::slice::from_raw_parts_mut(self.first.add(i * self.stride), self.columns)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_the_numbers_of_their_rows_and_columns() {
        let mut c = [0; 3 * 7 + 5];
        let whole = Rectangle::new(&mut c, 7, 4, 5);
        let (top, bottom) = whole.split_rows(1);
        let (left, right) = bottom.split_columns(2);
        let parts = [(top, 1, 5), (left, 2, 2), (right, 3, 3)];
        std::thread::scope(|scope| {
            for (mut part, name, columns) in parts {
                scope.spawn(move || {
                    (0..if name == 1 { 1 } else { 3 }).for_each(|i| {
                        assert_eq!(part.row(i).len(), columns);
                        part.row(i).iter_mut().for_each(|c| *c += name);
                    });
                });
            }
        });
        let rows: Vec<&[i32]> = c.chunks(7).collect();
        assert_eq!(rows[0], [1, 1, 1, 1, 1, 0, 0]);
        assert_eq!(rows[1..3], [[2, 2, 3, 3, 3, 0, 0]; 2]);
        assert_eq!(rows[3], [2, 2, 3, 3, 3]);
    }

    #[test]
    #[should_panic(expected = "too short")]
    fn rectangle_in_too_few_numbers_panics() {
        Rectangle::new(&mut [0; 3 * 7 + 4], 7, 4, 5);
    }

    #[test]
    #[should_panic]
    fn row_below_the_last_panics() {
        Rectangle::new(&mut [0; 14], 7, 2, 7).split_rows(1).0.row(1);
    }
}
