//! What an axis of a study has shown, as a sentence that says no more than the intervals do.

use super::comparison::{AxisClaim, AxisComparison, SettingDifference};

/// One sentence for the axis, such as `connector kind: no difference found (largest −0.8 ± 1.3)`,
/// `tokens 16 → 64: +6.1 ± 1.2` or `connector kind: equivalent within ± 2 (largest +0.4 ± 0.9)`. A number
/// after ± is half of the 95% interval, rounded up.
pub fn sentence(axis: &AxisComparison) -> String {
    let seeds = axis.differences.iter().map(|of| of.difference.seeds).min();
    let caveat = match seeds {
        None => return format!("{}: nothing to compare", axis.axis),
        Some(1) => "; of one seed: the chance of another training is not in it",
        Some(_) => "",
    };
    let (found, not): (Vec<_>, Vec<_>) = axis.differences.iter().partition(|of| of.is_found());
    let shown = match axis.claim {
        AxisClaim::EquivalentWithin(margin) if axis.is_equivalent() => {
            let all: Vec<_> = axis.differences.iter().collect();
            format!("{}: equivalent within ± {margin} ({})", axis.axis, largest(&all))
        }
        _ => {
            let mut parts: Vec<String> =
                found.iter().map(|of| format!("{} → {}: {}", axis.base, of.value, plus_minus(of))).collect();
            match (parts.is_empty(), not_found(&not)) {
                (true, Some(none)) => format!("{}: {none}", axis.axis),
                (_, none) => {
                    parts.extend(none.map(|none| format!("{}: {none}", names(&not))));
                    format!("{} {}", axis.axis, parts.join("; "))
                }
            }
        }
    };
    let missed = match axis.claim {
        AxisClaim::EquivalentWithin(margin) if !axis.is_equivalent() => {
            format!("; not shown to be equivalent within ± {margin}")
        }
        _ => String::new(),
    };
    format!("{shown}{missed}{caveat}")
}

/// What is said of differences that were not found; `None` where all were.
fn not_found(differences: &[&SettingDifference]) -> Option<String> {
    let first = differences.first()?;
    let alone = differences.iter().any(|of| of.is_found_alone());
    let lost = format!("no difference holds up among {} comparisons", first.comparisons);
    let said = if alone { lost } else { "no difference found".to_owned() };
    Some(format!("{said} ({})", largest(differences)))
}

/// `largest −0.8 ± 1.3`; without the word where there is one only.
fn largest(differences: &[&SettingDifference]) -> String {
    let size = |of: &&&SettingDifference| of.difference.estimate.value.abs();
    let most = differences.iter().max_by(|a, b| size(a).total_cmp(&size(b)));
    let shown = most.map(|of| plus_minus(of)).unwrap_or_default();
    if differences.len() > 1 { format!("largest {shown}") } else { shown }
}

fn names(differences: &[&SettingDifference]) -> String {
    differences.iter().map(|of| of.value.as_str()).collect::<Vec<_>>().join(", ")
}

/// `+6.1 ± 1.2`: two digits of an interval below 1, one behind the point of a wider one.
fn plus_minus(of: &SettingDifference) -> String {
    let (value, half) = (of.difference.estimate.value, of.difference.estimate.half_width());
    let digits = if half > 0.0 { (1.0 - half.log10().floor()).clamp(1.0, 6.0) as usize } else { 1 };
    let unit = 10_f64.powi(digits as i32);
    // The last digit of what is exact in decimals must not be rounded up by its binary form.
    let half = (half * unit - 1e-9).max(0.0).ceil() / unit;
    let sign = if value < 0.0 { "−" } else { "+" };
    format!("{sign}{:.digits$} ± {half:.digits$}", value.abs())
}
