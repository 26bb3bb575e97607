//! [`PlotAxis`]: from values to a place on the paper, and which values get a tick.

/// One axis of a plot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct PlotAxis {
    /// Below `high`; above 0 where the axis is logarithmic.
    low: f64,
    high: f64,
    log: bool,
    /// The values with a tick, ascending.
    pub(crate) ticks: Vec<f64>,
}

impl PlotAxis {
    /// From the lowest to the highest of the finite `values`, for an axis that starts and ends with the data.
    pub(crate) fn tight(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = bounds(values);
        let ticks = linear_ticks(low, high).into_iter().filter(|t| (low..=high).contains(t)).collect();
        Self { low, high, log: false, ticks }
    }

    /// From the tick below the finite `values` to the tick above them.
    pub(crate) fn rounded(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = bounds(values);
        let ticks = linear_ticks(low, high);
        Self { low: ticks[0], high: ticks[ticks.len() - 1], log: false, ticks }
    }

    /// Like [`Self::rounded`], but logarithmic where the values are positive and span more than two decades.
    pub(crate) fn rounded_or_log(values: impl Iterator<Item = f64> + Clone) -> Self {
        let (low, high) = bounds(values.clone());
        if low <= 0.0 || high / low <= 100.0 {
            return Self::rounded(values);
        }
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let stride = ((last - first) / 6 + 1) as usize;
        let ticks = (first..=last).step_by(stride).map(|e| 10f64.powi(e)).collect();
        Self { low: 10f64.powi(first), high: 10f64.powi(last), log: true, ticks }
    }

    /// Logarithmic, from the tick below the positive `values` to the tick above them; ticks at 1, 2 and 5.
    pub(crate) fn log(values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = bounds(values.filter(|value| *value > 0.0));
        let (first, last) = (low.log10().floor() as i32, high.log10().ceil() as i32);
        let fine = (first..=last).flat_map(|e| [1.0, 2.0, 5.0].map(|m| m * 10f64.powi(e)));
        let all: Vec<f64> = fine.collect();
        // A tick is as good as the value that is it but for its last bits.
        let from = all.iter().rposition(|t| *t <= low * (1.0 + 1e-9)).unwrap_or(0);
        let to = all.iter().position(|t| *t >= high * (1.0 - 1e-9)).unwrap_or(all.len() - 1);
        let ticks = all[from..=to.max(from + 1).min(all.len() - 1)].to_vec();
        Self { low: ticks[0], high: ticks[ticks.len() - 1], log: true, ticks }
    }

    /// 0 at the low end, 1 at the high end.
    pub(crate) fn at(&self, value: f64) -> f64 {
        if self.log {
            (value.ln() - self.low.ln()) / (self.high.ln() - self.low.ln())
        } else {
            (value - self.low) / (self.high - self.low)
        }
    }

    /// The value at a share of the axis: what [`Self::at`] gives the share of.
    pub(crate) fn value(&self, share: f64) -> f64 {
        if self.log {
            (self.low.ln() + share * (self.high.ln() - self.low.ln())).exp()
        } else {
            self.low + share * (self.high - self.low)
        }
    }

    /// The text of each tick, with as many digits as the distance of the ticks needs.
    pub(crate) fn labels(&self) -> Vec<String> {
        if self.log {
            let parts: Vec<(i32, i32)> = self.ticks.iter().map(|tick| scientific(*tick)).collect();
            let powers = parts.iter().all(|(digit, _)| *digit == 1);
            let label = |(digit, exponent): (i32, i32)| {
                if powers { power(exponent) } else { format!("{digit}e{exponent}") }
            };
            return parts.into_iter().map(label).collect();
        }
        let (unit, suffix) = match self.exponent() {
            small @ ..=-3 => (10f64.powi(small), ""),
            9.. => (1e9, " G"),
            6.. => (1e6, " M"),
            4.. => (1e3, " k"),
            _ => (1.0, ""),
        };
        let step = if self.ticks.len() > 1 { self.ticks[1] - self.ticks[0] } else { self.high - self.low };
        let digits = (-(step / unit).log10() - 1e-9).ceil().max(0.0) as usize;
        let text = |tick: &f64| {
            let zero = tick.abs() < step * 1e-6;
            if zero { "0".into() } else { format!("{:.digits$}{suffix}", tick / unit) }
        };
        self.ticks.iter().map(text).collect()
    }

    /// What the axis' label needs after it: the power of ten by which small ticks are multiplied.
    pub(crate) fn unit(&self) -> String {
        match self.exponent() {
            _ if self.log => ", logarithmic".into(),
            small @ ..=-3 => format!(", × {}", power(small)),
            _ => String::new(),
        }
    }

    /// The power of ten of the largest tick.
    fn exponent(&self) -> i32 {
        let largest = self.ticks.iter().fold(0f64, |m, t| m.max(t.abs()));
        if largest > 0.0 { (largest.log10() + 1e-9).floor() as i32 } else { 0 }
    }
}

/// Lowest and highest finite value, never equal.
fn bounds(values: impl Iterator<Item = f64>) -> (f64, f64) {
    let (low, high) = values
        .filter(|v| v.is_finite())
        .fold((f64::INFINITY, f64::NEG_INFINITY), |(l, h), v| (l.min(v), h.max(v)));
    if low > high {
        (0.0, 1.0)
    } else if high - low <= 1e-12 * high.abs() {
        let pad = if low == 0.0 { 1.0 } else { 0.1 * low.abs() };
        (low - pad, high + pad)
    } else {
        (low, high)
    }
}

/// Multiples of 1, 2 or 5 × 10ⁿ, four to eight of them, from at most `low` to at least `high`.
fn linear_ticks(low: f64, high: f64) -> Vec<f64> {
    let raw = (high - low) / 5.0;
    let decade = 10f64.powf(raw.log10().floor());
    let step =
        [1.0, 2.0, 5.0, 10.0].into_iter().map(|m| m * decade).find(|s| *s >= raw * 0.999).unwrap_or(raw);
    let (first, last) = ((low / step + 1e-9).floor() as i64, (high / step - 1e-9).ceil() as i64);
    (first..=last).map(|i| i as f64 * step).collect()
}

/// Digit and power of ten of 1, 2 or 5 times one.
fn scientific(tick: f64) -> (i32, i32) {
    let exponent = (tick.log10() + 1e-9).floor() as i32;
    ((tick / 10f64.powi(exponent)).round() as i32, exponent)
}

/// `10^exponent` as people write it.
fn power(exponent: i32) -> String {
    let raised = exponent
        .to_string()
        .chars()
        .map(|c| match c.to_digit(10) {
            Some(d) => ['⁰', '¹', '²', '³', '⁴', '⁵', '⁶', '⁷', '⁸', '⁹'][d as usize],
            None => '⁻',
        })
        .collect::<String>();
    format!("10{raised}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ticks_are_round_and_share_a_unit() {
        assert_eq!(PlotAxis::rounded([0.3, 4.9].into_iter()).labels(), ["0", "1", "2", "3", "4", "5"]);
        let rates = PlotAxis::rounded([0.0, 2.9e-4].into_iter());
        assert_eq!(
            (rates.labels(), rates.unit()),
            (["0", "1", "2", "3"].map(String::from).to_vec(), ", × 10⁻⁴".into())
        );
        assert_eq!(
            PlotAxis::rounded([0.0, 24_000.0].into_iter()).labels(),
            ["0", "5 k", "10 k", "15 k", "20 k", "25 k"]
        );
        assert_eq!(PlotAxis::tight([1.0, 60.0].into_iter()).labels(), ["20", "40", "60"]);
    }

    #[test]
    fn wide_positive_data_gets_a_logarithmic_axis_only_where_asked() {
        let data = [0.02, 3.0, 900.0];
        let axis = PlotAxis::rounded_or_log(data.into_iter());
        assert_eq!(axis.unit(), ", logarithmic");
        assert_eq!(axis.labels(), ["10⁻²", "10⁻¹", "10⁰", "10¹", "10²", "10³"]);
        assert!((axis.at(0.01)).abs() < 1e-12 && (axis.at(1000.0) - 1.0).abs() < 1e-12);
        assert!(!PlotAxis::rounded(data.into_iter()).log);
        assert!(!PlotAxis::rounded_or_log([0.0, 900.0].into_iter()).log);
    }

    #[test]
    fn a_logarithmic_axis_ends_at_the_ticks_around_its_values() {
        let axis = PlotAxis::log([1.2e-3, 0.0274].into_iter());
        assert_eq!(axis.labels(), ["1e-3", "2e-3", "5e-3", "1e-2", "2e-2", "5e-2"]);
        assert!(axis.at(1e-3).abs() < 1e-12 && (axis.at(5e-2) - 1.0).abs() < 1e-12);
        assert_eq!(PlotAxis::log([2e-3, 5e-3].into_iter()).labels(), ["2e-3", "5e-3"]);
        assert_eq!(PlotAxis::log([3e-3, 3e-3].into_iter()).labels(), ["2e-3", "5e-3"]);
    }

    #[test]
    fn constant_empty_and_broken_data_give_an_axis() {
        for data in
            [vec![], vec![f64::NAN], vec![0.0], vec![7.0, 7.0], vec![-3.0, f64::INFINITY], vec![1e-300]]
        {
            for axis in
                [PlotAxis::tight(data.iter().copied()), PlotAxis::rounded_or_log(data.iter().copied())]
            {
                assert!(axis.high > axis.low, "{data:?} gives {axis:?}");
                assert!(axis.ticks.len() < 12 && axis.labels().iter().all(|l| !l.contains("NaN")));
                assert!(data.iter().filter(|v| v.is_finite()).all(|&v| (0.0..=1.0).contains(&axis.at(v))));
            }
        }
    }
}
