//! Curves of several runs over each other, as inline SVG.

use std::fmt::Write as _;

use crate::axis::PlotAxis;
use crate::hover::{PlotArea, figure};
use crate::number::count;
use crate::plot::{COLOURS, across, escape, frame, path, smooth, thin, up};

/// Curves that can be told apart: each colour whole and dashed.
pub(crate) const MOST_CURVES: usize = 2 * COLOURS;

/// Places across at which values show under the pointer.
const STRIPS: usize = 40;

/// Letters of a name that show there.
const NAME: usize = 28;

/// The curve of one run.
pub(crate) struct OverlaidCurve<'a> {
    /// What the run is called.
    pub(crate) name: &'a str,
    /// Its number on the page, from 0: colour and dashes.
    pub(crate) number: usize,
    /// Ascending in x.
    pub(crate) points: Vec<(f64, f64)>,
}

/// Moving averages over a common axis.
pub(crate) struct Overlay<'a> {
    /// What the plot is of, for those who can't see it.
    pub(crate) title: &'a str,
    /// Label of the horizontal axis, with its unit.
    pub(crate) x: &'a str,
    /// Label of the vertical axis, with its unit.
    pub(crate) y: &'a str,
    /// One for each run.
    pub(crate) curves: &'a [OverlaidCurve<'a>],
}

/// The class of the line of the run `number`.
fn class(number: usize) -> String {
    let dashed = if number / COLOURS % 2 == 1 { " dashed" } else { "" };
    format!("line{dashed} c{}", number % COLOURS)
}

/// The line of a run, for a legend.
pub(crate) fn line_key(number: usize) -> String {
    let mut svg = String::from(r#"<svg class="key" viewBox="0 0 30 14" aria-hidden="true">"#);
    path(&mut svg, &class(number), &[(1.0, 7.0), (29.0, 7.0)]);
    svg + "</svg>"
}

impl Overlay<'_> {
    /// The `<svg>` element.
    pub(crate) fn svg(&self) -> String {
        let averages: Vec<Vec<(f64, f64)>> = self.curves.iter().map(|curve| smooth(&curve.points)).collect();
        let all = || averages.iter().flatten();
        let y = PlotAxis::rounded_or_log(all().map(|p| p.1));
        let x = PlotAxis::tight(all().map(|p| p.0));
        let ticks: Vec<_> = x.ticks.iter().map(|&tick| x.at(tick)).zip(x.labels()).collect();
        let mut svg = frame(self.title, &ticks, self.x, &y, self.y);
        for (curve, average) in self.curves.iter().zip(&averages) {
            let place = |&(a, b): &(f64, f64)| (across(x.at(a)), up(y.at(b)));
            path(&mut svg, &class(curve.number), &thin(average).iter().map(place).collect::<Vec<_>>());
        }
        let area = PlotArea { across: (across(0.0), across(1.0)), down: (up(1.0), up(0.0)) };
        svg += &self.strips(&area, &x, &averages);
        svg + "</svg>"
    }

    /// What shows under the pointer: the average of every run that has been there.
    fn strips(&self, area: &PlotArea, x: &PlotAxis, averages: &[Vec<(f64, f64)>]) -> String {
        let width = (area.across.1 - area.across.0) / STRIPS as f64;
        let (top, bottom) = area.down;
        let mut svg = String::new();
        for strip in 0..STRIPS {
            let share = (strip as f64 + 0.5) / STRIPS as f64;
            let at = x.value(share);
            let mut lines = vec![format!("{} {}", self.x, count(at))];
            for (curve, average) in self.curves.iter().zip(averages) {
                if let Some(value) = value_at(average, at) {
                    lines.push(format!("{}: {}", shortened(curve.name), figure(value)));
                }
            }
            let middle = across(share);
            let left = middle - width / 2.0;
            let _ = write!(
                svg,
                "<g class=\"at\"><rect x=\"{left:.1}\" y=\"{top:.0}\" width=\"{width:.1}\" \
                 height=\"{:.0}\"/><path d=\"M{middle:.1},{top:.0}V{bottom:.0}\"/>",
                bottom - top
            );
            for (i, line) in lines.iter().enumerate() {
                let _ = write!(
                    svg,
                    "<text x=\"{:.0}\" y=\"{:.0}\" text-anchor=\"end\">{}</text>",
                    area.across.1,
                    top + 11.0 + 14.0 * i as f64,
                    escape(line)
                );
            }
            svg += "</g>";
        }
        svg
    }
}

/// The value of a curve at `x`, which lies between its ends: that of the last point up to there.
fn value_at(points: &[(f64, f64)], x: f64) -> Option<f64> {
    let after = points.partition_point(|p| p.0 <= x);
    // Beyond its last point there is no curve.
    (after > 0 && after < points.len()).then(|| points[after - 1].1)
}

/// The end of a name says more than its beginning.
fn shortened(name: &str) -> String {
    let letters = name.chars().count();
    if letters <= NAME {
        return name.to_owned();
    }
    format!("…{}", name.chars().skip(letters - NAME).collect::<String>())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_curve_has_values_between_its_ends_only() {
        let points = [(10.0, 1.0), (20.0, 2.0), (30.0, 3.0)];
        let at = |x: f64| value_at(&points, x);
        assert_eq!([at(9.0), at(10.0), at(25.0), at(31.0)], [None, Some(1.0), Some(2.0), None]);
        assert_eq!(value_at(&[], 1.0), None);
    }

    #[test]
    fn every_curve_has_its_own_line() {
        let classes: std::collections::BTreeSet<String> = (0..MOST_CURVES).map(class).collect();
        assert_eq!(classes.len(), MOST_CURVES);
    }

    #[test]
    fn long_names_keep_their_end() {
        assert_eq!(shortened("short"), "short");
        let long = "é".repeat(40) + "-seed3";
        assert!(shortened(&long).ends_with("é-seed3") && shortened(&long).chars().count() == NAME + 1);
    }
}
