//! A folder of results beside a kit: every case judged, and whether the backend passes.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Serialize;

use super::case::{Case, Tensor, read_tensors};
use super::judge::{Judgement, SINGLE, Scope, Verdict, judge};
use super::kit::{Entry, Manifest};
use super::probes::orders_of;
use crate::npy;

use crate::{Error, Result, atomic};

/// What a check found.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// The cases in the order of the kit.
    pub cases: Vec<Checked>,
    /// How many cases have each verdict.
    pub totals: BTreeMap<Verdict, usize>,
    /// Orders of addition that all probes agree with.
    pub orders: Option<Vec<String>>,
    /// Pass, fail, or incomplete.
    pub outcome: Outcome,
    /// Why it is incomplete.
    pub incomplete: Vec<String>,
}

/// A case and what is said of it.
#[derive(Clone, Debug, Serialize)]
pub struct Checked {
    /// LEVEL/NAME.
    pub id: String,
    /// What is said of it.
    #[serde(flatten)]
    pub judgement: Judgement,
}

/// The end of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Every case is right.
    Pass,
    /// A case is wrong.
    Fail,
    /// No case is wrong, and not every case was seen.
    Incomplete,
}

/// Which cases are looked at; all of them if a list is empty.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// These levels.
    pub levels: Vec<String>,
    /// These operations.
    pub ops: Vec<String>,
    /// All results, or those of inference: then what trains is left out.
    pub scope: Scope,
}

impl Selection {
    fn has(&self, entry: &Entry) -> bool {
        let named = |list: &[String], name: &str| list.is_empty() || list.iter().any(|wanted| wanted == name);
        let trains = ["gradients", "optimizer", "training"].contains(&entry.level.as_str());
        let asked = self.scope == Scope::Whole || !trains;
        asked && named(&self.levels, &entry.level) && named(&self.ops, &entry.op)
    }

    /// Refuses a name that the kit does not have.
    fn check(&self, manifest: &Manifest) -> Result<()> {
        let ops: std::collections::BTreeSet<&str> = manifest.cases.iter().map(|case| case.op.as_str()).collect();
        if let Some(level) = self.levels.iter().find(|level| !manifest.levels.contains_key(*level)) {
            let known: Vec<&str> = manifest.levels.keys().map(String::as_str).collect();
            return Err(Error::value("--level", known.join(", "), level));
        }
        match self.ops.iter().find(|op| !ops.contains(op.as_str())) {
            Some(op) => Err(Error::value("--op", ops.into_iter().collect::<Vec<_>>().join(", "), op)),
            None => Ok(()),
        }
    }
}

/// Judges the results of a backend, calling `progress` with each case.
///
/// # Errors
/// A kit that is damaged, a folder of results that is not there, a file of results that cannot be read.
pub fn check(kit: &Path, results: &Path, selection: &Selection, mut progress: impl FnMut(&Checked)) -> Result<Report> {
    let manifest = Manifest::read(kit)?;
    selection.check(&manifest)?;
    if !results.is_dir() {
        let remedy = "give the folder in which your backend wrote a file for each case, LEVEL/NAME.safetensors";
        return Err(Error::file(results, "expected a folder of results", remedy));
    }
    let mut cases = Vec::new();
    let mut orders: Option<Vec<String>> = None;
    let mut products = Products::default();
    for entry in manifest.cases.iter().filter(|entry| selection.has(entry)) {
        let case = entry.read(kit)?;
        let judgement = match read_results(results, entry, &case)? {
            Found::Nothing => Judgement::without_results(Verdict::Missing, "no results"),
            Found::Unsupported(reason) => Judgement::without_results(Verdict::Unsupported, reason),
            Found::Results(tensors) => {
                if let Some(output) = tensors.get("output").filter(|_| entry.level == "probes") {
                    let these = orders_of(&case, output);
                    let both = orders.take().map(|before| before.into_iter().filter(|o| these.contains(o)).collect());
                    orders = Some(both.unwrap_or(these));
                }
                judge(&case, &tensors, selection.scope)
            }
        };
        let judgement = products.weigh(&case.op, judgement);
        let checked = Checked { id: entry.id.clone(), judgement };
        progress(&checked);
        cases.push(checked);
    }
    Ok(summary(&manifest, cases, orders))
}

/// The single products of a run so far. What rounds the inputs of its products does so in them, too: where they are right, the
/// same errors in what is made of products are another mistake.
#[derive(Default)]
struct Products {
    judged: usize,
    wrong: bool,
}

impl Products {
    /// So many say that a backend's products are right.
    const ENOUGH: usize = 5;

    fn weigh(&mut self, op: &str, judgement: Judgement) -> Judgement {
        let precision = matches!(judgement.verdict, Verdict::LikeTf32 | Verdict::LikeHalf);
        if SINGLE.contains(&op) {
            self.judged += usize::from(judgement.worst.is_some());
            self.wrong |= judgement.verdict >= Verdict::LikeTf32;
        } else if precision && !self.wrong && self.judged >= Self::ENOUGH {
            return Judgement { verdict: Verdict::Fail, ..judgement };
        }
        judgement
    }
}

fn summary(manifest: &Manifest, cases: Vec<Checked>, orders: Option<Vec<String>>) -> Report {
    let mut totals: BTreeMap<Verdict, usize> = BTreeMap::new();
    for case in &cases {
        *totals.entry(case.judgement.verdict).or_default() += 1;
    }
    let mut incomplete = Vec::new();
    for (level, needs) in &manifest.levels {
        let there = manifest.cases.iter().filter(|case| case.level == *level).count();
        if there < needs.fewest {
            incomplete.push(format!("the kit has {there} cases of level {level}, and should have {}", needs.fewest));
        }
    }
    for verdict in [Verdict::Unsupported, Verdict::Incomplete, Verdict::Missing] {
        if let Some(count) = totals.get(&verdict) {
            incomplete.push(format!("{count} {verdict}"));
        }
    }
    if cases.is_empty() {
        incomplete.push("no case was judged".into());
    }
    let wrong = totals.keys().any(|verdict| *verdict >= Verdict::LikeTf32);
    let outcome = match (wrong, incomplete.is_empty()) {
        (true, _) => Outcome::Fail,
        (false, true) => Outcome::Pass,
        (false, false) => Outcome::Incomplete,
    };
    Report { cases, totals, orders, outcome, incomplete }
}

/// What a backend left for a case.
enum Found {
    Nothing,
    Unsupported(String),
    Results(BTreeMap<String, Tensor>),
}

/// LEVEL/NAME.safetensors, or a folder LEVEL/NAME with a .npy file for each tensor.
fn read_results(results: &Path, entry: &Entry, case: &Case) -> Result<Found> {
    let file = results.join(format!("{}.safetensors", entry.id));
    if file.is_file() {
        let (tensors, metadata) = read_tensors(&atomic::read(&file)?, &file)?;
        return Ok(match metadata.get("unsupported") {
            Some(reason) if tensors.is_empty() => Found::Unsupported(reason.clone()),
            _ => Found::Results(tensors),
        });
    }
    let folder = results.join(&entry.id);
    if !folder.is_dir() {
        return Ok(Found::Nothing);
    }
    let unsupported = folder.join("unsupported");
    if unsupported.is_file() {
        return Ok(Found::Unsupported(atomic::read_text(&unsupported)?.trim().to_string()));
    }
    let mut tensors = BTreeMap::new();
    for name in &case.order {
        let path = folder.join(format!("{name}.npy"));
        if path.is_file() {
            tensors.insert(name.clone(), npy::read(&path)?);
        }
    }
    Ok(if tensors.is_empty() { Found::Nothing } else { Found::Results(tensors) })
}
