//! LaTeX in the words of a chapter, as MathML.

use math_core::{LatexToMathML, MathCoreConfig, MathDisplay};

/// The text with everything between `\(` and `\)` (in a line) or `\[` and `\]` (a line of its own) as MathML.
///
/// # Errors
/// A formula that is not closed, or that the converter does not know, with the formula.
pub(super) fn to_mathml(text: &str) -> Result<String, String> {
    let converter = LatexToMathML::new(MathCoreConfig::default()).map_err(|_| "the converter does not start")?;
    let mut out = String::with_capacity(2 * text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\\']) {
        let (before, from) = rest.split_at(at);
        out += before;
        let (close, display) = match from.as_bytes().get(1) {
            Some(b'(') => ("\\)", MathDisplay::Inline),
            Some(b'[') => ("\\]", MathDisplay::Block),
            _ => {
                out.push('\\');
                rest = &from[1..];
                continue;
            }
        };
        let end =
            from.find(close).ok_or_else(|| format!("a formula is not closed: {}", &from[..from.len().min(60)]))?;
        let latex = &from[2..end];
        out += &converter.convert_with_local_counter(latex, display).map_err(|error| format!("{latex}: {}", error))?;
        rest = &from[end + 2..];
    }
    Ok(accents_above(&(out + rest)))
}

/// Accents as marks above, hats and tildes as characters of their own width: without a font for mathematics browsers put what is
/// called an accent, or a character that combines, anywhere, some into the letter.
fn accents_above(mathml: &str) -> String {
    mathml.replace("<mover accent=\"true\">", "<mover>").replace('\u{302}', "^").replace('\u{303}', "~")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formulas_become_mathml_and_other_text_stays() {
        let html = to_mathml(r"so \(\sqrt{\bar\alpha_t}\) is a\b").expect("a formula");
        assert!(
            html.starts_with("so <math") && html.contains("<msqrt>") && html.ends_with(r"</math> is a\b"),
            "{html}"
        );
        assert!(html.contains("<mover><mi>α</mi>") && !html.contains("accent="), "{html}");
        let html = to_mathml(r"\(\hat x\tilde\beta\)").expect("a formula");
        assert!(html.contains(">^</mo></mover>") && html.contains(">~</mo></mover>"), "{html}");
        assert!(to_mathml(r"\(x").is_err() && to_mathml(r"\(\nosuchcommand\)").is_err());
    }
}
