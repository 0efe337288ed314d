//! MANIFEST.json: what a kit holds, with the hash of every file.

use std::collections::BTreeMap;
use std::path::Path;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::digest::sha256;
use crate::golden::case::Case;
use crate::golden::format::Format;
use crate::numerics::CONTRACT;
use crate::{Error, Result, atomic};

/// The name of the format.
const FORMAT: &str = "ancestral golden kit 1";

/// The file's name.
pub const MANIFEST: &str = "MANIFEST.json";

/// The file with the hashes of all others, as `sha256sum -c` reads it.
pub const SUMS: &str = "SHA256SUMS";

/// What a kit holds.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    format: String,
    contract: String,
    /// The format of a backend's numbers; float32 where nothing is said.
    #[serde(default, skip_serializing_if = "is_float32")]
    pub dtype: Format,
    /// The levels by name.
    pub levels: BTreeMap<String, Level>,
    /// The cases in the order in which they are judged.
    pub cases: Vec<Entry>,
    /// The other files, with their SHA-256.
    pub files: BTreeMap<String, String>,
}

fn is_float32(format: &Format) -> bool {
    *format == Format::F32
}

/// A level of the kit.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Level {
    /// With fewer cases it is no test of this level.
    pub fewest: usize,
}

/// A case of the kit.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// LEVEL/NAME.
    pub id: String,
    /// Its level.
    pub level: String,
    /// Its operation.
    pub op: String,
    /// Its attributes.
    pub attributes: Map<String, Value>,
    /// Its file in the kit.
    pub path: String,
    /// Its SHA-256.
    pub sha256: String,
}

impl Manifest {
    /// The manifest of these cases, each with as many cases a level as there are.
    pub fn new(cases: Vec<Entry>, files: BTreeMap<String, String>, dtype: Format) -> Self {
        let mut levels: BTreeMap<String, Level> = BTreeMap::new();
        for case in &cases {
            levels.entry(case.level.clone()).or_default().fewest += 1;
        }
        Manifest { format: FORMAT.into(), contract: CONTRACT.into(), dtype, levels, cases, files }
    }

    /// Reads the manifest of a kit, and checks every file of it.
    ///
    /// # Errors
    /// No manifest, one of another format or contract, a file that is missing or not the one that was exported.
    pub fn read(folder: &Path) -> Result<Self> {
        let path = folder.join(MANIFEST);
        let bad = |problem: String| Error::file(&path, problem, "export it again with `ancestral golden export`");
        let text = atomic::read_text(&path)?;
        let manifest: Manifest =
            serde_json::from_str(&text).map_err(|e| bad(format!("expected the manifest of a golden kit: {e}")))?;
        let sums = atomic::read_text(&folder.join(SUMS))?;
        if !sums.lines().any(|line| line == format!("{}  {MANIFEST}", sha256(text.as_bytes()))) {
            return Err(bad(format!("its SHA-256 is not that of {SUMS}")));
        }
        let mut ids: Vec<&str> = manifest.cases.iter().map(|case| case.id.as_str()).collect();
        ids.sort_unstable();
        if let Some(id) = ids.windows(2).find(|pair| pair[0] == pair[1]).map(|pair| pair[0]) {
            return Err(bad(format!("the case {id} stands there twice")));
        }
        if let Some(id) = ids.iter().find(|id| !is_inside(id)) {
            return Err(bad(format!("expected LEVEL/NAME for the id of a case, found {id}")));
        }
        for (field, expected, found) in
            [("format", FORMAT, &manifest.format), ("contract", CONTRACT, &manifest.contract)]
        {
            if found != expected {
                return Err(Error::value(format!("{}: {field}", path.display()), expected, found));
            }
        }
        for (name, sha256) in &manifest.files {
            checked(folder, name, sha256)?;
        }
        for entry in &manifest.cases {
            checked(folder, &entry.path, &entry.sha256)?;
        }
        Ok(manifest)
    }

    /// The text of the file.
    pub fn to_json(&self) -> String {
        serde_json::to_string_pretty(self).expect("names and numbers are JSON") + "\n"
    }
}

impl Entry {
    /// Reads the case.
    ///
    /// # Errors
    /// A file that is missing or not the one that was exported.
    pub fn read(&self, folder: &Path) -> Result<Case> {
        let case = Case::from_bytes(&checked(folder, &self.path, &self.sha256)?, &folder.join(&self.path))?;
        case.check_complete()?;
        Ok(case)
    }
}

/// Whether a relative path stays in its folder.
fn is_inside(name: &str) -> bool {
    Path::new(name).components().all(|part| matches!(part, std::path::Component::Normal(_)))
}

/// The bytes of a file of the kit, which are those that were exported.
fn checked(folder: &Path, name: &str, expected: &str) -> Result<Vec<u8>> {
    let path = folder.join(name);
    let remedy = "the kit is damaged: copy it again, or export it with `ancestral golden export`";
    if !is_inside(name) {
        return Err(Error::file(&path, "expected a file in the folder of the kit", remedy));
    }
    let bytes = atomic::read(&path)?;
    let found = sha256(&bytes);
    if found != expected {
        return Err(Error::file(&path, format!("expected SHA-256 {expected}, found {found}"), remedy));
    }
    Ok(bytes)
}
