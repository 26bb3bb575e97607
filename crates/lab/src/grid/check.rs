//! What is wrong with the axes of a study together.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};

use super::axis::{GridAxis, ValueName};

/// Refuses two axes of one name, and two that change the same setting.
///
/// # Errors
/// The name or the setting, with the remedy.
pub(super) fn distinct(axes: &[GridAxis]) -> Result<()> {
    ensure!(!axes.is_empty(), "ablation.axis needs values to choose from: add an [[ablation.axis]]");
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    for (i, axis) in axes.iter().enumerate() {
        let name = &axis.name;
        ensure!(
            axes[..i].iter().all(|before| before.name != *name),
            "two axes have the name \"{name}\": give one of them another name = \"…\""
        );
        for path in axis.values.iter().flat_map(|value| value.set.keys()) {
            match owners.insert(path, name) {
                Some(other) if other != name => {
                    bail!("the axes \"{other}\" and \"{name}\" both set {path}: set it in one of them alone")
                }
                _ => {}
            }
            // A whole table that is set later would take the setting of the axis before back.
            let inside = owners.iter().find(|(set, owner)| **owner != name.as_str() && is_inside(set, path));
            if let Some((set, owner)) = inside {
                bail!(
                    "the axis \"{name}\" sets {path} as a whole and comes after \"{owner}\", which sets \
                     {set}: put it before that axis"
                );
            }
        }
    }
    Ok(())
}

/// Whether a setting is one of the table at `path`.
fn is_inside(setting: &str, path: &str) -> bool {
    setting.strip_prefix(path).is_some_and(|rest| rest.starts_with('.'))
}

/// The places of the axis and of its value that `field` names.
///
/// # Errors
/// The axes or values that there are.
pub(super) fn find(axes: &[GridAxis], field: &str, axis: &str, value: &ValueName) -> Result<(usize, usize)> {
    let there = |names: Vec<&str>| names.join(", ");
    let found = axes.iter().position(|of| of.name == axis).with_context(|| {
        let names = axes.iter().map(|axis| axis.name.as_str()).collect();
        format!("{field}: no axis has the name \"{axis}\"; there are: {}", there(names))
    })?;
    let (values, value) = (&axes[found].values, value.to_string());
    let place = values.iter().position(|of| of.name == value).with_context(|| {
        let names = values.iter().map(|value| value.name.as_str()).collect();
        format!("{field}: the axis \"{axis}\" has no value \"{value}\"; it has: {}", there(names))
    })?;
    Ok((found, place))
}

/// Refuses exclusions of single seeds, by which settings could not be compared, and of the base.
///
/// # Errors
/// Which one, and the remedy.
pub(super) fn exclusions(axes: &[GridAxis], excluded: &[Vec<(usize, usize)>]) -> Result<()> {
    for (i, exclude) in excluded.iter().enumerate() {
        let seeds = exclude.iter().find(|(axis, _)| axes[*axis].repeats);
        if let Some((axis, _)) = seeds {
            bail!(
                "exclude.{i}: \"{}\" repeats every setting: a setting that lacks a seed could not be \
                 compared; exclude whole settings",
                axes[*axis].name
            );
        }
        let of_base = exclude.iter().all(|&(axis, place)| axes[axis].base == place);
        ensure!(
            !of_base,
            "exclude.{i} leaves out the base, with which others are compared: set ablation.base to another \
             combination"
        );
    }
    Ok(())
}
