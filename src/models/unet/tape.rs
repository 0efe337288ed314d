//! The caches of one forward pass, as a stack: pushed in the order of the layers, popped in reverse.

use super::{attention_block, embedder, res_block};
use crate::layers::{conv2d, group_norm};
use crate::models::Trace;
use crate::models::passes::Pass;
use crate::numerics::Real;

/// The caches of a forward pass, the last layer's on top.
#[derive(Debug)]
pub struct Tape<F: Real> {
    entries: Vec<Entry<F>>,
    /// Whether a backward pass follows.
    pub(super) keeps: bool,
    /// What else is kept of the pass, for people.
    pub(super) trace: Trace<F>,
}

#[derive(Debug)]
enum Entry<F: Real> {
    Conv(conv2d::Cache<F>),
    Embedding(Box<embedder::Cache<F>>),
    Norm(group_norm::Cache<F>),
    Res(Box<res_block::Cache<F>>),
    Attention(Box<attention_block::Cache<F>>),
    Concat(usize),
}

impl<F: Real> Tape<F> {
    /// A tape that keeps what the pass asks for: a cache is dropped where it would be pushed, if it does not.
    pub(super) fn new(pass: Pass) -> Self {
        let trace = if pass.traced { Trace::on() } else { Trace::off() };
        Tape { entries: Vec::new(), keeps: pass.keeps, trace }
    }

    fn push(&mut self, entry: impl FnOnce() -> Entry<F>) {
        if self.keeps {
            self.entries.push(entry());
        }
    }

    pub(super) fn conv(&mut self, cache: conv2d::Cache<F>) {
        self.push(|| Entry::Conv(cache));
    }

    pub(super) fn embedding(&mut self, cache: embedder::Cache<F>) {
        self.push(|| Entry::Embedding(Box::new(cache)));
    }

    pub(super) fn norm(&mut self, cache: group_norm::Cache<F>) {
        self.push(|| Entry::Norm(cache));
    }

    pub(super) fn res(&mut self, cache: res_block::Cache<F>) {
        self.push(|| Entry::Res(Box::new(cache)));
    }

    pub(super) fn attention(&mut self, cache: attention_block::Cache<F>) {
        self.push(|| Entry::Attention(Box::new(cache)));
    }

    /// A concatenation, with the channels of its first part.
    pub(super) fn concat(&mut self, channels: usize) {
        self.push(|| Entry::Concat(channels));
    }
}

macro_rules! pop {
    ($($name:ident: $pattern:pat => $value:expr, $type:ty;)*) => {
        impl<F: Real> Tape<F> {
            $(pub(super) fn $name(&mut self) -> $type {
                match self.entries.pop() {
                    Some($pattern) => $value,
                    _ => panic!("tape: backward takes {} where forward pushed another", stringify!($name)),
                }
            })*
        }
    };
}

pop! {
    pop_conv: Entry::Conv(cache) => cache, conv2d::Cache<F>;
    pop_embedding: Entry::Embedding(cache) => *cache, embedder::Cache<F>;
    pop_norm: Entry::Norm(cache) => cache, group_norm::Cache<F>;
    pop_res: Entry::Res(cache) => *cache, res_block::Cache<F>;
    pop_attention: Entry::Attention(cache) => *cache, attention_block::Cache<F>;
    pop_concat: Entry::Concat(channels) => channels, usize;
}
