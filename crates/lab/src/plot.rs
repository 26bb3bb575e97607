//! Plots as inline SVG. Colours come from the page's style sheet (classes `c0` to `c5`, `raw`, `hollow`), so
//! that a plot follows the light or dark scheme; every name is escaped here.

use std::fmt::Write as _;

use crate::axis::PlotAxis;
use crate::hover::{PlotArea, strips};

pub(crate) const WIDTH: f64 = 460.0;
pub(crate) const HEIGHT: f64 = 270.0;
const LEFT: f64 = 62.0;
const RIGHT: f64 = 20.0;
const TOP: f64 = 14.0;
const BOTTOM: f64 = 44.0;
/// A curve is drawn with at most about this many points.
const MOST_POINTS: usize = 800;

/// Colours in the style sheet; later series begin again.
pub(crate) const COLOURS: usize = 6;

/// The style of a plot that stands alone: that of the page in its light scheme.
pub(crate) const STYLE: &str = "<style>svg{font:12.5px \
                                system-ui,sans-serif;background:#fff}text{fill:#5b6470}.label{fill:#1b1f24}.\
                                grid{stroke:#e6e9ed;fill:none}.axis{stroke:#5b6470;fill:none}.line{fill:none;\
                                stroke-width:2}.dashed{stroke-width:1.4;stroke-dasharray:5 \
                                4}.bar{fill:none;stroke-width:1.4}.c0{stroke:#1763ad}.c1{stroke:#c05a00}.\
                                c2{stroke:#1f7a4d}.c3{stroke:#8b3fa0}.c4{stroke:#6b7280}.c5{stroke:#a3324a}.\
                                mark.c0{fill:#1763ad}.mark.c1{fill:#c05a00}.mark.c2{fill:#1f7a4d}.mark.\
                                c3{fill:#8b3fa0}.mark.c4{fill:#6b7280}.mark.c5{fill:#a3324a}</style>";

/// A curve over numbers, such as a loss over steps. `NaN` breaks the line.
pub struct Curve<'a> {
    /// What the plot is of, for those who can't see it.
    pub title: &'a str,
    /// Label of the horizontal axis, with its unit.
    pub x: &'a str,
    /// Label of the vertical axis, with its unit.
    pub y: &'a str,
    /// The measured points, ascending in x.
    pub points: &'a [(f64, f64)],
    /// Whether a smoothed line is drawn over the measured one.
    pub smooth: bool,
    /// Whether the vertical axis may become logarithmic.
    pub log: bool,
}

impl Curve<'_> {
    /// The `<svg>` element.
    pub fn svg(&self) -> String {
        let ys = || self.points.iter().map(|p| p.1);
        let y = if self.log { PlotAxis::rounded_or_log(ys()) } else { PlotAxis::rounded(ys().chain([0.0])) };
        let x = PlotAxis::tight(self.points.iter().map(|p| p.0));
        let labels = x.labels();
        let ticks: Vec<_> = x.ticks.iter().map(|&t| x.at(t)).zip(labels).collect();
        let mut svg = frame(self.title, &ticks, self.x, &y, self.y);
        let place = |points: &[(f64, f64)]| -> Vec<(f64, f64)> {
            points.iter().map(|&(a, b)| (across(x.at(a)), up(y.at(b)))).collect()
        };
        let class = if self.smooth { "raw" } else { "line c0" };
        path(&mut svg, class, &place(&thin(self.points)));
        let average = if self.smooth { smooth(self.points) } else { Vec::new() };
        if self.smooth {
            path(&mut svg, "line c0", &place(&thin(&average)));
        }
        let area = PlotArea { across: (across(0.0), across(1.0)), down: (up(1.0), up(0.0)) };
        svg += &strips(&area, self.x, self.points, &average, |value| across(x.at(value)));
        svg + "</svg>"
    }
}

/// A value with its interval at one of the columns of an [`Intervals`] plot.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    /// Which column.
    pub column: usize,
    /// The value.
    pub value: f64,
    /// Lower and upper end of the interval, if there is one.
    pub interval: Option<(f64, f64)>,
}

/// Marks joined by a line.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What the marks are of.
    pub name: String,
    /// Which colour (and shape); taken modulo the number of colours.
    pub colour: usize,
    /// Whether it is a baseline: hollow marks, dashed line.
    pub baseline: bool,
    /// The marks, ascending in column.
    pub marks: Vec<Mark>,
}

/// Values with error bars over named columns, such as scores over shots.
pub struct Intervals<'a> {
    /// What the plot is of, for those who can't see it.
    pub title: &'a str,
    /// Label of the horizontal axis.
    pub x: &'a str,
    /// Label of the vertical axis, with its unit.
    pub y: &'a str,
    /// The columns' names.
    pub columns: &'a [String],
    /// The series, in the order of the legend.
    pub series: &'a [Series],
}

impl Intervals<'_> {
    /// The `<svg>` element.
    pub fn svg(&self) -> String {
        let marks = || self.series.iter().flat_map(|s| &s.marks);
        let ends = marks().flat_map(|m| {
            [m.value, m.interval.map_or(m.value, |i| i.0), m.interval.map_or(m.value, |i| i.1)]
        });
        let y = PlotAxis::rounded(ends.chain([0.0]));
        let count = self.columns.len().max(1) as f64;
        let centre = |column: usize| (column as f64 + 0.5) / count;
        let ticks: Vec<_> = self.columns.iter().enumerate().map(|(i, c)| (centre(i), c.clone())).collect();
        let mut svg = frame(self.title, &ticks, self.x, &y, self.y);
        for (i, series) in self.series.iter().enumerate() {
            // Series stand beside each other, so that their bars do not cover one another.
            let aside = (i as f64 - (self.series.len() as f64 - 1.0) / 2.0) * 9.0;
            let place = |m: &Mark| (across(centre(m.column)) + aside, up(y.at(m.value)));
            let class = format!(
                "{} c{}",
                if series.baseline { "line dashed" } else { "line" },
                series.colour % COLOURS
            );
            path(&mut svg, &class, &series.marks.iter().map(place).collect::<Vec<_>>());
            for mark in series.marks.iter().filter(|m| m.value.is_finite()) {
                let at = place(mark);
                let ends = mark.interval.map(|(low, high)| (up(y.at(low)), up(y.at(high))));
                let column = self.columns.get(mark.column).map_or("", String::as_str);
                let hint = format!("{}, {} {}: {}", series.name, column, self.x, described(mark));
                error_bar(&mut svg, series, at, ends, &hint);
            }
        }
        svg + "</svg>"
    }
}

/// The shape and line of a series, for a legend.
pub(crate) fn key(series: &Series) -> String {
    let mut svg = String::from(r#"<svg class="key" viewBox="0 0 30 14" aria-hidden="true">"#);
    let class =
        format!("{} c{}", if series.baseline { "line dashed" } else { "line" }, series.colour % COLOURS);
    path(&mut svg, &class, &[(1.0, 7.0), (29.0, 7.0)]);
    mark(&mut svg, series, (15.0, 7.0));
    svg + "</svg>"
}

/// Text that stays text inside an element or a quoted attribute. Characters that no document may hold are
/// shown as �.
pub(crate) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 8);
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            '\n' | '\t' => out.push(c),
            c if c.is_control() || matches!(c, '\u{fffe}' | '\u{ffff}') => out.push('\u{fffd}'),
            c => out.push(c),
        }
    }
    out
}

/// Mean over the points around each, a thirtieth of the curve in all (so it does not lag); `NaN` is left out.
pub(crate) fn smooth(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let finite: Vec<(f64, f64)> = points.iter().copied().filter(|p| p.1.is_finite()).collect();
    let mut sums = vec![0.0];
    sums.extend(finite.iter().scan(0.0, |sum, p| {
        *sum += p.1;
        Some(*sum)
    }));
    let half = finite.len() / 60;
    let mean = |i: usize| {
        let (from, to) = (i.saturating_sub(half), (i + half + 1).min(finite.len()));
        (sums[to] - sums[from]) / (to - from) as f64
    };
    finite.iter().enumerate().map(|(i, p)| (p.0, mean(i))).collect()
}

/// At most about [`MOST_POINTS`] points: the lowest and the highest of each stretch, so that no spike is
/// lost.
pub(crate) fn thin(points: &[(f64, f64)]) -> Vec<(f64, f64)> {
    let stretch = points.len().div_ceil(MOST_POINTS / 2);
    if stretch <= 2 {
        return points.to_vec();
    }
    let extremes = points.chunks(stretch).flat_map(|chunk| {
        let order = |a: &&(f64, f64), b: &&(f64, f64)| a.1.total_cmp(&b.1);
        let finite = || chunk.iter().filter(|p| p.1.is_finite());
        let mut pair = match (finite().min_by(order), finite().max_by(order)) {
            (Some(&low), Some(&high)) => [low, high],
            _ => [chunk[0]; 2],
        };
        pair.sort_by(|a, b| a.0.total_cmp(&b.0));
        pair
    });
    extremes.collect()
}

pub(crate) fn across(share: f64) -> f64 {
    LEFT + share * (WIDTH - LEFT - RIGHT)
}

pub(crate) fn up(share: f64) -> f64 {
    HEIGHT - BOTTOM - share * (HEIGHT - TOP - BOTTOM)
}

/// The opened `<svg>` with grid, ticks and labels. `ticks` are shares of the width with their text.
pub(crate) fn frame(
    title: &str,
    ticks: &[(f64, String)],
    x_label: &str,
    y: &PlotAxis,
    y_label: &str,
) -> String {
    let title = escape(title);
    let mut svg =
        format!(r#"<svg class="plot" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{title}">"#);
    let (left, right, low) = (across(0.0), across(1.0), up(0.0));
    for (&tick, text) in y.ticks.iter().zip(y.labels()) {
        let at = up(y.at(tick));
        let _ = write!(svg, r#"<path class="grid" d="M{left:.1},{at:.1}H{right:.1}"/>"#);
        let _ =
            write!(svg, r#"<text x="{:.1}" y="{:.1}" text-anchor="end">{text}</text>"#, left - 7.0, at + 4.0);
    }
    let _ = write!(svg, r#"<path class="axis" d="M{left:.1},{low:.1}H{right:.1}"/>"#);
    for (share, text) in ticks {
        let (at, below) = (across(*share), low + 18.0);
        let _ = write!(svg, r#"<path class="axis" d="M{at:.1},{low:.1}v5"/>"#);
        let _ =
            write!(svg, r#"<text x="{at:.1}" y="{below:.1}" text-anchor="middle">{}</text>"#, escape(text));
    }
    let middle = up(0.5);
    let unit = y.unit();
    let _ = write!(
        svg,
        r#"<text class="label" x="{:.1}" y="{:.1}" text-anchor="middle">{}</text>"#,
        across(0.5),
        HEIGHT - 6.0,
        escape(x_label)
    );
    let _ = write!(
        svg,
        "<text class=\"label\" x=\"13\" y=\"{middle:.1}\" text-anchor=\"middle\" \
         transform=\"rotate(-90 13 {middle:.1})\">{}{unit}</text>",
        escape(y_label)
    );
    svg
}

/// A polyline; it breaks where a point is not finite, and a lone point is a dot.
pub(crate) fn path(svg: &mut String, class: &str, points: &[(f64, f64)]) {
    let _ = write!(svg, r#"<path class="{class}" d=""#);
    let mut drawing = false;
    for &(x, y) in points {
        let finite = x.is_finite() && y.is_finite();
        let _ = match (finite, drawing) {
            (true, true) => write!(svg, "L{x:.1},{y:.1}"),
            (true, false) => write!(svg, "M{x:.1},{y:.1}h0"),
            (false, _) => Ok(()),
        };
        drawing = finite;
    }
    svg.push_str(r#""/>"#);
}

fn error_bar(svg: &mut String, series: &Series, at: (f64, f64), ends: Option<(f64, f64)>, hint: &str) {
    let _ = write!(svg, "<g><title>{}</title>", escape(hint));
    if let Some((low, high)) = ends.filter(|e| e.0.is_finite() && e.1.is_finite()) {
        let x = at.0;
        let _ = write!(
            svg,
            r#"<path class="bar c{}" d="M{x:.1},{low:.1}V{high:.1}M{:.1},{low:.1}h6M{:.1},{high:.1}h6"/>"#,
            series.colour % COLOURS,
            x - 3.0,
            x - 3.0
        );
    }
    mark(svg, series, at);
    svg.push_str("</g>");
}

/// Circle, square, triangle or diamond by the series' colour; hollow for a baseline.
fn mark(svg: &mut String, series: &Series, (x, y): (f64, f64)) {
    let shape = match series.colour % 4 {
        0 => "m-4.2,0a4.2,4.2 0 1,0 8.4,0a4.2,4.2 0 1,0 -8.4,0z",
        1 => "m-3.8,-3.8h7.6v7.6h-7.6z",
        2 => "m0,-5l4.8,8.4h-9.6z",
        _ => "m0,-5.2l5.2,5.2l-5.2,5.2l-5.2,-5.2z",
    };
    let class = if series.baseline { "mark hollow" } else { "mark" };
    let _ = write!(svg, r#"<path class="{class} c{}" d="M{x:.1},{y:.1}{shape}"/>"#, series.colour % COLOURS);
}

fn described(mark: &Mark) -> String {
    match mark.interval {
        Some((low, high)) => format!("{:.1} [{low:.1}, {high:.1}]", mark.value),
        None => format!("{:.1}", mark.value),
    }
}
