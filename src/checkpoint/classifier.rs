//! The folder of a classifier.
//!
//! ```text
//! config.json              the architecture: the fields of a `ClassifierConfig`
//! model.safetensors        the weights, under their names and in PyTorch's layouts
//! data.json                what it was trained on
//! ```

use std::path::Path;

use super::weights;
use crate::data::Fingerprint;
use crate::layers::ParameterVector;
use crate::models::{Classifier, ClassifierConfig};
use crate::{Error, Result, atomic};

const CONFIG: &str = "config.json";
const WEIGHTS: &str = "model.safetensors";
const DATA: &str = "data.json";

/// A classifier as it was read.
#[derive(Clone, Debug)]
pub struct Saved {
    /// The network.
    pub classifier: Classifier,
    /// Its weights.
    pub weights: ParameterVector<f32>,
    /// What it was trained on, if the folder says so.
    pub data: Option<Fingerprint>,
}

/// Reads a classifier.
///
/// # Errors
/// A folder that has none; whatever is wrong with its files, by file and field.
pub fn read(folder: &Path) -> Result<Saved> {
    let path = folder.join(CONFIG);
    if !path.is_file() {
        let problem = format!("expected a classifier, {CONFIG} and {WEIGHTS}, found no {CONFIG}");
        let remedy = "train one on labelled images: ancestral classify train --data DIR --out FOLDER";
        return Err(Error::file(folder, problem, remedy));
    }
    let data = folder.join(DATA);
    let data = if data.is_file() { Some(atomic::read_text(&data)?) } else { None };
    from_files(&atomic::read_text(&path)?, &atomic::read(&folder.join(WEIGHTS))?, data.as_deref(), folder)
}

/// [`read()`] from memory, of the three files' contents; `place` names the classifier in errors.
///
/// # Errors
/// Whatever is wrong with the files, by file and field.
pub fn from_files(config: &str, weights: &[u8], data: Option<&str>, place: &Path) -> Result<Saved> {
    let file = place.join(CONFIG).display().to_string();
    let config = ClassifierConfig::from_json(config, &file)?;
    config.validate(&file)?;
    let classifier = Classifier::new(config)?;
    let weights = weights::from_bytes(weights, &place.join(WEIGHTS), &classifier.layout)?;
    let data = data.map(|data| Fingerprint::from_json(data, &place.join(DATA))).transpose()?;
    Ok(Saved { classifier, weights, data })
}

/// Writes a classifier, and returns the SHA-256 of the weights' file.
///
/// # Errors
/// Whatever the operating system refuses.
pub fn write(
    classifier: &Classifier,
    weights: &ParameterVector<f32>,
    data: &Fingerprint,
    folder: &Path,
) -> Result<String> {
    let sha256 = weights::write(&folder.join(WEIGHTS), &classifier.layout, weights)?;
    atomic::write(&folder.join(DATA), format!("{:#}\n", serde_json::json!(data)).as_bytes())?;
    atomic::write(&folder.join(CONFIG), classifier.config.to_json().as_bytes())?;
    Ok(sha256)
}

/// Refuses a folder to which [`write()`] could not write, before minutes are spent on what belongs there.
///
/// # Errors
/// Whatever the operating system refuses.
pub fn probe(folder: &Path) -> Result<()> {
    atomic::probe(&folder.join(WEIGHTS))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::data::{Dataset, Shape};

    #[test]
    fn classifier_written_and_read_is_the_same_and_a_folder_without_one_is_refused() {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let classifier = Classifier::new(ClassifierConfig::default()).expect("valid");
        let weights = classifier.layout.initial(3);
        let error = read(folder.path()).expect_err("nothing there").to_string();
        assert!(error.contains("found no config.json") && error.contains("classify train"), "{error}");
        let data =
            Dataset::new("d", Shape { height: 1, width: 1, channels: 1 }, vec![7]).expect("an image").fingerprint();
        write(&classifier, &weights, &data, folder.path()).expect("written");
        let found = read(folder.path()).expect("just written");
        assert_eq!((found.classifier.config, found.weights, found.data), (classifier.config, weights, Some(data)));
        std::fs::write(folder.path().join(DATA), "{}").expect("a file");
        assert!(read(folder.path()).expect_err("of nothing").to_string().contains(DATA));
        std::fs::write(folder.path().join(CONFIG), "{\"num_classes\": 0}").expect("a file");
        let error = read(folder.path()).expect_err("no classes").to_string();
        assert!(error.contains("config.json: num_classes"), "{error}");
    }
}
