//! Reports: a run folder becomes one HTML file with curves, tables and pictures. No tensor engine.

pub mod ablation;
mod axis;
pub mod plot;
pub mod report;
mod result;
pub mod run;
mod section;
