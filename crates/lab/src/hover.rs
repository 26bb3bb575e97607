//! What a curve shows under the pointer: strips of the plot, each with a line and its values, which the style
//! sheet shows while the pointer is in it. No script, so that the page stays a document.

use std::fmt::Write as _;

use crate::number::grouped;

/// Strips of a plot at most.
const STRIPS: usize = 50;

/// Where a plot's area lies, in the units of its picture.
pub(crate) struct PlotArea {
    /// From the left to the right end.
    pub(crate) across: (f64, f64),
    /// From the upper to the lower end.
    pub(crate) down: (f64, f64),
}

/// The strips over measured `points` and their moving average, which is empty where none is drawn. `across`
/// places a value of the horizontal axis, which is called `x`.
pub(crate) fn strips(
    area: &PlotArea,
    x: &str,
    points: &[(f64, f64)],
    smooth: &[(f64, f64)],
    across: impl Fn(f64) -> f64,
) -> String {
    let groups: Vec<&[(f64, f64)]> = points.chunks(points.len().div_ceil(STRIPS).max(1)).collect();
    let middle = |group: &[(f64, f64)]| across((group[0].0 + group[group.len() - 1].0) / 2.0);
    let middles: Vec<f64> = groups.iter().map(|group| middle(group)).collect();
    let (top, bottom) = area.down;
    let mut svg = String::new();
    for (i, group) in groups.iter().enumerate() {
        let Some(text) = described(x, group, smooth) else { continue };
        let at = middles[i];
        let left = if i == 0 { area.across.0 } else { (middles[i - 1] + at) / 2.0 };
        let right = middles.get(i + 1).map_or(area.across.1, |next| (at + next) / 2.0);
        let _ = write!(
            svg,
            "<g class=\"at\"><rect x=\"{left:.1}\" y=\"{top:.0}\" width=\"{:.1}\" height=\"{:.0}\"/>\
             <path d=\"M{at:.1},{top:.0}V{bottom:.0}\"/><text x=\"{:.0}\" y=\"{:.0}\" \
             text-anchor=\"end\">{text}\
             </text></g>",
            (right - left).max(0.1),
            bottom - top,
            area.across.1,
            top + 11.0
        );
    }
    svg
}

/// `step 12: 0.512`, or `steps 500 to 514: 0.490 to 0.710, average 0.530`. `None` where nothing was measured.
fn described(x: &str, group: &[(f64, f64)], smooth: &[(f64, f64)]) -> Option<String> {
    let values = || group.iter().map(|p| p.1).filter(|y| y.is_finite());
    let (low, high) = values().fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), y| (l.min(y), h.max(y)));
    if low > high {
        return None;
    }
    let (first, last) = (group[0].0, group[group.len() - 1].0);
    let place = if first == last {
        format!("{x} {}", grouped(first as u64))
    } else {
        format!("{x}s {} to {}", grouped(first as u64), grouped(last as u64))
    };
    let value = if low == high { figure(low) } else { format!("{} to {}", figure(low), figure(high)) };
    let within = smooth.iter().filter(|p| (first..=last).contains(&p.0)).map(|p| p.1);
    let (sum, count) = within.fold((0.0, 0), |(sum, count), y| (sum + y, count + 1));
    let average =
        if count > 0 { format!(", average {}", figure(sum / f64::from(count))) } else { String::new() };
    Some(format!("{place}: {value}{average}"))
}

/// A number with about three digits that tell.
pub(crate) fn figure(value: f64) -> String {
    match value.abs() {
        0.0 => "0".to_owned(),
        size if size >= 1000.0 => grouped_signed(value),
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        size if size >= 0.01 => format!("{value:.3}"),
        _ => format!("{value:.2e}"),
    }
}

fn grouped_signed(value: f64) -> String {
    let size = value.abs().round();
    // Beyond this a count of digits says more than the digits.
    if size >= 1e12 {
        return format!("{value:.2e}");
    }
    format!("{}{}", if value < 0.0 { "−" } else { "" }, grouped(size as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_strip_says_its_steps_and_values() {
        let points: Vec<(f64, f64)> = (1..=4).map(|i| (f64::from(i), 1.0 / f64::from(i))).collect();
        let line = |group: &[(f64, f64)]| described("step", group, &points);
        assert_eq!(line(&points[1..2]).as_deref(), Some("step 2: 0.500, average 0.500"));
        assert_eq!(line(&points).as_deref(), Some("steps 1 to 4: 0.250 to 1.000, average 0.521"));
        assert_eq!(described("step", &[(1.0, f64::NAN)], &[]), None);
        assert_eq!(described("step", &[(1500.0, 3e-4)], &[]).as_deref(), Some("step 1,500: 3.00e-4"));
    }

    #[test]
    fn strips_cover_the_plot_once() {
        let points: Vec<(f64, f64)> = (0..1000).map(|i| (f64::from(i), 1.0)).collect();
        let area = PlotArea { across: (60.0, 440.0), down: (14.0, 226.0) };
        let svg = strips(&area, "step", &points, &[], |x| 60.0 + x / 999.0 * 380.0);
        let number =
            |text: &str| -> f64 { text.split('"').next().unwrap_or_default().parse().expect("number") };
        let widths: Vec<f64> = svg.split(" width=\"").skip(1).map(number).collect();
        assert_eq!(widths.len(), STRIPS);
        assert!((widths.iter().sum::<f64>() - 380.0).abs() < 3.0, "{widths:?}");
    }
}
