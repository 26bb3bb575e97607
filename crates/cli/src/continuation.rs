//! Whether the run in a folder goes on with a plan: what may differ, what is said of it, and what is refused.

use std::collections::BTreeMap;
use std::fs;

use anyhow::{Context as _, Result, bail};
use mm1_data::store::DataStamp;
use mm1_model::device::DeviceName;
use toml::{Table, Value};

use crate::checkpoints;
use crate::error::InputError;
use crate::evaluation::{remove_samples, replace_scores};
use crate::output::tell;
use crate::recipe::{Recipe, Stage};
use crate::run_folder::{PLAN, RunFolder};
use crate::sources::captions_of;

/// What is done where the files of a source are no longer those that the run was begun with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChangedData {
    /// The run stops.
    Refuse,
    /// The run goes on, and says so.
    Accept,
}

/// A run as it will be done, and what it was begun with.
pub(crate) struct Continuation<'a> {
    /// `plan.toml` as this run writes it.
    pub(crate) plan: Table,
    pub(crate) recipe: &'a Recipe,
    /// Of each source that has files.
    pub(crate) data: BTreeMap<String, DataStamp>,
    pub(crate) changed_data: ChangedData,
}

impl Continuation<'_> {
    /// Writes `plan.toml` before the first step. Later, refuses a plan whose `settled` part differs, but for
    /// more steps; says what else has changed.
    ///
    /// # Errors
    /// [`InputError`] with the first setting that differs, old and new; data that has changed.
    pub(crate) fn settle(mut self, folder: &RunFolder) -> Result<()> {
        let instruction_set = Value::String(mm1_kernels::cpu::isa().name().to_owned());
        self.plan.insert(SETS.to_owned(), Value::Array(vec![instruction_set.clone()]));
        self.put_devices(&[self.recipe.device]);
        if !self.data.is_empty() {
            self.plan.insert(DATA.to_owned(), Value::try_from(&self.data)?);
        }
        let Some(old) = folder.plan()? else {
            if folder.has_results() {
                bail!(self.refused(folder, "it has checkpoints or answers, and no plan.toml"));
            }
            return self.write(folder);
        };
        let now = self.plan["settled"].clone();
        let before = reread(&old["settled"], &now);
        if let Some(difference) = difference(&before, &now, "") {
            if !folder.has_results() {
                tell(format_args!("the run in this folder had done no step: it begins anew ({difference})"));
                return self.begin_anew(folder);
            }
            match more_steps(&before, &now) {
                Some(stages) => self.extend(folder, &stages, &difference)?,
                None => {
                    bail!(self.refused(folder, &format!("this folder belongs to another run ({difference})")))
                }
            }
        }
        self.check_data(folder, &old)?;
        self.note_instruction_set(&old, &instruction_set);
        self.note_device(&old);
        // What another version of this program wrote stays, where nothing has changed.
        if [SETS, DEVICES, DATA].into_iter().any(|part| old.get(part) != self.plan.get(part)) || before != now
        {
            self.write(folder)?;
        }
        Ok(())
    }

    fn refused(&self, folder: &RunFolder, why: &str) -> InputError {
        InputError::new(format!(
            "--out {}: {why}; take another folder, or the recipe and --set of its plan.toml",
            folder.root().display()
        ))
    }

    fn write(&self, folder: &RunFolder) -> Result<()> {
        folder.write(PLAN, toml::to_string(&self.plan)?.as_bytes())
    }

    /// The plan first: a kill between the two leaves lines of a run that has done no step.
    fn begin_anew(&self, folder: &RunFolder) -> Result<()> {
        self.write(folder)?;
        match fs::remove_file(folder.metrics()) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(e).context("metrics.jsonl"),
            _ => Ok(()),
        }
    }

    /// Gives more steps to `stages`: what was measured after them is measured again.
    fn extend(&self, folder: &RunFolder, stages: &[String], difference: &str) -> Result<()> {
        let Some(first) = self.recipe.stage.iter().position(|stage| stages.iter().any(|s| s == stage.name()))
        else {
            return Ok(());
        };
        let name = self.recipe.stage[first].name();
        for later in &self.recipe.stage[first + 1..] {
            let (root, of) = (folder.root(), later.name());
            let trained = later.training().is_some() && checkpoints::of_stage(root, of).is_dir();
            let written = later.recaption().is_some() && captions_of(root, of).is_dir();
            if trained || written {
                let what = if trained { "was trained" } else { "has written captions" };
                bail!(self.refused(
                    folder,
                    &format!(
                        "this folder belongs to another run ({difference}): stage {name} can't have more \
                         steps, since stage {of} {what} after it"
                    )
                ));
            }
        }
        for later in &self.recipe.stage[first + 1..] {
            if matches!(later, Stage::Eval(_) | Stage::Probe(_)) {
                let answers = folder.root().join("eval").join(later.name());
                if answers.exists() {
                    fs::remove_dir_all(&answers).with_context(|| answers.display().to_string())?;
                }
                remove_samples(folder, later.name())?;
                replace_scores(folder, later.name(), Vec::new())?;
            }
        }
        tell(format_args!(
            "more steps for {}: the schedule of the learning rate is that of all steps, so a run that had \
             them from its start gives other digits; what was measured is measured again",
            stages.join(", ")
        ));
        Ok(())
    }

    /// Compares the files of each source with those that the run was begun with.
    fn check_data(&self, folder: &RunFolder, old: &Table) -> Result<()> {
        // A plan from before this was written says nothing.
        let Some(old) = old.get(DATA).and_then(|data| data.clone().try_into().ok()) else { return Ok(()) };
        let old: BTreeMap<String, DataStamp> = old;
        for (name, now) in &self.data {
            let Some(changed) = old.get(name).and_then(|then| now.changed_since(then)) else { continue };
            if self.changed_data == ChangedData::Accept {
                tell(format_args!(
                    "mm1: warning: data.{name} has changed since this run was begun: {changed}"
                ));
                continue;
            }
            bail!(InputError::new(format!(
                "--out {}: data.{name} has changed since this run was begun ({changed}): bring it back, take \
                 another folder, or go on with it by --accept-changed-data",
                folder.root().display()
            )));
        }
        Ok(())
    }

    /// Adds the instruction set to those that the run was computed with.
    fn note_instruction_set(&mut self, old: &Table, now: &Value) {
        let mut sets = old.get(SETS).and_then(Value::as_array).cloned().unwrap_or_default();
        match sets.last() {
            Some(last) if last == now => {}
            Some(last) => {
                tell(format_args!(
                    "mm1: warning: this run was computed with the instruction set {last} and goes on with \
                     {now}: its last digits differ from those of one machine (MM1_ISA chooses the set)"
                ));
                sets.push(now.clone());
            }
            None => sets.push(now.clone()),
        }
        self.plan.insert(SETS.to_owned(), Value::Array(sets));
    }

    /// Adds the device to those that the run was computed on.
    fn note_device(&mut self, old: &Table) {
        let now = self.recipe.device;
        let mut devices: Vec<DeviceName> =
            old.get(DEVICES).and_then(|devices| devices.clone().try_into().ok()).unwrap_or_default();
        let last = devices.last().copied().unwrap_or_default();
        if last != now {
            tell(format_args!(
                "mm1: warning: this run was computed on {last} and goes on with {now}: its last digits are \
                 not those of one device"
            ));
            if devices.is_empty() {
                devices.push(last);
            }
            devices.push(now);
        }
        self.put_devices(&devices);
    }

    fn put_devices(&mut self, devices: &[DeviceName]) {
        self.plan.remove(DEVICES);
        if devices.iter().any(|device| *device != DeviceName::default()) {
            let names = devices.iter().map(|device| Value::String(device.to_string()));
            self.plan.insert(DEVICES.to_owned(), Value::Array(names.collect()));
        }
    }
}

/// The instruction sets that a run was computed with, in this order.
pub(crate) const SETS: &str = "instruction_sets";
/// The devices that a run was computed on, in this order; left out where it was the CPU alone.
pub(crate) const DEVICES: &str = "devices";
/// What the files of the sources were like when the run was begun.
pub(crate) const DATA: &str = "data";
/// The recipe's device.
const DEVICE: &str = "device";
/// What a plan says of memory.
const ESTIMATE: &str = "state_mib";

/// An old settled part as this version would write it: fields that are new or have another name since then do
/// not make it another run. Nor does an estimate of memory, which a version may make otherwise, nor the
/// device, nor what the run is called: two studies may have it in common.
fn reread(settled: &Value, now: &Value) -> Value {
    let mut settled = settled.clone();
    let name = |settled: &Value| settled.get("recipe").and_then(|recipe| recipe.get("name")).cloned();
    if let (Some(old), Some(new)) = (settled.get_mut("recipe").and_then(|r| r.get_mut("name")), name(now)) {
        *old = new;
    }
    if let Some(old) = settled.get_mut("recipe").and_then(Value::as_table_mut) {
        old.remove(DEVICE);
        old.extend(now.get("recipe").and_then(|new| Some((DEVICE.to_owned(), new.get(DEVICE)?.clone()))));
    }
    if let Some(recipe) = settled.get_mut("recipe")
        && let Ok(reread) = Recipe::reread(recipe)
    {
        *recipe = reread;
    }
    let estimate = settled.get_mut("derived").and_then(|derived| derived.get_mut(ESTIMATE));
    if let (Some(old), Some(new)) = (estimate, now.get("derived").and_then(|derived| derived.get(ESTIMATE))) {
        *old = new.clone();
    }
    settled
}

/// The stages that have more steps in `now`, if nothing else differs from `before`.
fn more_steps(before: &Value, now: &Value) -> Option<Vec<String>> {
    let mut extended = before.clone();
    let new = now.get("recipe")?.get("stage")?.as_array()?;
    let mut stages = Vec::new();
    for (stage, new) in extended.get_mut("recipe")?.get_mut("stage")?.as_array_mut()?.iter_mut().zip(new) {
        let (Some(steps), Some(more)) = (stage.get_mut("steps"), new.get("steps")) else { continue };
        if more.as_integer()? > steps.as_integer()? {
            *steps = more.clone();
            stages.push(new.get("name")?.as_str()?.to_owned());
        }
    }
    (extended == *now).then_some(stages)
}

/// The first place where two plans differ, as `path: old, now new`.
fn difference(old: &Value, new: &Value, path: &str) -> Option<String> {
    use Value::{Array, Table};
    let under = |key: &str| if path.is_empty() { key.to_string() } else { format!("{path}.{key}") };
    match (old, new) {
        (Table(a), Table(b)) => a.keys().chain(b.keys()).find_map(|key| match (a.get(key), b.get(key)) {
            (Some(a), Some(b)) => difference(a, b, &under(key)),
            (Some(a), None) => Some(format!("{}: {a}, now absent", under(key))),
            (None, Some(b)) => Some(format!("{}: absent, now {b}", under(key))),
            (None, None) => None,
        }),
        (Array(a), Array(b)) if a.len() == b.len() => {
            a.iter().zip(b).enumerate().find_map(|(i, (a, b))| difference(a, b, &under(&i.to_string())))
        }
        (a, b) if a == b => None,
        (Array(a), Array(b)) => Some(format!("{path}: {} entries, now {}", a.len(), b.len())),
        (a, b) => Some(format!("{path}: {a}, now {b}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn value(text: &str) -> Value {
        Value::Table(text.parse().expect("toml"))
    }

    #[test]
    fn the_first_difference_is_named() {
        let (old, new) = (value("a = 1\n[b]\nc = [1, 2]"), value("a = 1\n[b]\nc = [1, 3]"));
        assert_eq!(difference(&old, &old, ""), None);
        assert_eq!(difference(&old, &new, "").as_deref(), Some("b.c.1: 2, now 3"));
        assert_eq!(difference(&old, &value("a = 1"), "").as_deref(), Some("b: { c = [1, 2] }, now absent"));
    }

    #[test]
    fn more_steps_and_nothing_else_are_more_steps() {
        let plan = |a: u64, b: u64, rows: u64| {
            value(&format!(
                "[[recipe.stage]]\nname = \"a\"\nsteps = {a}\n[[recipe.stage]]\nname = \"b\"\nsteps = \
                 {b}\nrows = {rows}"
            ))
        };
        assert_eq!(more_steps(&plan(4, 4, 1), &plan(4, 6, 1)), Some(vec!["b".to_owned()]));
        assert_eq!(more_steps(&plan(4, 4, 1), &plan(5, 6, 1)), Some(vec!["a".to_owned(), "b".to_owned()]));
        for other in [plan(4, 3, 1), plan(4, 6, 2), plan(3, 6, 1), value("[recipe]\nstage = []")] {
            assert_eq!(more_steps(&plan(4, 4, 1), &other), None, "{other}");
        }
    }
}
