//! What an image costs in bits, as an SVG file: one column in which all parts stand on one another, and the steps nearest to the
//! image beside it.

use std::path::Path;

use plotters::chart::ChartBuilder;
use plotters::coord::Shift;
use plotters::prelude::*;

use super::panel::Drawn;
use crate::{Result, atomic};

/// From the image outwards. Told apart by the colour-blind, too.
const COLORS: [RGBColor; 6] = [
    RGBColor(213, 94, 0),
    RGBColor(20, 80, 140),
    RGBColor(86, 140, 190),
    RGBColor(160, 196, 226),
    RGBColor(210, 224, 236),
    RGBColor(120, 120, 120),
];
const INK: RGBColor = RGBColor(40, 40, 40);
const RULE: RGBColor = RGBColor(225, 225, 225);

/// A part of a column.
#[derive(Clone, Debug, PartialEq)]
pub struct Part {
    /// What it is: "decoder", "t 2..10", "prior".
    pub name: String,
    /// Bits per dimension, 0 or above.
    pub bits: f64,
}

/// Plots the parts of a whole, from the image outwards, and the single terms of the times nearest to it: (t, bits).
///
/// # Errors
/// If the file cannot be written.
///
/// # Panics
/// If there are more than six parts.
pub fn cost_of_an_image(title: &str, parts: &[Part], nearest: &[(usize, f64)], path: &Path) -> Result<()> {
    assert!(parts.len() <= COLORS.len(), "plot: {} parts, more than {}", parts.len(), COLORS.len());
    let mut svg = String::new();
    let mut draw = || {
        let area = SVGBackend::with_string(&mut svg, (900, 460)).into_drawing_area();
        area.fill(&WHITE)?;
        let (left, right) = area.titled(title, ("sans-serif", 22).into_font().color(&INK))?.split_horizontally(400);
        stacked(&left, parts)?;
        bars(&right, nearest)?;
        area.present()
    };
    draw().expect("drawing into a string, which takes everything");
    atomic::write(path, svg.as_bytes())
}

fn stacked<B: DrawingBackend>(area: &DrawingArea<B, Shift>, parts: &[Part]) -> Drawn<B> {
    let total: f64 = parts.iter().map(|part| part.bits).sum();
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .y_label_area_size(70)
        .x_label_area_size(50)
        .build_cartesian_2d(0.0..4.0, 0.0..above(total))?;
    chart
        .configure_mesh()
        .disable_x_axis()
        .y_desc("bits per dimension")
        .label_style(("sans-serif", 16).into_font().color(&INK))
        .axis_desc_style(("sans-serif", 18).into_font().color(&INK))
        .axis_style(INK)
        .bold_line_style(RULE)
        .light_line_style(TRANSPARENT)
        .disable_x_mesh()
        .draw()?;
    let mut from = 0.0;
    let mut lowest = f64::NEG_INFINITY; // of the next label, so that thin parts do not write over one another
    for (part, color) in parts.iter().zip(COLORS) {
        let to = from + part.bits;
        chart.draw_series([Rectangle::new([(0.3, from), (1.3, to)], color.filled())])?;
        let middle = (0.5 * (from + to)).max(lowest);
        let text = format!("{}  {:.4}", part.name, part.bits);
        chart.draw_series([Text::new(text, (1.45, middle), ("sans-serif", 16).into_font().color(&INK))])?;
        (from, lowest) = (to, middle + 0.06 * above(total));
    }
    Ok(())
}

fn bars<B: DrawingBackend>(area: &DrawingArea<B, Shift>, nearest: &[(usize, f64)]) -> Drawn<B> {
    let highest = nearest.iter().map(|&(_, bits)| bits).fold(0.0, f64::max);
    let mut chart = ChartBuilder::on(area)
        .margin(12)
        .margin_right(24)
        .y_label_area_size(70)
        .x_label_area_size(50)
        .build_cartesian_2d(0.0..nearest.len() as f64, 0.0..above(highest))?;
    let name = |x: &f64| nearest.get(*x as usize).map_or(String::new(), |(t, _)| t.to_string());
    chart
        .configure_mesh()
        .x_labels(0)
        .x_desc("timestep t")
        .y_desc("bits per dimension of one step")
        .label_style(("sans-serif", 16).into_font().color(&INK))
        .axis_desc_style(("sans-serif", 18).into_font().color(&INK))
        .axis_style(INK)
        .bold_line_style(RULE)
        .light_line_style(TRANSPARENT)
        .disable_x_mesh()
        .draw()?;
    for (i, &(_, bits)) in nearest.iter().enumerate() {
        let (x, color) = (i as f64, COLORS[usize::from(i > 0)]);
        chart.draw_series([Rectangle::new([(x + 0.15, 0.0), (x + 0.85, bits)], color.filled())])?;
        let text =
            Text::new(name(&x), (x + 0.3, bits + 0.055 * above(highest)), ("sans-serif", 15).into_font().color(&INK));
        chart.draw_series([text])?;
    }
    Ok(())
}

/// The end of an axis on which the highest is this.
fn above(highest: f64) -> f64 {
    if highest > 0.0 { 1.08 * highest } else { 1.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plot_has_a_rectangle_for_each_part_and_time_as_high_as_its_bits() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("bits.svg");
        let part = |name: &str, bits: f64| Part { name: name.into(), bits };
        let parts = [part("decoder", 1.0), part("t 2..10", 2.0), part("prior", 0.0)];
        cost_of_an_image("Bits <of> digits", &parts, &[(1, 1.0), (2, 0.5), (3, 0.25)], &path).unwrap();
        let svg = std::fs::read_to_string(&path).unwrap();
        for label in
            ["Bits &lt;of&gt; digits", "bits per dimension", "decoder  1.0000", "t 2..10  2.0000", "timestep t"]
        {
            assert!(svg.contains(label), "no {label}");
        }
        let heights: Vec<f64> = svg
            .lines()
            .filter(|line| line.starts_with("<rect") && COLORS[..2].iter().any(|c| line.contains(&hex(*c))))
            .map(|line| line.split("height=\"").nth(1).unwrap().split('"').next().unwrap().parse().unwrap())
            .collect();
        assert!(heights.len() == 5, "{heights:?}");
        assert!((heights[1] / heights[0] - 2.0).abs() < 0.05 && (heights[2] / heights[4] - 4.0).abs() < 0.1);
    }

    fn hex(color: RGBColor) -> String {
        format!("#{:02X}{:02X}{:02X}", color.0, color.1, color.2)
    }
}
