//! JSON as Python writes it: with `NaN`, `Infinity` and `-Infinity`, and perhaps with a byte order mark.

use std::borrow::Cow;
use std::path::Path;

use serde_json::{Map, Value};

use super::lfs;
use crate::{Error, Result, atomic};

/// Reads a file that holds one JSON object.
///
/// # Errors
/// If it cannot be read, or as [`object`].
pub(super) fn read_object(path: &Path) -> Result<Map<String, Value>> {
    object(&atomic::read_text(path)?, path)
}

/// The fields of a JSON object; `path` is for messages.
///
/// # Errors
/// Text that is something else.
pub(super) fn object(text: &str, path: &Path) -> Result<Map<String, Value>> {
    lfs::refuse_pointer(text.as_bytes(), path)?;
    serde_json::from_str(&plain(text)).map_err(|cause| {
        Error::file(
            path,
            format!("expected a JSON object: {cause}"),
            "copy or download it again, or save it again with diffusers",
        )
    })
}

/// The text without its mark and with the numbers that JSON does not have as strings, which no field for a number takes.
fn plain(text: &str) -> Cow<'_, str> {
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !text.contains("NaN") && !text.contains("Infinity") {
        return text.into();
    }
    let (mut plain, mut rest, mut quoted) = (String::with_capacity(text.len() + 16), text, false);
    while let Some(next) = rest.chars().next() {
        let number = ["NaN", "Infinity", "-Infinity"].into_iter().find(|word| !quoted && rest.starts_with(word));
        let length = match (number, next) {
            (Some(word), _) => word.len(),
            (None, '\\') if quoted => rest.char_indices().nth(2).map_or(rest.len(), |(end, _)| end), // and what it escapes
            _ => next.len_utf8(),
        };
        quoted ^= next == '"';
        match number {
            Some(word) => plain.extend(["\"", word, "\""]),
            None => plain.push_str(&rest[..length]),
        }
        rest = &rest[length..];
    }
    plain.into()
}

/// At most 80 characters of something from a file.
pub(super) fn excerpt(text: &str) -> String {
    match text.char_indices().nth(80) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    #[test]
    fn text_of_python_is_read_and_strings_in_it_stay() {
        let text = "\u{feff}{\"a\": -Infinity, \"b\": [NaN, Infinity], \"NaN\": \"-Infinity\", \"c\": \"\\\"NaN\\\\\", \"d\": NaN}";
        let expected =
            json!({"a": "-Infinity", "b": ["NaN", "Infinity"], "NaN": "-Infinity", "c": "\"NaN\\", "d": "NaN"});
        assert_eq!(Value::Object(object(text, Path::new("c")).unwrap()), expected);
    }

    #[test]
    fn text_that_is_no_object_is_refused_by_file() {
        for text in ["", "[NaN]", "{\"a\": -NaN}", "{\"a\": xInfinity}", "{\"a\": \"NaN", "{\"a\": \"NaN\\", "NaN"] {
            let refusal = object(text, Path::new("x/config.json")).unwrap_err().to_string();
            assert!(refusal.starts_with("x/config.json: expected a JSON object"), "{text}: {refusal}");
        }
        let pointer = object("version https://git-lfs.github.com/spec/v1\n", Path::new("c")).unwrap_err().to_string();
        assert!(pointer.contains("git lfs pull"), "{pointer}");
    }

    proptest! {
        #[test]
        fn text_that_is_json_means_what_it_meant(words in prop::collection::vec("NaN|Infinity|-Infinity|[\"\\\\{},: a]{0,4}", 0..6)) {
            let value = json!({"a": words.concat(), words.concat(): words});
            prop_assert_eq!(Value::Object(object(&value.to_string(), Path::new("c")).unwrap()), value);
        }

        #[test]
        fn text_of_any_kind_does_not_panic(words in prop::collection::vec("NaN|Infinity|-|[\"\\\\{},: é]{0,4}", 0..9)) {
            let _ = object(&words.concat(), Path::new("c"));
        }
    }
}
