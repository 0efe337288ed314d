//! `sample --from`: pictures that start from pictures.

use std::path::{Path, PathBuf};

use ndarray::{Array4, ArrayView4, Axis, concatenate};
use serde_json::{Value, json};

use super::super::pictures::{Watch, batches};
use super::sources::{self, Source, repeated};
use super::{Args, Drawn};
use crate::cli::class_of;
use crate::data::Shape;
use crate::pipeline::{Pipeline, Scheduler};
use crate::sample::edit::{self, Resampling, Sources, Start, evaluations};
use crate::sample::{Moment, Sampler, SamplerOptions, Settings};
use crate::{Error, Result};

/// The flags that edit pictures.
#[derive(Debug, clap::Args)]
#[command(next_help_heading = "Editing")]
pub(super) struct Edits {
    /// Edit these pictures in the place of drawing from noise: files, or DATA:I for validation image I of a data set. Of
    /// each, --count variants are drawn, and the grid shows before and after
    #[arg(long, value_name = "IMAGE", num_args = 1..)]
    pub from: Vec<String>,
    /// Image to image (SDEdit): the share of the steps that is taken, from the noised picture. 1 keeps next to nothing of
    /// it [default: 0.5; 1 with --mask, --invert and --interpolate]
    #[arg(long, value_name = "S", requires = "from", allow_negative_numbers = true)]
    strength: Option<f64>,
    /// Inpainting (RePaint): draw anew where this picture is white, keep where it is black
    #[arg(long, value_name = "FILE", requires = "from", conflicts_with_all = ["invert", "interpolate"])]
    mask: Option<PathBuf>,
    /// How often each stretch of steps is walked down in inpainting; 1 never goes back [default: 10]
    #[arg(long, value_name = "R", requires = "mask", value_parser = clap::value_parser!(u16).range(1..=1000))]
    resample: Option<u16>,
    /// Steps in such a stretch [default: 10]
    #[arg(long, value_name = "J", requires = "mask", value_parser = clap::value_parser!(u16).range(1..=1000))]
    jump_length: Option<u16>,
    /// DDIM inversion: from the picture to its noise, and from there back, as --class if given
    #[arg(long, requires = "from", conflicts_with = "interpolate")]
    invert: bool,
    /// Interpolation: --count pictures on the way from each picture to this one, between their noises
    #[arg(long, value_name = "IMAGE", requires = "from")]
    interpolate: Option<String>,
    /// The class that the picture is of, on its way to its noise [default: none]
    #[arg(long, value_name = "K", requires = "from")]
    from_class: Option<String>,
    /// Bring pictures and mask to the model's size and colours, as training does: cropped in the middle and resized
    #[arg(long, requires = "from")]
    fit: bool,
}

/// What is done with the pictures.
pub(super) enum Edit {
    Renoise,
    Inpaint { mask: PathBuf, resampling: Resampling },
    Invert,
    Interpolate { other: String },
}

impl Edits {
    fn edit(&self) -> Result<Edit> {
        let edit = match (&self.mask, &self.interpolate) {
            (Some(mask), _) => {
                let [times, jump_length] = [self.resample, self.jump_length].map(|n| usize::from(n.unwrap_or(10)));
                Edit::Inpaint { mask: mask.clone(), resampling: Resampling { jump_length, times } }
            }
            (_, Some(other)) => Edit::Interpolate { other: other.clone() },
            _ if self.invert => Edit::Invert,
            _ => Edit::Renoise,
        };
        match &self.from_class {
            Some(class) if !edit.inverts() => {
                Err(Error::value("--from-class", "to be given with --invert or --interpolate", class))
            }
            _ => Ok(edit),
        }
    }
}

impl Edit {
    /// Whether pictures are taken to their noise.
    fn inverts(&self) -> bool {
        matches!(self, Edit::Invert | Edit::Interpolate { .. })
    }

    /// Variants of each picture that nobody counted.
    fn usual_count(&self) -> u32 {
        match self {
            Edit::Renoise | Edit::Inpaint { .. } => 4,
            Edit::Invert => 1,
            Edit::Interpolate { .. } => 8,
        }
    }

    /// The name in `--json`.
    fn name(&self) -> &'static str {
        match self {
            Edit::Renoise => "img2img",
            Edit::Inpaint { .. } => "inpaint",
            Edit::Invert => "invert",
            Edit::Interpolate { .. } => "interpolate",
        }
    }

    /// Whether a sampler can do it.
    fn can(&self, sampler: Sampler, options: &SamplerOptions) -> bool {
        match self {
            Edit::Renoise => sampler != Sampler::DdimInverse,
            Edit::Inpaint { .. } => sampler.is_memoryless(),
            _ => sampler != Sampler::DdimInverse && edit::is_deterministic(sampler, options),
        }
    }

    /// What is expected of a sampler.
    fn samplers(&self) -> String {
        match self {
            Edit::Renoise => "a sampler that walks down; --invert walks up and down".into(),
            Edit::Inpaint { .. } => {
                format!("one whose steps need no memory with --mask: {}", Sampler::memoryless_names())
            }
            _ => "one that draws no noise, such as ddim with --eta 0: the same noise must give the same picture".into(),
        }
    }

    /// The sampler that is taken where the model's cannot do it.
    fn stand_in(&self) -> Sampler {
        if self.inverts() { Sampler::Ddim } else { Sampler::Ddpm }
    }
}

/// An edit whose flags, pictures and settings fit together.
pub(super) struct Plan<'a> {
    model: &'a Pipeline,
    args: &'a Args,
    edit: Edit,
    scheduler: Scheduler,
    settings: Settings,
    strength: f64,
    sources: Vec<Source>,
    shape: Shape,
    count: usize,
}

impl<'a> Plan<'a> {
    /// Reads what the flags name.
    ///
    /// # Errors
    /// Flags that do not go together, or a value out of its range; a picture that is not there or does not fit.
    pub fn new(model: &'a Pipeline, args: &'a Args) -> Result<Self> {
        let Args { sampling, edits, .. } = args;
        let (edit, own) = (edits.edit()?, model.scheduler());
        let otherwise = (!edit.can(own.sampler, &own.options)).then(|| edit.stand_in());
        let scheduler = sampling.scheduler(model, otherwise)?;
        if !edit.can(scheduler.sampler, &scheduler.options) {
            return Err(Error::value("--sampler", edit.samplers(), scheduler.sampler.entry().name));
        }
        let strength = edits.strength.unwrap_or(if matches!(edit, Edit::Renoise) { 0.5 } else { 1.0 });
        if !(strength > 0.0 && strength <= 1.0) {
            return Err(Error::value("--strength", "a share of the steps above 0 and up to 1", strength));
        }
        let mut chain = sampling.chain(&scheduler, strength)?;
        if let Edit::Inpaint { resampling, .. } = edit {
            chain = resampling.chain(&chain)?;
        }
        let class = class_of("--class", &args.class, model)?;
        let mut settings = sampling.settings_of(model, &scheduler, chain, class);
        if edit.inverts() && class.is_none() {
            // It comes back as what it was, and so without guidance.
            settings.class = class_of("--from-class", &edits.from_class, model)?;
            settings.guidance = sampling.guidance.unwrap_or(settings.options.conventions.guidance_of_none);
        }
        let (height, width, channels) = model.image_shape()?;
        let shape = Shape { height, width, channels };
        let sources = edits.from.iter().map(|name| sources::read("--from", name, shape, edits.fit));
        let sources = sources.collect::<Result<Vec<_>>>()?;
        let count = args.count.unwrap_or(edit.usual_count());
        match edit {
            Edit::Invert if count != 1 => {
                Err(Error::value("--count", "1 with --invert: nothing is drawn, all variants are one", count))
            }
            Edit::Interpolate { .. } if count < 2 => {
                Err(Error::value("--count", "2 or more with --interpolate: both ends are among them", count))
            }
            _ => Ok(Plan { model, args, edit, scheduler, settings, strength, sources, shape, count: count as usize }),
        }
    }

    /// All pictures that are drawn.
    pub fn pictures(&self) -> usize {
        self.sources.len() * self.count
    }

    /// The steps of each on its way down.
    pub fn steps(&self) -> usize {
        evaluations(&self.settings.chain)
    }

    /// Edits the pictures; `watch` hears of the way down.
    ///
    /// # Errors
    /// A mask or a second picture that does not fit; whatever drawing refuses.
    pub fn run(self, mut watch: impl FnMut(usize, &Moment)) -> Result<Drawn> {
        match &self.edit {
            Edit::Renoise => {
                let draw = |sources: Sources, watch: Watch| edit::renoise(self.model, &self.settings, sources, watch);
                let after = self.variants(draw, &mut watch)?;
                let before = repeated(&self.sources, 1);
                Ok(self.drawn(after.clone(), vec![("before", before), ("after", after)], json!({})))
            }
            Edit::Inpaint { mask, resampling } => self.inpaint(mask, *resampling, &mut watch),
            Edit::Invert => self.invert(&mut watch),
            Edit::Interpolate { other } => self.interpolate(other, &mut watch),
        }
    }

    /// Calls `draw` for every variant of every picture, in batches.
    fn variants(
        &self,
        draw: impl FnMut(Sources, Watch) -> Result<Array4<f32>>,
        watch: &mut impl FnMut(usize, &Moment),
    ) -> Result<Array4<f32>> {
        let pictures = repeated(&self.sources, self.count);
        let variants = self.args.first_index..self.args.first_index + self.count as u64;
        let indices: Vec<u64> = self.sources.iter().flat_map(|_| variants.clone()).collect();
        self.in_batches("editing", self.steps(), (&pictures, &indices), draw, watch)
    }

    fn in_batches(
        &self,
        title: &'static str,
        steps: usize,
        (pictures, indices): (&Array4<f32>, &[u64]),
        mut draw: impl FnMut(Sources, Watch) -> Result<Array4<f32>>,
        watch: &mut impl FnMut(usize, &Moment),
    ) -> Result<Array4<f32>> {
        batches(title, (indices.len(), steps, self.args.batches()), watch, |part, watch| {
            let pictures = pictures.slice_axis(Axis(0), part.clone().into()).to_owned();
            draw(Sources { pictures: &pictures, indices: &indices[part] }, watch)
        })
    }

    fn inpaint(
        &self,
        mask: &Path,
        Resampling { jump_length, times }: Resampling,
        watch: &mut impl FnMut(usize, &Moment),
    ) -> Result<Drawn> {
        let known = sources::mask(mask, &self.sources, self.shape, self.args.edits.fit)?;
        let start = if self.strength == 1.0 { Start::Noise } else { Start::Picture };
        let draw =
            |sources: Sources, watch: Watch| edit::inpaint(self.model, &self.settings, sources, &known, start, watch);
        let after = self.variants(draw, watch)?;
        let before = repeated(&self.sources, 1);
        let mut kept = before.clone();
        for mut image in kept.outer_iter_mut() {
            image.zip_mut_with(&known, |x, &is_known| *x = if is_known { *x } else { 0.0 });
        }
        let columns = vec![("before", before), ("kept", kept), ("after", after.clone())];
        let facts = json!({ "mask": mask.to_string_lossy(), "resample": times, "jump_length": jump_length });
        Ok(self.drawn(after, columns, facts))
    }

    /// The noise of pictures, at the first level of the way down.
    fn noise_of(&self, pictures: &Array4<f32>) -> Result<Array4<f32>> {
        let up = Scheduler { sampler: Sampler::DdimInverse, ..self.scheduler.clone() };
        let chain = self.args.sampling.chain(&up, self.strength)?;
        let (top, start) = (chain[chain.len() - 1].to, self.settings.chain[0].from);
        // Both are levels of one table, which come by two ways.
        if (top.alpha_bar - start.alpha_bar).abs() > 1e-9 {
            let expected = format!("to begin where inversion ends, at t = {}, as with --sampler ddim", top.t());
            return Err(Error::value("--spacing", expected, format!("a chain that begins at t = {}", start.t())));
        }
        let class = class_of("--from-class", &self.args.edits.from_class, self.model)?;
        let guidance = self.settings.options.conventions.guidance_of_none;
        let settings = Settings { sampler: up.sampler, chain, class, guidance, ..self.settings.clone() };
        let indices = vec![0; pictures.dim().0];
        let draw = |sources: Sources, watch: Watch| edit::invert(self.model, &settings, sources, watch);
        self.in_batches("inverting", settings.chain.len(), (pictures, &indices), draw, &mut |_, _| ())
    }

    /// Pictures of these noises.
    fn of_noise(&self, noise: &Array4<f32>, watch: &mut impl FnMut(usize, &Moment)) -> Result<Array4<f32>> {
        let indices = vec![0; noise.dim().0];
        let draw = |sources: Sources, watch: Watch| edit::draw_from(self.model, &self.settings, sources, watch);
        self.in_batches("editing", self.steps(), (noise, &indices), draw, watch)
    }

    fn invert(&self, watch: &mut impl FnMut(usize, &Moment)) -> Result<Drawn> {
        let before = repeated(&self.sources, 1);
        let noise = self.noise_of(&before)?;
        let after = self.of_noise(&noise, watch)?;
        let off = before.outer_iter().zip(after.outer_iter()).map(|(a, b)| {
            let squares = a.iter().zip(b).map(|(&a, &b)| f64::from(a - b) * f64::from(a - b));
            (squares.sum::<f64>() / a.len() as f64).sqrt()
        });
        let facts = json!({ "rmse": off.collect::<Vec<f64>>() });
        // Noise is wider than pictures are: ±2 is shown as black and white.
        let shown = noise.mapv(|x| x / 2.0);
        Ok(self.drawn(after.clone(), vec![("before", before), ("noise", shown), ("after", after)], facts))
    }

    fn interpolate(&self, other: &str, watch: &mut impl FnMut(usize, &Moment)) -> Result<Drawn> {
        let end = sources::read("--interpolate", other, self.shape, self.args.edits.fit)?.image;
        let starts = repeated(&self.sources, 1);
        let noise = self.noise_of(&joined(&[starts.view(), end.view()]))?;
        let of = |i: usize| noise.slice_axis(Axis(0), (i..i + 1).into()).to_owned();
        let n = self.sources.len();
        let ways = (0..n).flat_map(|i| (0..self.count).map(move |k| (i, k)));
        let ways: Vec<_> = ways.map(|(i, k)| edit::slerp(&of(i), &of(n), k as f64 / (self.count - 1) as f64)).collect();
        let ways: Vec<_> = ways.iter().map(|noise| noise.view()).collect();
        let after = self.of_noise(&joined(&ways), watch)?;
        let ends = joined(&vec![end.view(); n]);
        let facts = json!({ "to": other });
        Ok(self.drawn(after.clone(), vec![("from", starts), ("between", after), ("to", ends)], facts))
    }

    /// The result: the pictures for files, and the columns of the grid, of which each source has one row.
    fn drawn(&self, pictures: Array4<f32>, columns: Vec<(&str, Array4<f32>)>, facts: Value) -> Drawn {
        let mut json = self.args.sampling.to_json(self.model, &self.settings);
        let ours = json!({ "edit": self.edit.name(), "from": self.args.edits.from, "strength": self.strength,
            "evaluations": self.steps() });
        for facts in [ours, facts] {
            json.as_object_mut().expect("an object").extend(facts.as_object().cloned().unwrap_or_default());
        }
        let n = self.sources.len();
        let rows = (0..n).flat_map(|row| {
            columns.iter().flat_map(move |(_, images)| {
                let each = images.dim().0 / n;
                (row * each..(row + 1) * each).map(|i| images.slice_axis(Axis(0), (i..i + 1).into()))
            })
        });
        let rows: Vec<_> = rows.collect();
        let name = |(name, images): &(&str, Array4<f32>)| {
            let others = vec![String::new(); images.dim().0 / n - 1];
            [vec![name.to_string()], others].concat()
        };
        let names: Vec<String> = columns.iter().flat_map(name).collect();
        let sheet = Some((joined(&rows), names, n));
        Drawn { class: self.settings.class, pictures, json, sheet }
    }
}

fn joined(images: &[ArrayView4<f32>]) -> Array4<f32> {
    concatenate(Axis(0), images).expect("images of one shape")
}
