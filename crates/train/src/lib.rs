//! One optimisation step and all it takes to resume it.
