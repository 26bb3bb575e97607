//! `law.html` and `law.svg`: the law beside the paper's, and the curve of each size.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::PowerLaw;
use super::observation::LawAxis;
use super::optimum::SizeOptimum;
use super::reading::{LawRun, LawRuns};
use crate::ablation::markdown_line;
use crate::axis::PlotAxis;
use crate::number::count;
use crate::plot::{STYLE, across, escape, frame, path, up};
use crate::report::document;
use crate::study::page::wrapped;
use crate::words::capital;

/// The whole page. Without a law it shows the curves, and why there is none.
pub fn page(title: &str, runs: &LawRuns, law: Result<&PowerLaw, &str>) -> String {
    let head = match law {
        Ok(law) => format!(
            "<p class=\"verdict\">{}</p>\n<figure>{}<ul class=\"legend\"><li><svg class=\"key\" viewBox=\"0 \
             0 30 14\" aria-hidden=\"true\"><path class=\"line c0\" d=\"M1,7H29\"/></svg>ours</li><li><svg \
             class=\"key\" viewBox=\"0 0 30 14\" aria-hidden=\"true\"><path class=\"line dashed c1\" \
             d=\"M1,7H29\"/></svg>MM1 (arXiv 2403.09611, section 3)</li></ul></figure>\n{}",
            escape(&law.sentence()),
            svg(law),
            table(law)
        ),
        Err(why) => format!("<p class=\"verdict\">No law: {}</p>\n", escape(why)),
    };
    let notes: String = runs.notes.iter().map(|note| format!("<li>{}</li>", escape(note))).collect();
    let notes = if notes.is_empty() {
        notes
    } else {
        format!(
            "<aside class=\"notes\" role=\"note\"><h2>Runs that are left out</h2><ul>{notes}</ul></aside>\n"
        )
    };
    let optima: BTreeMap<u64, &SizeOptimum> =
        law.iter().flat_map(|law| &law.optima).map(|of| (of.parameters, of)).collect();
    let sizes: std::collections::BTreeSet<u64> =
        runs.runs.iter().map(|run| run.observation.parameters).collect();
    let curves: String =
        sizes.into_iter().map(|size| curve(runs, size, optima.get(&size).copied())).collect();
    let body = format!(
        "<header>\n<h1>{}</h1>\n{head}</header>\n{notes}<section><h2>Each size</h2>\n<p \
         class=\"caption\">{}. A dot is a run, the line goes through the means over seeds; the upright line \
         is the best value with its 95% interval.</p>\n<div class=\"plots\">{curves}</div></section>\n",
        escape(title),
        escape(&capital(&runs.measured))
    );
    document(title, &body)
}

/// The law, the best rate of each size and all results as Markdown.
pub fn markdown(title: &str, runs: &LawRuns, law: &PowerLaw) -> String {
    let mut text = format!("# {title}\n\n{}\n\n", wrapped(&format!("{}.", law.sentence()), "", ""));
    let mut table = |rows: Vec<Vec<String>>| {
        for (i, row) in rows.iter().enumerate() {
            markdown_line(&mut text, row.iter());
            if i == 0 {
                markdown_line(&mut text, row.iter().map(|_| "---"));
            }
        }
        text.push('\n');
    };
    let heads = ["size", "best", "95% interval", "the paper's law", "runs", "diverged"];
    let best = |of: &SizeOptimum| {
        let [low, high] = of.ln.ci95().map(f64::exp);
        vec![
            of.parameters.to_string(),
            format!("{:.2e}", of.best),
            format!("[{low:.2e}, {high:.2e}]"),
            format!("{:.2e}", of_paper(law.axis, of.parameters as f64)),
            of.runs.to_string(),
            of.diverged.to_string(),
        ]
    };
    let rows = law.optima.iter().map(best);
    table(std::iter::once(heads.map(str::to_owned).to_vec()).chain(rows).collect());
    let measured = format!("{}, mean of the seeds that did not diverge:", capital(&runs.measured));
    text += &format!("{}\n\n", wrapped(&measured, "", ""));
    for note in &runs.notes {
        text += &format!("{}\n\n", wrapped(note, "> ", "> "));
    }
    let heads = ["size", runs.axis.name(), "result", "runs", "diverged"];
    markdown_line(&mut text, heads.iter());
    markdown_line(&mut text, heads.iter().map(|_| "---"));
    for ((size, rate), results) in by_setting(runs) {
        let there: Vec<f64> = results.iter().flatten().copied().collect();
        let mean = there.iter().sum::<f64>() / there.len() as f64;
        let mean = if there.is_empty() { String::new() } else { format!("{mean:.4}") };
        let (count, diverged) = (there.len().to_string(), (results.len() - there.len()).to_string());
        let cells = [size.to_string(), format!("{:.2e}", f64::from_bits(rate)), mean, count, diverged];
        markdown_line(&mut text, cells.iter());
    }
    text
}

/// Each run in a line; no result where it diverged.
pub fn csv(runs: &LawRuns) -> String {
    let mut text = "parameters,learning_rate,weight_decay,seed,result\n".to_owned();
    for LawRun { observation: of, .. } in &runs.runs {
        let result = of.result.map_or_else(String::new, |result| result.to_string());
        let _ =
            writeln!(text, "{},{},{},{},{result}", of.parameters, of.learning_rate, of.weight_decay, of.seed);
    }
    text
}

/// The results of each size and setting, whose bits are in its order; `None` of those that diverged.
fn by_setting(runs: &LawRuns) -> BTreeMap<(u64, u64), Vec<Option<f64>>> {
    let mut found: BTreeMap<(u64, u64), Vec<Option<f64>>> = BTreeMap::new();
    for LawRun { observation: of, .. } in &runs.runs {
        let setting = (of.parameters, runs.axis.of(of).to_bits());
        found.entry(setting).or_default().push(of.result.filter(|result| result.is_finite()));
    }
    found
}

/// [`svg`] as a file of its own.
pub fn svg_file(law: &PowerLaw) -> String {
    let svg = svg(law).replacen("<svg ", "<svg xmlns=\"http://www.w3.org/2000/svg\" ", 1);
    svg.replacen('>', &format!(">{STYLE}"), 1)
}

/// The best rates over sizes with their intervals, our line and the paper's.
pub fn svg(law: &PowerLaw) -> String {
    let ends = |of: &SizeOptimum| of.ln.ci95().map(f64::exp);
    let sizes: Vec<f64> = law.optima.iter().map(|of| of.parameters as f64).collect();
    let (first, last) = (sizes[0], sizes[sizes.len() - 1]);
    let paper = |n: f64| of_paper(law.axis, n);
    let all = law
        .optima
        .iter()
        .flat_map(ends)
        .chain([first, last].map(paper))
        .chain([first, last].map(|n| law.at(n)));
    let y = PlotAxis::log(all);
    // Some room beside the outer sizes.
    let room = (last / first).powf(0.08);
    let (low, high) = ((first / room).ln(), (last * room).ln());
    let x = |n: f64| (n.ln() - low) / (high - low);
    let ticks: Vec<(f64, String)> = sizes.iter().map(|&n| (x(n), count(n))).collect();
    let title = format!("best {} over the size of the decoder", law.axis.name());
    let mut svg = frame(
        &title,
        &ticks,
        "decoder's parameters N, logarithmic",
        &y,
        &format!("best {}", law.axis.name()),
    );
    let line = |at: &dyn Fn(f64) -> f64| [low.exp(), high.exp()].map(|n| (across(x(n)), up(y.at(at(n)))));
    path(&mut svg, "line dashed c1", &line(&paper));
    path(&mut svg, "line c0", &line(&|n| law.at(n)));
    for of in &law.optima {
        let ([low, high], at) = (ends(of), across(x(of.parameters as f64)));
        let (top, bottom, middle) = (up(y.at(high)), up(y.at(low)), up(y.at(of.best)));
        let hint = format!("{}: {:.2e} [{low:.2e}, {high:.2e}]", count(of.parameters as f64), of.best);
        let _ = write!(
            svg,
            "<g><title>{}</title><path class=\"bar c0\" d=\"M{at:.1},{bottom:.1}V{top:.1}\"/><circle \
             class=\"mark c0\" cx=\"{at:.1}\" cy=\"{middle:.1}\" r=\"4.2\"/></g>",
            escape(&hint)
        );
    }
    svg + "</svg>"
}

/// Results over the rate, of one size.
fn curve(runs: &LawRuns, size: u64, optimum: Option<&SizeOptimum>) -> String {
    let of_size = || runs.runs.iter().map(|run| &run.observation).filter(|of| of.parameters == size);
    let mut means: BTreeMap<u64, Vec<f64>> = BTreeMap::new();
    for of in of_size() {
        // Rates are above 0, so their bits are in their order.
        means.entry(runs.axis.of(of).to_bits()).or_default().extend(of.result);
    }
    let rates: Vec<f64> = means.keys().map(|bits| f64::from_bits(*bits)).collect();
    let (first, last) = (rates[0], rates[rates.len() - 1]);
    if first <= 0.0 {
        return format!("<p>{}: a value of 0 has no logarithm</p>\n", escape(&count(size as f64)));
    }
    let room = (last / first).powf(0.06).max(1.05);
    let (low, high) = ((first / room).ln(), (last * room).ln());
    let x = |rate: f64| across((rate.ln() - low) / (high - low));
    let y = PlotAxis::rounded(of_size().filter_map(|of| of.result));
    let ticks: Vec<(f64, String)> =
        rates.iter().map(|&rate| ((rate.ln() - low) / (high - low), short(rate))).collect();
    let title = format!("results of size {} over the {}", count(size as f64), runs.axis.name());
    let mut svg = frame(&title, &ticks, &format!("{}, logarithmic", runs.axis.name()), &y, "result");
    if let Some(of) = optimum {
        let [left, right] = of.ln.ci95().map(|ln| x(ln.exp().clamp(low.exp(), high.exp())));
        let (top, bottom, best) = (up(1.0), up(0.0), x(of.best));
        let _ = write!(
            svg,
            "<g><title>best {:.2e}</title><path class=\"line dashed c1\" \
             d=\"M{best:.1},{top:.1}V{bottom:.1}\"/><path class=\"bar c1\" \
             d=\"M{left:.1},{:.1}H{right:.1}\"/></g>",
            of.best,
            bottom - 4.0
        );
    }
    let mean = |of: &Vec<f64>| of.iter().sum::<f64>() / of.len() as f64;
    let line: Vec<(f64, f64)> =
        means.iter().map(|(bits, of)| (x(f64::from_bits(*bits)), up(y.at(mean(of))))).collect();
    path(&mut svg, "line c0", &line);
    for of in of_size() {
        let Some(result) = of.result.filter(|result| result.is_finite()) else { continue };
        let hint = format!("{:.3e}, seed {}: {result:.4}", runs.axis.of(of), of.seed);
        let _ = write!(
            svg,
            "<g><title>{hint}</title><circle class=\"mark c0\" cx=\"{:.1}\" cy=\"{:.1}\" r=\"3\"/></g>",
            x(runs.axis.of(of)),
            up(y.at(result))
        );
    }
    format!("<figure><figcaption>{}</figcaption>{svg}</svg></figure>\n", escape(&count(size as f64)))
}

/// The best rate of each size.
fn table(law: &PowerLaw) -> String {
    let row = |of: &SizeOptimum| {
        let [low, high] = of.ln.ci95().map(f64::exp);
        format!(
            "<tr><th scope=\"row\">{}</th><td>{:.2e}</td><td>[{low:.2e}, \
             {high:.2e}]</td><td>{:.2e}</td><td>{}</td><td>{}</td></tr>",
            count(of.parameters as f64),
            of.best,
            of_paper(law.axis, of.parameters as f64),
            of.runs,
            of.diverged
        )
    };
    let rows: String = law.optima.iter().map(row).collect();
    format!(
        "<div class=\"scroll\"><table><thead><tr><th>Size</th><th>Best</th><th>95% \
         interval</th><th>The paper's \
         law</th><th>Runs</th><th>Diverged</th></tr></thead><tbody>{rows}</tbody></table></div>\n"
    )
}

/// What the paper's law says for `n` parameters.
fn of_paper(axis: LawAxis, n: f64) -> f64 {
    let [a, b] = axis.paper();
    (a * n.ln() + b).exp()
}

/// `4e-3`, `1.6e-2`.
fn short(rate: f64) -> String {
    format!("{rate:.1e}").replace(".0e", "e")
}
