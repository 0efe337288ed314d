//! Known answers: whether this build on this machine computes what contract N1 says, and if not, where it goes astray.
//!
//! A chain of links leads from one fused multiply-add to a picture, each made of what the links before it hold. A link is
//! a name and the SHA-256 of the numbers it computed, little-endian, every NaN as 0x7fc00000 or 0x7ff8000000000000. The
//! links of N1 are `expected.txt`, one `name hash` a line; the SHA-256 of its lines up to a link is the running hash
//! there, so that one line tells two machines apart, and `sha256sum expected.txt` is the last of them.
//!
//! The first link that differs is the one to look at. All later ones may differ for its sake.

mod arithmetic;
mod elementary;
mod layers;
mod network;
mod products;
mod random;
mod samplers;
mod sums;
mod tables;
mod transformer;

use crate::Result;
use crate::digest::sha256;
use crate::numerics::Real;

/// The links of contract N1, one `name hash` a line.
pub const EXPECTED: &str = include_str!("expected.txt");

/// One computation and the hash of what came out.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Link {
    /// `area.what`.
    pub name: String,
    /// SHA-256 of its numbers, in hexadecimal.
    pub sha256: String,
}

/// The links in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Chain {
    /// From the first to the last.
    pub links: Vec<Link>,
}

/// A link that is not as it was expected.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Difference {
    /// The first such link.
    pub name: String,
    /// The expected hash, if such a link was expected here.
    pub expected: Option<String>,
    /// The hash that was found, if there is such a link.
    pub found: Option<String>,
    /// What that means.
    pub meaning: &'static str,
}

/// Links about one thing.
struct Area {
    name: &'static str,
    /// What it means where this area is the first with a difference.
    meaning: &'static str,
    links: fn(&mut Chain) -> Result<()>,
}

/// From what everything stands on to what stands on everything.
const AREAS: [Area; 10] = [
    Area {
        name: "arithmetic",
        meaning: "One of + - * / sqrt or fused multiply-add is not rounded once, as IEEE 754 has it. Look at the \
                  compiler's options, at an emulator if there is one, and at src/numerics/fused.rs where the processor \
                  has no FMA. No result of this build is to be trusted.",
        links: arithmetic::links,
    },
    Area {
        name: "elementary",
        meaning: "Arithmetic is right, so a function of src/numerics/elementary or the version of the crate libm is \
                  another, or the compiler changed the order of its operations.",
        links: elementary::links,
    },
    Area {
        name: "random",
        meaning: "Elementary functions are right, so a random stream is another: see src/numerics/rng.rs. Every run draws \
                  other numbers.",
        links: random::links,
    },
    Area {
        name: "sums",
        meaning: "A sum is taken in another order: see src/numerics/sum.rs and parallel.rs.",
        links: sums::links,
    },
    Area {
        name: "products",
        meaning: "The kernel adds in another order than rule 2 says: see src/numerics/gemm.rs, and try ANCESTRAL_PATH=portable.",
        links: products::links,
    },
    Area {
        name: "layers",
        meaning: "Products and sums are right, so it is this layer: see src/layers and the order that its file states.",
        links: layers::links,
    },
    Area {
        name: "tables",
        meaning: "A table in f64 is another: see src/diffusion/schedule.rs, src/sample/timesteps.rs and src/train/learning_rate.rs.",
        links: tables::links,
    },
    Area {
        name: "network",
        meaning: "Every part is right, so it is how they are put together: the U-Net, the order of microbatches, the optimizer or \
                  a sampler. The first training step that differs is the first to look at.",
        links: network::links,
    },
    Area {
        name: "transformer",
        meaning: "The U-Net is right, so it is a layer that only a transformer has, or how its blocks are put together: see \
                  src/layers/modulate.rs, affine.rs, patch.rs and position.rs, and src/models/dit.",
        links: transformer::links,
    },
    Area {
        name: "samplers",
        meaning: "Networks are right, so it is what is known of images exactly (src/denoise/oracle), or the sampler that the link \
                  names: its file in src/sample, or its levels in src/sample/chain.",
        links: samplers::links,
    },
];

/// Computes all links, on the threads of the current pool.
///
/// # Errors
/// A number that is not finite, in training or sampling: on no machine that holds the contract.
pub fn run() -> Result<Chain> {
    let mut chain = Chain::default();
    AREAS.iter().try_for_each(|area| (area.links)(&mut chain))?;
    Ok(chain)
}

impl Chain {
    /// Adds the link of these numbers.
    fn numbers<F: Real>(&mut self, name: impl Into<String>, numbers: &[F]) {
        let bytes = |&x: &F| match (size_of::<F>(), !x.to_f64().is_nan()) {
            (4, true) => (x.to_f64() as f32).to_le_bytes().to_vec(),
            (4, false) => 0x7fc0_0000_u32.to_le_bytes().to_vec(),
            (_, true) => x.to_f64().to_le_bytes().to_vec(),
            (_, false) => 0x7ff8_0000_0000_0000_u64.to_le_bytes().to_vec(),
        };
        let bytes: Vec<u8> = numbers.iter().flat_map(bytes).collect();
        self.links.push(Link { name: name.into(), sha256: sha256(&bytes) });
    }

    /// Adds the link of these integers, eight bytes each.
    fn integers(&mut self, name: impl Into<String>, integers: &[u64]) {
        let bytes: Vec<u8> = integers.iter().flat_map(|i| i.to_le_bytes()).collect();
        self.links.push(Link { name: name.into(), sha256: sha256(&bytes) });
    }

    /// One `name hash` a line, as in `expected.txt`.
    pub fn lines(&self) -> String {
        self.links.iter().map(|link| format!("{} {}\n", link.name, link.sha256)).collect()
    }

    /// The running hash after the last link.
    pub fn sha256(&self) -> String {
        sha256(self.lines().as_bytes())
    }

    /// The first link that is not that of `expected`, lines of `name hash`. Lines of any other form are passed over, so
    /// the text that another machine printed will do.
    pub fn first_difference(&self, expected: &str) -> Option<Difference> {
        let mut expected = expected.lines().filter_map(link);
        let mut found = self.links.iter().map(|link| (link.name.as_str(), link.sha256.as_str()));
        loop {
            let (expected, found) = (expected.next(), found.next());
            if expected == found {
                expected?;
                continue;
            }
            let name = found.or(expected).expect("two Nones are equal").0;
            let hash_of = |link: Option<(&str, &str)>| link.filter(|link| link.0 == name).map(|link| link.1.to_owned());
            return Some(Difference {
                name: name.to_owned(),
                expected: hash_of(expected),
                found: hash_of(found),
                meaning: meaning(name, hash_of(expected).is_some() && hash_of(found).is_some()),
            });
        }
    }
}

/// `area.what hash`, if the line is one.
fn link(line: &str) -> Option<(&str, &str)> {
    let (name, hash) = line.split_once(' ')?;
    let hexadecimal = hash.len() == 64 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    (name.contains('.') && hexadecimal).then_some((name, hash))
}

fn meaning(name: &str, in_both: bool) -> &'static str {
    if !in_both {
        return "The two lists are of different versions of this program; no number is known to differ.";
    }
    let area = AREAS.iter().find(|area| name.split('.').next() == Some(area.name));
    area.map_or("The two lists are of different versions of this program.", |area| area.meaning)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chain() -> Chain {
        let mut chain = Chain::default();
        chain.numbers("arithmetic.one", &[1.0f32, -0.0]);
        chain.numbers("sums.two", &[2.0f64]);
        chain.integers("network.three", &[3]);
        chain
    }

    #[test]
    fn chain_names_the_first_link_that_differs_and_what_it_means() {
        let planted = chain().lines().replace(&chain().links[1].sha256, &"0".repeat(64));
        let planted = planted.replace(&chain().links[2].sha256, &"1".repeat(64));
        let difference = chain().first_difference(&planted).expect("a difference");
        assert_eq!((difference.name.as_str(), difference.expected), ("sums.two", Some("0".repeat(64))));
        assert_eq!(difference.found.as_ref(), Some(&chain().links[1].sha256));
        assert!(difference.meaning.contains("sum.rs"));
    }

    #[test]
    fn chain_that_lacks_a_link_or_has_one_too_many_differs_there() {
        let lines = chain().lines();
        let without_last: String = lines.lines().take(2).map(|line| format!("{line}\n")).collect();
        let difference = chain().first_difference(&without_last).expect("a difference");
        assert_eq!((difference.name.as_str(), difference.expected), ("network.three", None));
        let more = format!("{lines}network.four {}\n", "0".repeat(64));
        let difference = chain().first_difference(&more).expect("a difference");
        assert_eq!((difference.name.as_str(), difference.found), ("network.four", None));
    }

    #[test]
    fn chain_equals_its_own_lines_among_any_others() {
        let text = format!("threads 2\n{}\nchain {}\nreproduces N1\n", chain().lines(), chain().sha256());
        assert_eq!(chain().first_difference(&text), None);
    }

    #[test]
    fn link_of_any_nan_is_that_of_the_one_nan_and_of_minus_zero_its_own() {
        let hash = |x: f32| {
            let mut chain = Chain::default();
            chain.numbers("x", &[x]);
            chain.sha256()
        };
        assert_eq!(hash(f32::from_bits(0xffc0_0001)), hash(f32::from_bits(0x7fc0_0000)));
        assert_ne!(hash(-0.0), hash(0.0));
    }
}
