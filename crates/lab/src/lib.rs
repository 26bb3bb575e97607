//! Reports: a run folder becomes one HTML file with curves, tables and pictures. No tensor engine.

pub mod ablation;
mod axis;
mod hover;
mod number;
mod overlap;
pub mod plot;
pub mod process;
pub mod record;
pub mod report;
mod result;
pub mod run;
mod section;
mod verdict;
