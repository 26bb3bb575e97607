//! Reports: a run folder becomes one HTML file with curves, tables and pictures. Studies: what settings
//! score apart ([`study`]), and how the best learning rate follows the size ([`law`]). No tensor engine.

pub mod ablation;
mod axis;
pub mod balance;
pub mod braille;
pub mod comparison;
pub mod estimate;
pub mod grid;
mod hover;
pub mod law;
pub mod live;
mod number;
mod overlap;
mod overlay;
pub mod plot;
pub mod process;
pub mod recaptioned;
pub mod record;
pub mod report;
mod result;
pub mod run;
mod section;
pub mod study;
pub mod tensorboard;
mod verdict;
mod words;
