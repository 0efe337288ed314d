//! What a template can ask for beside its words: numbers of the record, texts of it, pieces of the program.

use minijinja::{Environment, Error, ErrorKind};
use serde_json::Value;

use crate::lesson::excerpt::excerpt;

/// Gives templates `num(key, style)`, `word(key)` and `source(path, start)`.
pub(super) fn add_to(environment: &mut Environment, record: Value) {
    let of = record.clone();
    environment.add_function("num", move |key: String, style: String| {
        let value = number(&of, &key)?;
        let text = styled(value, &style).ok_or_else(|| fault(format!("no style {style} for numbers")))?;
        Ok::<_, Error>(format!("<data data-key=\"{key}\" value=\"{value}\">{text}</data>"))
    });
    environment.add_function("word", move |key: String| match at(&record, &key) {
        Some(Value::String(text)) => Ok(escaped(text)),
        _ => Err(fault(format!("no text {key} in the record"))),
    });
    environment.add_function("source", |path: String, start: String| {
        let found = excerpt(&path, &start).ok_or_else(|| fault(format!("no `{start}` in {path}")))?;
        let text = escaped(&found.text);
        Ok::<_, Error>(format!(
            "<figure class=\"source\"><figcaption>The program: <code>{path}</code></figcaption>\
             <pre tabindex=\"0\"><code>{text}</code></pre></figure>"
        ))
    });
}

fn fault(what: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, what)
}

/// What stands at `a.b.2.c`.
fn at<'a>(record: &'a Value, key: &str) -> Option<&'a Value> {
    key.split('.').try_fold(record, |value, part| match value {
        Value::Array(list) => list.get(part.parse::<usize>().ok()?),
        other => other.get(part),
    })
}

fn number<'a>(record: &'a Value, key: &str) -> Result<&'a serde_json::Number, Error> {
    match at(record, key) {
        Some(Value::Number(number)) => Ok(number),
        _ => Err(fault(format!("no number {key} in the record"))),
    }
}

/// `5`: five decimals; `,`: thousands apart; `%1`: a percentage of one decimal; `e2`: a power of ten behind two decimals.
fn styled(number: &serde_json::Number, style: &str) -> Option<String> {
    let value = number.as_f64()?;
    let text = match style.split_at_checked(1)? {
        (",", "") => grouped(&format!("{value:.0}")),
        ("%", decimals) => format!("{:.*}\u{a0}%", decimals.parse().ok()?, 100.0 * value),
        ("e", decimals) => {
            let text = format!("{:.*e}", decimals.parse().ok()?, value);
            let (digits, power) = text.split_once('e')?;
            format!("{digits}·10<sup>{}</sup>", power.replace('-', "−"))
        }
        _ => format!("{:.*}", style.parse().ok()?, value),
    };
    Some(text.replace("-", "−"))
}

/// Groups of three digits, thin spaces between them.
fn grouped(digits: &str) -> String {
    let first = digits.len() % 3;
    let mut groups: Vec<&str> = (first..digits.len()).step_by(3).map(|at| &digits[at..at + 3]).collect();
    if first > 0 {
        groups.insert(0, &digits[..first]);
    }
    groups.join("\u{202f}")
}

/// Text as HTML.
pub(super) fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_in_their_style_and_kept_as_they_are() {
        let of = |number: f64, style: &str| styled(&serde_json::Number::from_f64(number).expect("finite"), style);
        let shown = [(0.109_687, "5"), (-0.5, "1"), (687_473.0, ","), (0.012_35, "%1"), (1.5e-7, "e1")];
        let texts = shown.map(|(number, style)| of(number, style).expect("a style"));
        assert_eq!(texts, ["0.10969", "−0.5", "687\u{202f}473", "1.2\u{a0}%", "1.5·10<sup>−7</sup>"]);
        assert_eq!(of(1.0, "x"), None);
    }
}
