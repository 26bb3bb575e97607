//! Numbers as people read them.

/// `1.31 M`, with three digits.
pub(crate) fn count(n: f64) -> String {
    let (unit, name) = match n {
        n if n >= 999.5e6 => (1e9, " G"),
        n if n >= 999.5e3 => (1e6, " M"),
        n if n >= 9_999.5 => (1e3, " k"),
        _ => return if n == n.round() || n >= 100.0 { format!("{n:.0}") } else { format!("{n:.1}") },
    };
    let value = n / unit;
    let digits = if value < 9.995 { 2 } else { usize::from(value < 99.95) };
    format!("{value:.digits$}{name}")
}

/// `12,345`.
pub(crate) fn grouped(n: u64) -> String {
    let digits = n.to_string();
    let mut out = String::new();
    for (i, c) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            out.push(',');
        }
        out.push(c);
    }
    out
}

/// `4 min 12 s`.
pub(crate) fn duration(seconds: f64) -> String {
    let whole = seconds.round() as u64;
    match (whole / 3600, whole / 60 % 60, whole % 60) {
        (0, 0, _) => format!("{seconds:.1} s"),
        (0, m, s) => format!("{m} min {s} s"),
        (h, m, _) => format!("{h} h {m} min"),
    }
}
