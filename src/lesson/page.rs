//! From the record to one HTML file.
//!
//! The words are in `page/chapters`, one template for each chapter: HTML with `{{ num("key", "5") }}` where a number of the
//! record stands, `{{ source("file", "fn name") }}` where the program is quoted, and LaTeX between `\(` and `\)` or `\[` and
//! `\]`, which becomes MathML.

mod math;
mod words;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use minijinja::{Environment, context};
use serde_json::Value;
use sha2::{Digest, Sha256};

use super::Record;
use crate::{Error, Result};

/// A chapter; its anchor is `c` and its number.
struct Chapter {
    number: &'static str,
    title: &'static str,
    question: &'static str,
    template: &'static str,
}

macro_rules! chapters {
    ($($file:literal $number:literal $title:literal $question:literal;)*) => {
        &[$(Chapter {
            number: $number,
            title: $title,
            question: $question,
            template: include_str!(concat!("page/chapters/", $file, ".html")),
        }),*]
    };
}

const CHAPTERS: &[Chapter] = chapters! {
    "00" "0" "Before you begin" "What will I be able to do?";
    "01" "1" "Adding noise" "What is added to a picture?";
    "02" "2" "The schedule" "How fast is it added?";
    "03" "3" "All the noise, or one step of it" "Does the network predict the whole noise or the step's?";
    "04" "4" "One pixel, one step" "Which numbers make one step?";
    "05" "5" "Why not at once?" "If the network sees the picture, why take many steps?";
    "06" "6" "Where the weights come from" "Why these weights?";
    "07" "7" "The chain, and other samplers" "How few steps will do?";
    "08" "8" "How it learns" "How does a network learn this?";
    "09" "9" "A world with known truth" "What is right, where the truth is known?";
    "10" "10" "Inside the network" "What happens between input and answer?";
    "11" "11" "Is it good?" "Which numbers say that a model is good?";
    "12" "12" "Guidance" "How is a picture asked for?";
    "13" "13" "What is paid in bits" "Which steps cost most?";
    "14" "14" "Exercises" "Can I do it without the program?";
};

/// The scripts, in the order in which the page has them.
const SCRIPTS: &[&str] = &[
    include_str!("page/js/numbers.js"),
    include_str!("page/js/record.js"),
    include_str!("page/js/state.js"),
    include_str!("page/js/pictures.js"),
    include_str!("page/js/widgets.js"),
    include_str!("page/js/plot.js"),
    include_str!("page/js/verify.js"),
    include_str!("page/js/c00_c01.js"),
    include_str!("page/js/c02.js"),
    include_str!("page/js/c03_c04.js"),
    include_str!("page/js/c05.js"),
    include_str!("page/js/c06.js"),
    include_str!("page/js/c07.js"),
    include_str!("page/js/network.js"),
    include_str!("page/js/c08.js"),
    include_str!("page/js/c09.js"),
    include_str!("page/js/c10.js"),
    include_str!("page/js/c13.js"),
    include_str!("page/js/c14.js"),
    include_str!("page/js/start.js"),
];

const STYLE: &str = include_str!("page/style.css");
const PAGE: &str = include_str!("page/page.html");

/// The page of a record, and the record as JSON: what `--json` writes is what the page holds.
///
/// # Errors
/// A template that asks for what the record does not have: a fault of this program, said with the chapter's number.
pub fn render(record: &Record) -> Result<(String, String)> {
    // Within a script element no "<" may end it.
    let json = serde_json::to_string(record).expect("numbers are JSON").replace('<', "\\u003c");
    let value: Value = serde_json::from_str(&json).expect("what was just written");
    let filling = minijinja::Value::from(minijinja::value::Serde(&value));
    let mut environment = Environment::new();
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    words::add_to(&mut environment, value.clone());
    let fault = |place: String, cause: &dyn std::fmt::Display| {
        Error::value(format!("the lesson, {place}"), "a template that the record fills; please report this", cause)
    };
    let mut body = String::new();
    let mut contents = String::new();
    for chapter in CHAPTERS {
        let name = chapter.number;
        let filled = environment
            .render_str(chapter.template, context! { record => filling.clone() })
            .map_err(|error| fault(format!("chapter {name}"), &error))?;
        let filled = math::to_mathml(&filled).map_err(|error| fault(format!("chapter {name}"), &error))?;
        let (title, question) = (chapter.title, chapter.question);
        contents += &format!("<li><a href=\"#c{name}\">{title}</a></li>\n");
        body += &format!(
            "<section id=\"c{name}\" aria-labelledby=\"h{name}\">\n<h2 id=\"h{name}\"><span>{name}</span> {title}</h2>\n\
             <p class=\"question\">{question}</p>\n{filled}</section>\n"
        );
    }
    let script = SCRIPTS.concat();
    let hash = |text: &str| BASE64_STANDARD.encode(Sha256::digest(text.as_bytes()));
    let mut crc = flate2::Crc::new();
    crc.update(json.as_bytes());
    let (style_hash, script_hash) = (hash(STYLE), hash(&script));
    let head = context! {
        style => STYLE, script, style_hash, script_hash, contents, body, json => json.clone(), crc => crc.sum(),
    };
    let page = environment.render_str(PAGE, head).map_err(|error| fault("its frame".into(), &error))?;
    Ok((page, json))
}
