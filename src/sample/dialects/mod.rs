//! Who answers the questions on which implementations differ, how, and where.
//!
//! A place is `FILE:Lnn FUNCTION`: the line of that file at the version that was read, and what it is part of. The versions:
//!
//! | dialect | what was read |
//! |---|---|
//! | `paper` | the papers; where they are silent hojonathanho/diffusion at c46129977747, and for DPM-Solver LuChengTHU/dpm-solver at 0fdeb80e1a43 |
//! | `openai` | improved-diffusion at 6051920c0865 (losses.py at 51fc1064dff8, nn.py at e593c92b3cd1), guided-diffusion at aca3097a89fa, glide-text2im at 146bd9c49a1b |
//! | `diffusers` | diffusers 0.42.1 |
//! | `k-diffusion` | k-diffusion 0.1.1.post1, and sample.py at 43d3e99f36d2 |
//! | `lucidrains` | denoising-diffusion-pytorch 2.3.4 |
//!
//! A place without a line was not seen in that version; docs/dialects.md lists them.

mod of_models;
mod of_samplers;

use super::conventions::Conventions;

/// A named set of answers.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Dialect {
    /// Its name: `diffusers`.
    pub name: &'static str,
    /// Its answers.
    pub conventions: Conventions,
    /// Whose it is, in one line.
    pub about: &'static str,
}

/// All of them, ours first.
pub const DIALECTS: [Dialect; 6] = [
    Dialect {
        name: "ancestral",
        conventions: Conventions::ANCESTRAL,
        about: "Ours: the papers', but for guidance, 1 for none, and the first x in sigma",
    },
    Dialect { name: "paper", conventions: Conventions::PAPER, about: "The papers', where they speak" },
    Dialect { name: "openai", conventions: Conventions::OPENAI, about: "improved-diffusion and guided-diffusion" },
    Dialect { name: "diffusers", conventions: Conventions::DIFFUSERS, about: "diffusers 0.42.1" },
    Dialect {
        name: "k-diffusion",
        conventions: Conventions::K_DIFFUSION,
        about: "k-diffusion 0.1.1, for samplers in sigma",
    },
    Dialect { name: "lucidrains", conventions: Conventions::LUCIDRAINS, about: "denoising-diffusion-pytorch 2.3.4" },
];

/// A question on which implementations differ.
#[derive(Clone, Copy, Debug)]
pub struct Question {
    /// What is asked.
    pub asks: &'static str,
    /// Where it is decided here: a field of [`Conventions`], or what sets it elsewhere.
    pub set_by: &'static str,
    of: Of,
    /// Where each of [`DIALECTS`] but ours answers.
    places: [&'static str; 5],
}

/// Where the words of an answer are from.
#[derive(Clone, Copy, Debug)]
enum Of {
    /// A convention.
    Field(fn(&Conventions) -> &'static str),
    /// What is no convention of sampling: each dialect's, ours first.
    Fixed([&'static str; 6]),
}

/// An answer, and where it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What is done.
    pub does: &'static str,
    /// File, line and name, or paper and equation.
    pub place: &'static str,
}

/// The place, and the answer, of a program that does nothing of the kind.
const NOT_THERE: &str = "no such code";

impl Question {
    /// The answers of [`DIALECTS`], in their order. A program without such code has none, and its dialect does as ours.
    pub fn answers(&self) -> [Answer; 6] {
        std::array::from_fn(|i| {
            let place = if i == 0 { self.set_by } else { self.places[i - 1] };
            let does = match self.of {
                _ if place == NOT_THERE => NOT_THERE,
                Of::Field(word) => word(&DIALECTS[i].conventions),
                Of::Fixed(words) => words[i],
            };
            Answer { does, place: if place == NOT_THERE { "-" } else { place } }
        })
    }

    /// Whether `--dialect` decides it; else the model's folder, a flag or this program does, in every dialect alike.
    pub fn follows_dialect(&self) -> bool {
        matches!(self.of, Of::Field(_))
    }
}

/// All questions: those that a dialect decides first.
pub fn questions() -> impl Iterator<Item = &'static Question> {
    of_samplers::QUESTIONS.iter().chain(&of_models::QUESTIONS)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sample::FirstNoise;

    #[test]
    fn every_question_is_one_on_which_dialects_differ_and_every_answer_has_a_place() {
        for question in questions() {
            let answers = question.answers();
            let differs = |answer: &Answer| answer.does != answers[0].does && answer.does != NOT_THERE;
            assert!(answers.iter().any(differs), "{}", question.asks);
            assert!(answers.iter().all(|answer| !answer.does.is_empty() && !answer.place.is_empty()));
        }
    }

    #[test]
    fn every_place_in_a_program_has_its_line_but_those_that_the_docs_list() {
        // A notebook, which has no lines, and a script that is in no release.
        let without = ["train.py: make_cfg_model_fn", "GLIDE's text2im.ipynb: model_fn", "train.py: make_cfg_model_fn"];
        let mut found = Vec::new();
        for question in questions() {
            for place in question.places[1..].iter().filter(|&&place| place != NOT_THERE) {
                let after = place.split_once(".py:L").map(|(_, line)| line);
                let (line, name) = after.and_then(|line| line.split_once(' ')).unwrap_or_default();
                if line.parse::<u32>().is_err() || name.is_empty() {
                    found.push(*place);
                }
            }
        }
        assert_eq!(found, without);
    }

    #[test]
    fn program_without_such_code_gives_no_answer() {
        let pndm = questions().find(|question| question.asks.starts_with("PNDM")).unwrap();
        assert_eq!(pndm.answers()[5], Answer { does: "no such code", place: "-" });
    }

    #[test]
    fn dialects_have_names_of_their_own_and_ours_differs_from_the_papers_in_guidance_and_the_first_x() {
        let names: std::collections::BTreeSet<&str> = DIALECTS.iter().map(|dialect| dialect.name).collect();
        assert_eq!(names.len(), DIALECTS.len());
        let paper = Conventions { guidance_of_none: 1.0, first_noise: FirstNoise::WithImage, ..Conventions::PAPER };
        assert_eq!((DIALECTS[0].conventions, crate::sample::SamplerOptions::default().conventions), (paper, paper));
    }
}
