//! One panel of a plot: lines over two axes, drawn in a plain style.

use std::ops::Range;

use plotters::chart::{ChartBuilder, SeriesLabelPosition};
use plotters::coord::ranged1d::{BoldPoints, DefaultFormatting, KeyPointHint, Ranged};
use plotters::coord::types::RangedCoordf64;
use plotters::prelude::*;

/// A panel, drawn by [`Panel::draw`].
pub(super) struct Panel<'a> {
    pub title: &'a str,
    pub x_label: &'a str,
    pub x_scale: Scale,
    pub y_label: &'a str,
    pub y_scale: Scale,
    pub legend: SeriesLabelPosition,
    pub lines: Vec<Line<'a>>,
}

/// A line through points (x, y), the later ones of a panel over the earlier ones.
pub(super) struct Line<'a> {
    pub name: &'a str,
    pub points: Vec<(f64, f64)>,
    pub color: RGBColor,
    /// In pixels, as are the radii of the dots on the points; 0 for none.
    pub width: u32,
    pub dots: u32,
}

/// How a value becomes a place on an axis.
#[derive(Clone, Copy, PartialEq)]
pub(super) enum Scale {
    Linear,
    /// By the decimal logarithm; what is not above 0 has no place.
    Log,
}

const INK: RGBColor = RGBColor(40, 40, 40);
/// Steps to both sides of a single one, so that the ticks are whole numbers.
const LEAST_HALF_RANGE_X: f64 = 5.0;
const RULE: RGBColor = RGBColor(225, 225, 225);

impl Panel<'_> {
    /// Draws the panel on `area`. Points that are not finite, or have no place on the axis, are left out.
    pub fn draw<B: DrawingBackend>(&self, area: &DrawingArea<B, plotters::coord::Shift>) -> Drawn<B> {
        let placed: Vec<Vec<(f64, f64)>> = self.lines.iter().map(|line| self.place(&line.points)).collect();
        let least_x = if self.x_scale == Scale::Log { Scale::Log.least_half_range() } else { LEAST_HALF_RANGE_X };
        let range_x = padded(placed.iter().flatten().map(|p| p.0), 0.01, least_x);
        let ticks_x = self.x_scale.ticks(range_x.clone(), 11);
        let range_y = padded(placed.iter().flatten().map(|p| p.1), 0.06, self.y_scale.least_half_range());
        let ticks = self.y_scale.ticks(range_y.clone(), 7);

        let mut chart = ChartBuilder::on(area)
            .caption(self.title, ("sans-serif", 22).into_font().color(&INK))
            .margin(12)
            .margin_right(24)
            .x_label_area_size(50)
            .y_label_area_size(76)
            .build_cartesian_2d(
                Axis { places: range_x.into(), ticks: ticks_x },
                Axis { places: range_y.into(), ticks },
            )?;
        chart
            .configure_mesh()
            .x_desc(self.x_label)
            .y_desc(self.y_label)
            .x_label_formatter(&|&x| tick_label(self.x_scale.value(x)))
            .y_label_formatter(&|&y| tick_label(self.y_scale.value(y)))
            .label_style(("sans-serif", 16).into_font().color(&INK))
            .axis_desc_style(("sans-serif", 18).into_font().color(&INK))
            .axis_style(INK)
            .bold_line_style(RULE)
            .light_line_style(TRANSPARENT)
            .draw()?;
        for (line, points) in self.lines.iter().zip(&placed) {
            let style = line.color.stroke_width(line.width);
            let (color, dots) = (line.color, line.dots);
            let series = if points.len() > 1 { points.as_slice() } else { &[] };
            chart.draw_series(LineSeries::new(series.iter().copied(), style))?.label(line.name).legend(
                move |(x, y)| {
                    EmptyElement::at((x, y))
                        + PathElement::new(vec![(0, 0), (24, 0)], style)
                        + Circle::new((12, 0), dots, color.filled())
                },
            );
            // A single point has no line to be seen by.
            let dots = if points.len() == 1 { dots.max(3) } else { dots };
            if dots > 0 {
                chart.draw_series(points.iter().map(|&point| Circle::new(point, dots, color.filled())))?;
            }
        }
        chart
            .configure_series_labels()
            .position(self.legend.clone())
            .margin(12)
            .legend_area_size(32)
            .label_font(("sans-serif", 16).into_font().color(&INK))
            .background_style(WHITE.mix(0.85))
            .border_style(RULE)
            .draw()
    }

    fn place(&self, points: &[(f64, f64)]) -> Vec<(f64, f64)> {
        let placed = points.iter().map(|&(x, y)| (self.x_scale.place(x), self.y_scale.place(y)));
        placed.filter(|(x, y)| x.is_finite() && y.is_finite()).collect()
    }
}

/// What drawing on `B` gives.
pub(super) type Drawn<B> = Result<(), DrawingAreaErrorKind<<B as DrawingBackend>::ErrorType>>;

impl Scale {
    fn place(self, value: f64) -> f64 {
        match self {
            Scale::Linear => value,
            Scale::Log => value.log10(),
        }
    }

    fn value(self, place: f64) -> f64 {
        match self {
            Scale::Linear => place,
            Scale::Log => 10f64.powf(place),
        }
    }

    /// Half of the shortest range of places that an axis shows: a logarithmic one spans a factor of 2.
    fn least_half_range(self) -> f64 {
        match self {
            Scale::Linear => 0.05,
            Scale::Log => 0.5 * 2f64.log10(),
        }
    }

    /// The places in `range` that carry a label, at most `count` of a linear axis, about five of a logarithmic one.
    fn ticks(self, range: Range<f64>, count: usize) -> Vec<f64> {
        match self {
            Scale::Linear => RangedCoordf64::from(range).key_points(BoldPoints(count)),
            Scale::Log => {
                let decades = range.start.floor() as i32..=range.end.floor() as i32;
                let ticks = |mantissas: &[f64]| -> Vec<f64> {
                    let all = decades.clone().flat_map(|k| mantissas.iter().map(move |m| k as f64 + m.log10()));
                    all.filter(|place| range.contains(place)).collect()
                };
                [&[1.0][..], &[1.0, 2.0, 5.0]]
                    .iter()
                    .map(|mantissas| ticks(mantissas))
                    .find(|t| t.len() >= 3)
                    .unwrap_or_else(|| ticks(&[1.0, 1.2, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0]))
            }
        }
    }
}

/// An axis of places with ticks of our choice.
struct Axis {
    places: RangedCoordf64,
    ticks: Vec<f64>,
}

impl Ranged for Axis {
    type FormatOption = DefaultFormatting;
    type ValueType = f64;

    fn map(&self, place: &f64, pixels: (i32, i32)) -> i32 {
        self.places.map(place, pixels)
    }

    fn key_points<Hint: KeyPointHint>(&self, _: Hint) -> Vec<f64> {
        self.ticks.clone()
    }

    fn range(&self) -> Range<f64> {
        self.places.range()
    }
}

/// The range of `places` and a `share` of it on both sides, at least `half` to both sides of its middle.
fn padded(places: impl Iterator<Item = f64>, share: f64, half: f64) -> Range<f64> {
    let (low, high) = places.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), p| (low.min(p), high.max(p)));
    if low > high {
        return -half..half; // no places
    }
    let (middle, half) = (0.5 * (low + high), (0.5 * (high - low) * (1.0 + 2.0 * share)).max(half));
    middle - half..middle + half
}

/// The number without the noise of its last digits.
fn tick_label(value: f64) -> String {
    let rounded: f64 = format!("{value:.9e}").parse().expect("a number written as one");
    if rounded != 0.0 && rounded.abs() < 1e-4 { format!("{rounded:e}") } else { rounded.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(low: f64, high: f64) -> Vec<String> {
        let ticks = Scale::Log.ticks(low.log10()..high.log10(), 7);
        ticks.into_iter().map(|place| tick_label(Scale::Log.value(place))).collect()
    }

    #[test]
    fn log_ticks_are_powers_of_ten_or_round_numbers_between_them() {
        assert_eq!(labels(5e-6, 0.3), ["1e-5", "0.0001", "0.001", "0.01", "0.1"]);
        assert_eq!(labels(0.015, 1.2), ["0.02", "0.05", "0.1", "0.2", "0.5", "1"]);
        assert_eq!(labels(0.021, 0.042), ["0.03", "0.04"]);
    }

    #[test]
    fn log_ticks_of_the_shortest_range_are_two_at_least() {
        for i in 0..1000 {
            let low = 0.01 * 10f64.powf(i as f64 / 1000.0);
            assert!(labels(low, 2.0 * low).len() >= 2, "from {low}");
        }
    }

    #[test]
    fn padded_of_one_place_or_none_is_a_range() {
        assert_eq!(padded([3.0, 3.0].into_iter(), 0.1, 0.5), 2.5..3.5);
        assert_eq!(padded([].into_iter(), 0.1, 0.5), -0.5..0.5);
        assert_eq!(padded([0.0, 10.0].into_iter(), 0.1, 0.5), -1.0..11.0);
    }
}
