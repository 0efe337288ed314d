//! `docs/numerics.md` is held by tests: every rule names some, and those it names exist.

use std::collections::BTreeSet;
use std::path::Path;

const PAGE: &str = include_str!("../../docs/numerics.md");

/// What introduces the tests of a rule.
const HELD_BY: &str = "Held by:";

/// The rules of the page: heading and text.
fn rules() -> Vec<(&'static str, &'static str)> {
    let rules = PAGE.split("\n## ").filter(|section| section.starts_with("Rule "));
    rules.map(|rule| rule.split_once('\n').expect("a heading and a text")).collect()
}

/// The names in backquotes behind `Held by:`.
fn tests_of(rule: &str) -> Vec<&str> {
    let Some((_, named)) = rule.split_once(HELD_BY) else { return Vec::new() };
    named.split('`').skip(1).step_by(2).collect()
}

/// Every function under `#[test]` in a folder of sources.
fn tests_in(folder: &Path, found: &mut BTreeSet<String>) {
    for entry in std::fs::read_dir(folder).expect("a folder of sources") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            tests_in(&path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let source = std::fs::read_to_string(&path).expect("text");
            let tests = source.split("#[test]\n").skip(1).filter_map(|test| test.split_once("fn "));
            found.extend(tests.filter_map(|(_, test)| test.split_once('(')).map(|(name, _)| name.to_owned()));
        }
    }
}

#[test]
fn page_of_the_contract_has_ten_rules_each_held_by_a_test() {
    let rules = rules();
    assert_eq!(rules.len(), 10);
    for (i, (heading, text)) in rules.into_iter().enumerate() {
        assert!(heading.starts_with(&format!("Rule {}. ", i + 1)), "{heading}");
        assert!(!tests_of(text).is_empty(), "{heading}: no test is named behind `{HELD_BY}`");
    }
}

#[test]
fn every_test_that_the_page_of_the_contract_names_exists() {
    let mut found = BTreeSet::new();
    ["src", "tests"]
        .iter()
        .for_each(|folder| tests_in(&Path::new(env!("CARGO_MANIFEST_DIR")).join(folder), &mut found));
    for (heading, text) in rules() {
        let gone: Vec<&str> = tests_of(text).into_iter().filter(|test| !found.contains(*test)).collect();
        assert!(gone.is_empty(), "{heading}: no such tests: {gone:?}");
    }
}
