//! A kit as a folder: models, cases, manifest, hashes, and what runs them from Python and C++.

use std::collections::BTreeMap;
use std::path::Path;

use super::manifest::{MANIFEST, SUMS};
use super::{Draft, Entry, LEVELS, Manifest, drafts, halves, networks, transformer};
use crate::digest::sha256;
use crate::golden::format::Format;
use crate::golden::mutants::add_mutant;
use crate::golden::oracle::complete;
use crate::golden::probes::add_orders;
use crate::{Error, Result, atomic};

/// The runner for Python with what pip installs it by, and the reader and writer for C++: they live in the kit of this
/// repository.
const RUNNERS: [(&str, &str); 3] = [
    ("golden.py", include_str!("../../../data/golden/golden.py")),
    ("pyproject.toml", include_str!("../../../data/golden/pyproject.toml")),
    ("golden.hpp", include_str!("../../../data/golden/golden.hpp")),
];

/// Writes the kit, all of it or some levels, calling `progress` with each case. A kit that stands there is replaced.
///
/// # Errors
/// A folder with something else in it; whatever the operating system refuses; levels that a kit of the format does not have.
pub fn export(folder: &Path, levels: &[String], format: Format, mut progress: impl FnMut(&Entry)) -> Result<Manifest> {
    let drafts = drafts(levels, format);
    if drafts.is_empty() {
        let known: Vec<&str> =
            LEVELS.into_iter().filter(|&level| !super::drafts(&[level.into()], format).is_empty()).collect();
        let expected = format!("a level that a kit of {} has: {}", format.name(), known.join(", "));
        return Err(Error::value("--level", expected, levels.join(", ")));
    }
    clear(folder)?;
    let mut files = BTreeMap::new();
    let mut write = |name: String, bytes: &[u8]| -> Result<()> {
        let path = folder.join(&name);
        // What is there already is not touched: a program that was built with it need not be built again.
        if !std::fs::read(&path).is_ok_and(|there| there == bytes) {
            atomic::write(&path, bytes)?;
        }
        files.insert(name, sha256(bytes));
        Ok(())
    };
    for (name, text) in RUNNERS {
        write(name.into(), text.as_bytes())?;
    }
    let needs = |name: &str| {
        let end = format!("models/{name}");
        drafts
            .iter()
            .any(|d| d.case.attributes.get("model").and_then(|m| m.as_str()).is_some_and(|m| m.ends_with(&end)))
    };
    let models = networks::models().into_iter().chain(transformer::models());
    for model in models.filter(|model| needs(model.name)) {
        write(format!("models/{}/config.json", model.name), model.config.as_bytes())?;
        write(format!("models/{}/diffusion_pytorch_model.safetensors", model.name), &halves::weights(&model, format))?;
    }
    let mut cases = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let entry = write_case(folder, draft)?;
        progress(&entry);
        cases.push(entry);
    }
    let manifest = Manifest::new(cases, files, format);
    let text = manifest.to_json();
    atomic::write(&folder.join(MANIFEST), text.as_bytes())?;
    let hashes = manifest.files.iter().map(|(name, hash)| (name.as_str(), hash.as_str()));
    let hashes = hashes.chain(manifest.cases.iter().map(|case| (case.path.as_str(), case.sha256.as_str())));
    let of_manifest = sha256(text.as_bytes());
    let sums: String =
        hashes.chain([(MANIFEST, of_manifest.as_str())]).map(|(name, hash)| format!("{hash}  {name}\n")).collect();
    atomic::write(&folder.join(SUMS), sums.as_bytes())?;
    Ok(manifest)
}

fn write_case(folder: &Path, draft: Draft) -> Result<Entry> {
    let path = format!("cases/{}/{}.safetensors", draft.level, draft.name);
    let mut case = draft.case;
    case.path = folder.join(&path);
    // A model is found from the folder of the case, which has to be there first.
    let of_level = folder.join("cases").join(draft.level);
    std::fs::create_dir_all(&of_level).map_err(|e| Error::io(&of_level, "create", &e))?;
    complete(&mut case, None)?;
    for mutant in &draft.mutants {
        add_mutant(&mut case, mutant)?;
    }
    if case.format != Format::F32 {
        halves::keep_named(&mut case, &draft.mutants);
    }
    if draft.probe {
        add_orders(&mut case);
    }
    let bytes = case.to_bytes();
    atomic::write(&case.path, &bytes)?;
    Ok(Entry {
        id: format!("{}/{}", draft.level, draft.name),
        level: draft.level.into(),
        op: case.op,
        attributes: case.attributes,
        path,
        sha256: sha256(&bytes),
    })
}

/// Makes room for a kit: removes the cases and models of another one, and refuses a folder of anything else.
fn clear(folder: &Path) -> Result<()> {
    let Ok(mut entries) = std::fs::read_dir(folder) else { return Ok(()) };
    if !folder.join(MANIFEST).is_file() {
        return match entries.next() {
            None => Ok(()),
            Some(_) => {
                let problem = "expected an empty folder or a golden kit, found other files";
                Err(Error::file(folder, problem, "give another folder"))
            }
        };
    }
    for part in ["cases", "models"] {
        let path = folder.join(part);
        if path.is_dir() {
            std::fs::remove_dir_all(&path).map_err(|e| Error::io(&path, "remove", &e))?;
        }
    }
    Ok(())
}
