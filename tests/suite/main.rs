//! The library as a user has it, in one test binary: against foreign numbers, and against itself run otherwise.

mod bits;
mod callers;
mod contract;
mod dit;
mod editing;
mod elementary_sweep;
mod golden;
mod guidance;
mod layers;
mod likelihood;
mod objectives;
mod optimizer;
mod peer;
mod published;
mod reproducibility;
mod schedulers;
mod selftest;
mod training;
mod unet;
mod whole_network;
