//! [`StudyGrid`]: the settings of a study and their combinations, from the `[ablation]` table of a recipe.
//!
//! Nothing is known here of recipes: a setting is a path with a value, as `--set` has them.

pub mod axis;
mod check;

use std::collections::BTreeMap;

use anyhow::{Result, ensure};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use toml::Value;

use self::axis::{AblationAxis, AxisValue, GridAxis, ValueName};
use crate::ablation::PaperTable;

/// The most combinations of a study, those that are left out among them: far more than anyone trains, and few
/// enough to be held.
const MOST: usize = 1 << 16;

/// A study, `[ablation]`: many runs of one recipe, done by `mm1 ablate`; `mm1 run` refuses it.
#[derive(Clone, Debug, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Ablation {
    /// What is changed; every combination of one value from each axis is one run.
    #[schemars(length(min = 1))]
    pub(crate) axis: Vec<AblationAxis>,
    /// Combinations that are left out: for each a table of axes with their values, such as
    /// `{ kind = "average-pool", tokens = 64 }`. What a table does not name may be anything. By default none
    /// is.
    #[serde(default)]
    pub(crate) exclude: Vec<BTreeMap<String, ValueName>>,
    /// The value of each axis that its other values are compared with, such as `{ tokens = 16 }`. By default
    /// the first value of each axis.
    #[serde(default)]
    pub(crate) base: BTreeMap<String, ValueName>,
    /// The paper's table, printed beside this one; by default none is.
    #[serde(default)]
    pub(crate) paper: Option<PaperTable>,
}

/// All combinations of a study.
#[derive(Clone, Debug)]
pub struct StudyGrid {
    /// In the order in which the recipe has them.
    pub axes: Vec<GridAxis>,
    /// One for each run; the last axis changes fastest.
    pub combinations: Vec<Combination>,
    /// The paper's table, if the recipe has one.
    pub paper: Option<PaperTable>,
}

/// One value from each axis.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Combination {
    /// Which value of each axis, from 0.
    pub places: Vec<usize>,
}

impl Ablation {
    /// The axes and all combinations that are not left out.
    ///
    /// # Errors
    /// One line with the field and the remedy: an axis without values or with two forms of them, a name or
    /// setting that comes twice, an axis or value that is not there, more than 65,536 combinations, an
    /// exclusion without effect.
    pub fn grid(&self) -> Result<StudyGrid> {
        let mut axes =
            self.axis.iter().enumerate().map(|(i, axis)| axis.resolve(i)).collect::<Result<Vec<_>>>()?;
        check::distinct(&axes)?;
        for (axis, value) in &self.base {
            let (axis, place) = check::find(&axes, "base", axis, value)?;
            axes[axis].base = place;
        }
        let mut excluded = Vec::new();
        for (i, table) in self.exclude.iter().enumerate() {
            ensure!(!table.is_empty(), "exclude.{i} is empty and would leave out all: name axes and values");
            let field = format!("exclude.{i}");
            let places = table.iter().map(|(axis, value)| check::find(&axes, &field, axis, value));
            excluded.push(places.collect::<Result<Vec<_>>>()?);
        }
        check::exclusions(&axes, &excluded)?;
        let matches = |of: &Combination, exclude: &[(usize, usize)]| {
            exclude.iter().all(|&(axis, place)| of.places[axis] == place)
        };
        if let Some(paper) = &self.paper {
            paper.check()?;
        }
        let count = axes.iter().try_fold(1_usize, |count, axis| count.checked_mul(axis.values.len()));
        ensure!(
            count.is_some_and(|count| count <= MOST),
            "ablation.axis: all values of {} axes with each other are more than {MOST} combinations: take \
             fewer axes or values",
            axes.len()
        );
        let mut combinations = all(&axes);
        for (i, exclude) in excluded.iter().enumerate() {
            let before = combinations.len();
            combinations.retain(|of| !matches(of, exclude));
            ensure!(
                combinations.len() < before,
                "exclude.{i} leaves out nothing that those before it have not left out: remove it"
            );
        }
        ensure!(!combinations.is_empty(), "exclude leaves no combination: remove one of them");
        Ok(StudyGrid { axes, combinations, paper: self.paper.clone() })
    }
}

/// Every choice of one value from each axis, the last changing fastest.
fn all(axes: &[GridAxis]) -> Vec<Combination> {
    let none = vec![Combination { places: Vec::new() }];
    axes.iter().fold(none, |cells, axis| {
        let with = |cell: &Combination, place| Combination { places: [&cell.places[..], &[place]].concat() };
        cells.iter().flat_map(|cell| (0..axis.values.len()).map(move |place| with(cell, place))).collect()
    })
}

impl StudyGrid {
    /// The values of a combination, in the order of the axes.
    pub fn values<'a>(&'a self, of: &'a Combination) -> impl Iterator<Item = &'a AxisValue> {
        self.axes.iter().zip(&of.places).map(|(axis, &place)| &axis.values[place])
    }

    /// The names of its values.
    pub fn names(&self, of: &Combination) -> Vec<String> {
        self.values(of).map(|value| value.name.clone()).collect()
    }

    /// Its settings, each with its path.
    pub fn settings<'a>(&'a self, of: &'a Combination) -> impl Iterator<Item = (&'a String, &'a Value)> {
        self.values(of).flat_map(|value| &value.set)
    }

    /// Whether an axis repeats every setting with other seeds.
    pub fn repeats(&self) -> bool {
        self.axes.iter().any(|axis| axis.repeats)
    }
}
