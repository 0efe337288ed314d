//! Formulas with their numbers, in 80 columns.

use serde::Serialize;

use crate::trace::Place;

/// The columns of a terminal that everybody has.
const COLUMNS: usize = 80;

/// A formula, the same with its numbers, and the result.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Line {
    /// What is computed: `sigma_600`.
    pub name: String,
    /// From what: `sqrt(1 - alpha_bar_600)`; empty where it is given.
    pub formula: String,
    /// The formula with its numbers put in; empty where it has none.
    pub numbers: String,
    /// What came out.
    pub value: f64,
    /// What to know beside, in words.
    pub note: String,
}

impl Line {
    /// A line of a name, a formula and its numbers.
    pub(super) fn new(
        name: impl Into<String>,
        formula: impl Into<String>,
        numbers: impl Into<String>,
        value: f64,
    ) -> Self {
        Line { name: name.into(), formula: formula.into(), numbers: numbers.into(), value, note: String::new() }
    }

    /// The same line with a word beside.
    pub(super) fn with_note(self, note: impl Into<String>) -> Self {
        Line { note: note.into(), ..self }
    }
}

/// What is computed at one place of the source.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Section {
    /// What it is about.
    pub title: String,
    /// File under `src/` and function: `sample/ddpm.rs: ddpm`.
    pub place: String,
    /// Where it is from: "Ho et al. 2020, Eq. 7".
    pub source: String,
    /// Its lines.
    pub lines: Vec<Line>,
}

/// A number as it is printed: what f32 holds with as few digits as say which f32 it is, another with nine.
pub(super) fn number(x: f64) -> String {
    let scientific = if f64::from(x as f32) == x { format!("{:e}", x as f32) } else { format!("{x:.8e}") };
    let (digits, exponent) = scientific.split_once('e').expect("a number in scientific notation");
    match exponent.parse::<i32>() {
        Ok(exponent @ -4..7) => {
            let digits = digits.bytes().filter(u8::is_ascii_digit).count() as i32;
            format!("{x:.*}", (digits - 1 - exponent).max(0) as usize)
        }
        _ => scientific,
    }
}

/// The sections in 80 columns.
pub fn text(sections: &[Section]) -> String {
    let mut text = String::new();
    for (i, section) in sections.iter().enumerate() {
        let title = format!("{}  {}", i + 1, section.title);
        let gap = COLUMNS.saturating_sub(title.chars().count() + section.place.chars().count()).max(2);
        text += &format!("\n{title}{}{}\n", " ".repeat(gap), section.place);
        if !section.source.is_empty() {
            text += &wrapped(&section.source, 3);
        }
        section.lines.iter().for_each(|line| text += &printed(line));
    }
    text
}

/// One line of text where it fits, else the formula, and its numbers below.
fn printed(Line { name, formula, numbers, value, note }: &Line) -> String {
    let value = number(*value);
    let parts = [name, formula, numbers].into_iter().filter(|part| !part.is_empty());
    let long = parts.map(|part| format!("{part} = ")).collect::<String>() + &value;
    let mut text = if long.chars().count() + 3 <= COLUMNS || numbers.is_empty() {
        wrapped(&long, 3)
    } else {
        let below = 4 + name.chars().count().min(20);
        let result = format!("= {numbers} = {value}");
        let result = match below + result.chars().count() <= COLUMNS {
            true => wrapped(&result, below),
            false => wrapped(&format!("= {numbers}"), below) + &wrapped(&format!("= {value}"), below),
        };
        wrapped(&format!("{name} = {formula}"), 3) + &result
    };
    if !note.is_empty() {
        text += &wrapped(note, 6);
    }
    text
}

/// Words in lines of at most 80 columns.
fn wrapped(words: &str, indent: usize) -> String {
    let [first, others] = [indent, indent + 2].map(|columns| " ".repeat(columns));
    let options = textwrap::Options::new(COLUMNS).initial_indent(&first).subsequent_indent(&others);
    textwrap::fill(words, options) + "\n"
}

/// `600` of a whole time, else as it is.
pub(super) fn name_of(place: &Place) -> String {
    if place.t.fract() == 0.0 { format!("{}", place.t) } else { format!("{:.3}", place.t) }
}
