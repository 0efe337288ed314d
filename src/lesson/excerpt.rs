//! Pieces of the program's own source, cut out when the page is made, so that the page cannot show what the program no longer does.

/// The files that the page quotes, by their path in the repository.
macro_rules! sources {
    ($($path:literal)*) => {
        &[$((concat!("src/", $path), include_str!(concat!("../", $path)))),*]
    };
}

const SOURCES: &[(&str, &str)] = sources! {
    "denoise/estimate.rs"
    "denoise/guided.rs"
    "diffusion/forward.rs"
    "diffusion/likelihood/mod.rs"
    "diffusion/loss.rs"
    "diffusion/posterior.rs"
    "diffusion/prediction.rs"
    "diffusion/schedule/mod.rs"
    "evaluate/noise.rs"
    "layers/attention.rs"
    "layers/conv2d.rs"
    "models/dit/block.rs"
    "models/unet/mod.rs"
    "sample/ddim.rs"
    "sample/ddpm.rs"
    "sample/term.rs"
};

/// A piece of a source file.
#[derive(Clone, Debug, PartialEq)]
pub struct Excerpt {
    /// `src/diffusion/posterior.rs`.
    pub path: &'static str,
    /// Its lines, without the indentation that all share.
    pub text: String,
}

/// The item of `path` whose first line contains `start`, to the line that closes what it opens. `None` if there is none.
pub fn excerpt(path: &str, start: &str) -> Option<Excerpt> {
    let &(path, source) = SOURCES.iter().find(|(name, _)| *name == path)?;
    let lines: Vec<&str> = source.lines().collect();
    let first = lines.iter().position(|line| line.contains(start) && !line.trim_start().starts_with("//"))?;
    let indent = |line: &str| line.len() - line.trim_start().len();
    let depth = indent(lines[first]);
    // Formatted code closes an item at the indentation of its first line; one line that ends it is an item by itself.
    let ends = |line: &str| line.ends_with([';', '}']) || line.ends_with("},") || line.ends_with("),");
    let closes = |line: &str| line.trim_start().starts_with(['}', ']', ')']) && !line.ends_with('{');
    let length = if ends(lines[first]) {
        1
    } else {
        2 + lines[first + 1..].iter().position(|line| indent(line) == depth && closes(line))?
    };
    let text: Vec<&str> = lines[first..first + length].iter().map(|line| line.get(depth..).unwrap_or("")).collect();
    Some(Excerpt { path, text: text.join("\n") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn excerpt_is_an_item_from_its_first_line_to_the_brace_that_closes_it() {
        let found = excerpt("src/diffusion/posterior.rs", "pub fn between(").expect("a function");
        assert!(found.text.starts_with("pub fn between(") && found.text.ends_with("\n}"), "{}", found.text);
        assert!(found.text.contains("beta_tilde: (1.0 - alpha_bar_prev) * share"), "{}", found.text);
        assert_eq!(excerpt("src/sample/ddpm.rs", r#"Term::new("x_0_hat""#).expect("a line").text.lines().count(), 1);
        let terms = excerpt("src/sample/ddpm.rs", "let terms = [").expect("a list");
        assert!(terms.text.ends_with("\n];") && terms.text.lines().count() == 5, "{}", terms.text);
        assert_eq!((excerpt("src/diffusion/posterior.rs", "fn nowhere"), excerpt("src/none.rs", "fn")), (None, None));
    }
}
