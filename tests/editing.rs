//! `sample --from` as people use it: files in, a grid with before and after, and what is refused.

mod run;

use image::{ImageBuffer, Luma, Rgb};
use run::{Place, assert_passed};
use serde_json::Value;

/// A model of 16 x 16 grey pixels, two pictures of its size, and a mask of it.
fn place() -> Place {
    let place = Place::new();
    for (name, shift) in [("a.png", 0), ("b.png", 90)] {
        let level = |x: u32, y: u32| Luma([((x * 13 + y * 7 + shift) % 256) as u8]);
        ImageBuffer::from_fn(16, 16, level).save(place.path(name)).expect("a picture");
    }
    ImageBuffer::from_fn(16, 16, |_, y| Luma([if y < 8 { 0u8 } else { 255 }]))
        .save(place.path("mask.png"))
        .expect("a mask");
    place
}

fn json(place: &Place, line: &str) -> Value {
    let output = place.run(line);
    assert_passed(&output, line);
    serde_json::from_slice(&output.stdout).expect("JSON")
}

#[test]
fn each_edit_writes_a_grid_of_before_and_after_and_says_what_it_did() {
    let place = place();
    // A cell is 48 pixels wide and 8 from the next.
    for (flags, edit, columns) in [
        ("--from a.png b.png --strength 0.5 --count 2", "img2img", 3),
        ("--from a.png b.png --invert", "invert", 3),
        ("--from a.png b.png --interpolate b.png --count 3", "interpolate", 5),
        ("--from a.png b.png --mask mask.png --resample 2 --jump-length 2 --count 2", "inpaint", 4),
    ] {
        let line =
            format!("sample --model run/model --steps 6 --out {edit}.png --npy {edit}.npy --scale 4 --json {flags}");
        let said = json(&place, &line);
        assert_eq!((said["edit"].as_str(), &said["from"][1]), (Some(edit), &Value::from("b.png")), "{said}");
        let grid = image::open(place.path(&format!("{edit}.png"))).expect("a picture");
        assert_eq!(grid.width(), 8 + columns * (64 + 8), "{edit}");
        assert!(place.path(&format!("{edit}.npy")).exists());
    }
}

#[test]
fn variant_of_one_picture_is_the_same_alone_and_among_others() {
    let place = place();
    let of =
        |flags: &str| json(&place, &format!("sample --model run/model --steps 4 --json {flags}"))["sha256"].clone();
    let alone = of("--from b.png --strength 0.5 --count 1 --first-index 2 --singles one");
    of("--from a.png b.png --strength 0.5 --count 3 --singles all --batch-size 2");
    // b's third is the sixth of all.
    assert_eq!(place.read("one/000002.png"), place.read("all/000005.png"));
    assert_eq!(alone, of("--from b.png --strength 0.5 --count 1 --first-index 2"));
}

#[test]
fn flags_and_files_that_do_not_fit_are_refused_by_name_with_a_remedy() {
    let place = place();
    ImageBuffer::from_fn(20, 16, |x, _| Luma([x as u8])).save(place.path("wide.png")).expect("a picture");
    ImageBuffer::from_fn(16, 16, |x, y| Rgb([x as u8, y as u8, 9])).save(place.path("colour.png")).expect("a picture");
    ImageBuffer::from_fn(16, 16, |_, _| Luma([255u8])).save(place.path("white.png")).expect("a picture");
    for (flags, words) in [
        ("--from wide.png", &["wide.png", "16x16", "found 16x20", "--fit"][..]),
        ("--from colour.png", &["colour.png", "grey", "--fit"]),
        ("--from nowhere.png", &["nowhere.png", "cannot read"]),
        ("--from run", &["--from", "run:I"]),
        ("--from shapes:1000000", &["--from", "an image 0 to"]),
        ("--from a.png --strength 0", &["--strength", "above 0"]),
        ("--from a.png --strength 1.5", &["--strength", "up to 1"]),
        ("--from a.png --strength 0.01 --steps 10", &["--strength", "0.1 to 1"]),
        ("--strength 0.5", &["--from"]),
        ("--from a.png --mask white.png", &["white.png", "nothing is kept"]),
        ("--from a.png --mask wide.png", &["--mask", "16x16", "16x20", "picture's own size"]),
        ("--from a.png --mask mask.png --sampler unipc", &["--sampler", "ddpm, ddim, euler"]),
        ("--from a.png --mask mask.png --invert", &["--mask", "--invert"]),
        ("--from a.png --resample 3", &["--mask"]),
        ("--from a.png --invert --sampler ddpm", &["--sampler", "draws no noise"]),
        ("--from a.png --invert --eta 0.5", &["--sampler", "--eta 0"]),
        ("--from a.png --invert --count 2", &["--count", "--invert"]),
        ("--from a.png --interpolate b.png --count 1", &["--count", "both ends"]),
        ("--from a.png --from-class 1", &["--from-class", "--invert or --interpolate"]),
        ("--from a.png --class 1", &["--class", "not conditional"]),
        ("--from a.png --sampler ddim-inverse", &["--sampler", "--invert"]),
    ] {
        let steps = if flags.contains("--steps") { "" } else { "--steps 6 " };
        place.refuses(&format!("sample --model run/model {steps}{flags}"), words);
    }
    json(&place, "sample --model run/model --steps 2 --from wide.png colour.png --fit --count 1 --json");
}

#[test]
fn dialects_are_listed_and_the_first_number_that_differs_is_named() {
    let place = place();
    let listed = json(&place, "dialects --json");
    let questions = listed["questions"].as_array().expect("a list");
    assert!(questions.iter().any(|question| question["follows_dialect"] == true));
    let clipped =
        questions.iter().find(|question| question["question"] == "whether x_0_hat is clipped").expect("a row");
    assert!(clipped["follows_dialect"] == false && clipped["answers"]["k-diffusion"]["does"] == "not", "{clipped}");
    let line = "dialects ancestral diffusers --model run/model --steps 7 --spacing linspace --sampler ddim --json";
    let output = place.run(line);
    assert_eq!(output.status.code(), Some(1), "{line}");
    let found: Value = serde_json::from_slice(&output.stdout).expect("JSON");
    let first = &found["samplers"][0];
    assert!(first["difference"].is_string() && first["step"] == 1 && first["t"] == 1000.0, "{found}");
    // In sigma the papers begin with noise alone, and ours with that of an image of variance 1; in time both with N(0, I).
    let line = "dialects ancestral paper --model run/model --steps 3 --sampler euler --json";
    let found: Value = serde_json::from_slice(&place.run(line).stdout).expect("JSON");
    let first = &found["samplers"][0];
    let [ours, papers] = [0, 1].map(|i| first["values"][i].as_f64().expect("a number"));
    assert!(first["difference"] == "x_t" && first["step"] == 1 && ours.abs() > papers.abs(), "{found}");
    let same = json(&place, "dialects ancestral paper --model run/model --steps 3 --sampler ddim --json");
    assert!(same["samplers"][0]["difference"].is_null(), "{same}");
    let same = json(&place, "dialects ancestral ancestral --model run/model --steps 3 --json");
    assert!(same["samplers"].as_array().expect("a list").iter().all(|row| row["difference"].is_null()), "{same}");
}

#[test]
fn every_sampler_is_drawn_and_measured_against_the_solution() {
    let place = place();
    let found = json(&place, "samplers --model run/model --steps 2 3 --count 1 --json");
    let rows = found["samplers"].as_array().expect("a list");
    let row = |name: &str| rows.iter().find(|row| row["sampler"] == name).unwrap_or_else(|| panic!("no {name}"));
    assert!(row("ddpm")["rmse"][0].is_null() && row("heun")["evaluations"][1] == 5, "{found}");
    assert!(row("unipc")["rmse"][1].as_f64().expect("a number") >= 0.0);
    assert!(place.path("samplers.png").exists());
}
