//! What is not read as data, named, with what to do about it.

use std::path::{Path, PathBuf};

use super::fingerprint::list;
use super::folder::{Folder, PICTURES, extension, last_name};
use crate::{Error, Result};

/// Files of one kind that hold images but are not read.
struct Kind {
    /// Endings of their names, in lower case.
    endings: &'static [&'static str],
    /// What such a file is.
    what: &'static str,
    /// Lines of Python, or of a shell, that turn FILE into a folder `pictures`.
    lines: &'static str,
}

const KINDS: [Kind; 9] = [
    Kind { endings: &["zip"], what: "a zip archive", lines: "unzip FILE -d pictures" },
    Kind {
        endings: &["tar", "tgz", "gz", "bz2", "xz", "zst"],
        what: "a packed file",
        lines: "mkdir pictures && tar -xf FILE -C pictures",
    },
    Kind {
        endings: &["csv", "tsv"],
        what: "a table of text",
        lines: "\
    # a row is a label, then the pixels of a square image; take the files' rows if yours names pictures instead
    import math, numpy, pathlib, PIL.Image
    for i, row in enumerate(numpy.loadtxt(\"FILE\", delimiter=\",\", skiprows=1, dtype=\"uint8\")):
        folder, side = pathlib.Path(\"pictures\", str(row[0])), math.isqrt(len(row) - 1)
        folder.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(row[1:].reshape(side, side)).save(folder / f\"{i}.png\")",
    },
    Kind {
        endings: &["parquet"],
        what: "a table as data sets on the Hugging Face hub have it",
        lines: "\
    import pandas, pathlib
    for i, row in pandas.read_parquet(\"FILE\").iterrows():
        folder = pathlib.Path(\"pictures\", str(row.get(\"label\", \"\")))
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f\"{i}.png\").write_bytes(row[\"image\"][\"bytes\"])  # see .columns for the names",
    },
    Kind {
        endings: &["arrow"],
        what: "a data set saved by Hugging Face's `datasets`",
        lines: "\
    import datasets, pathlib
    for i, row in enumerate(datasets.Dataset.from_file(\"FILE\")):
        folder = pathlib.Path(\"pictures\", str(row.get(\"label\", \"\")))
        folder.mkdir(parents=True, exist_ok=True)
        row[\"image\"].save(folder / f\"{i}.png\")",
    },
    Kind {
        endings: &["npy", "npz"],
        what: "arrays of numpy",
        lines: "\
    import numpy, pathlib, PIL.Image
    images = numpy.load(\"FILE\")  # (n, h, w) or (n, h, w, 3), 0 to 255; of an .npz take one: images[images.files[0]]
    pathlib.Path(\"pictures\").mkdir(exist_ok=True)
    for i, image in enumerate(images):
        PIL.Image.fromarray(image.astype(\"uint8\")).save(f\"pictures/{i}.png\")",
    },
    Kind {
        endings: &["mdb", "lmdb"],
        what: "an LMDB database",
        lines: "\
    import lmdb, pathlib
    pathlib.Path(\"pictures\").mkdir(exist_ok=True)
    for i, (key, value) in enumerate(lmdb.open(\"FOLDER\", readonly=True, lock=False).begin().cursor()):
        open(f\"pictures/{i}.png\", \"wb\").write(value)  # if a value is a whole picture, as in LSUN",
    },
    Kind {
        endings: &["pkl", "pickle", "pt", "pth"],
        what: "a Python object (pickle), which only Python can read",
        lines: "\
    import pathlib, pickle, PIL.Image  # torch.load for .pt and .pth; open only what you trust
    images = pickle.load(open(\"FILE\", \"rb\"))  # find (n, h, w) or (n, h, w, 3), 0 to 255, in it
    pathlib.Path(\"pictures\").mkdir(exist_ok=True)
    for i, image in enumerate(images):
        PIL.Image.fromarray(image).save(f\"pictures/{i}.png\")",
    },
    Kind {
        endings: &["h5", "hdf5", "mat"],
        what: "an HDF5 or MATLAB file",
        lines: "\
    import h5py, pathlib, PIL.Image  # scipy.io.loadmat for an old .mat
    images = h5py.File(\"FILE\")[\"images\"]  # see .keys() for the names; (n, h, w) or (n, h, w, 3), 0 to 255
    pathlib.Path(\"pictures\").mkdir(exist_ok=True)
    for i, image in enumerate(images):
        PIL.Image.fromarray(image).save(f\"pictures/{i}.png\")",
    },
];

const READ: &str = "a folder of pictures (PNG, JPEG, WebP, BMP, GIF, TIFF), of MNIST's idx files or of CIFAR's .bin files, \
                    or the word `shapes`";

/// A remedy of several lines.
pub(super) fn python(what_to_do: &str, lines: &str) -> String {
    format!("{what_to_do}:\n\n{}\n", indented(lines))
}

fn indented(lines: &str) -> String {
    let lines: Vec<String> =
        lines.lines().map(|line| format!("    {}", line.strip_prefix("    ").unwrap_or(line))).collect();
    lines.join("\n")
}

fn kind_of(path: &Path) -> Option<&'static Kind> {
    KINDS.iter().find(|kind| kind.endings.contains(&extension(path).as_str()))
}

impl Kind {
    fn remedy(&self, path: &Path) -> String {
        let folder = path.parent().map_or_else(String::new, |folder| folder.display().to_string());
        let lines = self.lines.replace("FILE", &path.display().to_string()).replace("FOLDER", &folder);
        python("turn it into a folder of pictures, for example, and give that folder", &lines)
    }
}

/// Where the files of MNIST are to be had, as lines for a shell, and what else there is to learn from.
fn get_mnist(folder: &Path) -> String {
    let folder = folder.display();
    format!(
        "they are to be had so:\n    mkdir -p {folder}\n    for f in train-images-idx3 train-labels-idx1 t10k-images-idx3 \
         t10k-labels-idx1; do\n      curl -fo {folder}/$f-ubyte.gz \
         https://ossci-datasets.s3.amazonaws.com/mnist/$f-ubyte.gz\n    done\n  or give, with --data, {READ}, which needs no file"
    )
}

/// What to say about a path that is no folder.
pub(super) fn not_a_folder(path: &Path) -> Error {
    if !path.exists() {
        let found = if path.is_symlink() { "a link that leads nowhere" } else { "nothing" };
        if last_name(path) == "mnist" {
            return Error::file(path, format!("expected the four files of MNIST, found {found}"), get_mnist(path));
        }
        return Error::file(path, format!("expected a folder of images, found {found}"), format!("give {READ}"));
    }
    if let Some(kind) = kind_of(path).filter(|_| !last_name(path).contains("ubyte")) {
        let problem = format!("expected a folder of images, found {}", kind.what);
        return Error::file(path, problem, kind.remedy(path));
    }
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let name = last_name(path);
    let what = if PICTURES.contains(&extension(path).as_str()) {
        "a picture"
    } else if name.contains("ubyte") || name.ends_with(".bin") || name.contains("_batch") {
        "one file of a data set"
    } else {
        return Error::file(path, "expected a folder of images, found a file", format!("give {READ}"));
    };
    let problem = format!("expected a folder of images, found {what}");
    Error::file(path, problem, format!("give the folder that holds it: {}", folder.display()))
}

/// The pictures of a folder, at least one.
///
/// # Errors
/// If there is none; the error says what is there instead.
pub(super) fn some_pictures(folder: &Folder) -> Result<&[PathBuf]> {
    if folder.pictures.is_empty() { Err(no_pictures(folder)) } else { Ok(&folder.pictures) }
}

/// What to say about a folder where pictures are wanted and none is.
fn no_pictures(folder: &Folder) -> Error {
    let names = folder.names();
    let there = if names.is_empty() { "an empty folder".into() } else { list(&names) };
    if let Some((path, kind)) = folder.others.iter().find_map(|path| Some((path, kind_of(path)?))) {
        let problem = format!("expected pictures, found {there}; {} is {}", last_name(path), kind.what);
        return Error::file(&folder.path, problem, kind.remedy(path));
    }
    Error::file(
        &folder.path,
        format!("expected pictures, found {there}"),
        format!("put pictures there, or give {READ}"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_of_every_kind_are_named_as_such_alone_and_in_a_folder() {
        for kind in &KINDS {
            for ending in kind.endings {
                let data = tempfile::tempdir().expect("a temporary folder");
                let file = data.path().join(format!("x.{}", ending.to_uppercase()));
                std::fs::write(&file, "").expect("a file");
                let shown = file.display().to_string();
                let alone = not_a_folder(&file).to_string();
                assert!(alone.contains(kind.what) && (alone.contains(&shown) || *ending == "mdb"), "{alone}");
                let inside =
                    some_pictures(&Folder::read(data.path()).expect("readable")).expect_err("none").to_string();
                assert!(inside.contains(kind.what) && inside.contains("expected pictures, found x."), "{inside}");
                assert!(!inside.contains("FILE") && !inside.contains("FOLDER"), "{inside}");
            }
        }
    }

    #[test]
    fn a_folder_without_pictures_is_listed_with_eight_names_and_a_count() {
        let data = tempfile::tempdir().expect("a temporary folder");
        let problem = || some_pictures(&Folder::read(data.path()).expect("readable")).expect_err("none").to_string();
        assert!(problem().contains("found an empty folder"));
        (1..=12).for_each(|i| std::fs::write(data.path().join(format!("{i}.txt")), "").expect("a file"));
        assert!(problem().contains("found 1.txt, 2.txt, 3.txt, 4.txt, 5.txt, 6.txt, 7.txt, 8.txt, ... (12 in all)"));
    }

    #[test]
    fn a_file_of_a_data_set_or_a_picture_leads_to_its_folder() {
        let data = tempfile::tempdir().expect("a temporary folder");
        let folder = data.path().display().to_string();
        for name in ["a.PNG", "train-images-idx3-ubyte.gz", "data_batch_1.bin", "data_batch_1"] {
            let file = data.path().join(name);
            std::fs::write(&file, "").expect("a file");
            assert!(not_a_folder(&file).to_string().ends_with(&format!("folder that holds it: {folder}")), "{name}");
        }
    }
}
