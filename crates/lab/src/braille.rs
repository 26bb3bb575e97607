//! A curve as text: each letter is a block of 2 × 4 dots.

/// Bits of the dots of a letter, by row and column.
const DOTS: [[u32; 2]; 4] = [[0x01, 0x08], [0x02, 0x10], [0x04, 0x20], [0x40, 0x80]];

/// Draws `points`, ascending in x, as `rows` lines of `columns` letters; with the lowest and the highest y.
/// `None` where there are none. Of the points that share a column of dots the mean is drawn. The height is
/// logarithmic where all are positive.
pub fn curve(points: &[(f64, f64)], columns: usize, rows: usize) -> Option<(Vec<String>, f64, f64)> {
    let finite: Vec<(f64, f64)> = points.iter().copied().filter(|p| p.1.is_finite()).collect();
    let (first, last) = (finite.first()?.0, finite.last()?.0);
    let (wide, high) = (columns * 2, rows * 4);
    let mut sums = vec![(0.0, 0u32); wide];
    for (x, y) in &finite {
        let share = if last > first { (x - first) / (last - first) } else { 0.0 };
        let place = ((share * wide as f64) as usize).min(wide - 1);
        sums[place] = (sums[place].0 + y, sums[place].1 + 1);
    }
    let means: Vec<Option<f64>> =
        sums.into_iter().map(|(sum, count)| (count > 0).then(|| sum / f64::from(count))).collect();
    let there = || means.iter().flatten().copied();
    let (low, top) = (there().fold(f64::INFINITY, f64::min), there().fold(f64::NEG_INFINITY, f64::max));
    let scale = |y: f64| if low > 0.0 { y.ln() } else { y };
    let height = |y: f64| {
        let share = if top > low { (scale(y) - scale(low)) / (scale(top) - scale(low)) } else { 0.5 };
        (share * (high - 1) as f64).round() as usize
    };
    let mut cells = vec![vec![0u32; columns]; rows];
    let mut dot = |x: usize, y: usize| {
        let down = high - 1 - y;
        cells[down / 4][x / 2] |= DOTS[down % 4][x % 2];
    };
    let mut before: Option<usize> = None;
    for (x, mean) in means.iter().enumerate() {
        let Some(y) = mean.map(height) else { continue };
        // A line, not a cloud: from the height before to this one.
        let from = before.unwrap_or(y);
        (from.min(y)..=from.max(y)).for_each(|y| dot(x, y));
        before = Some(y);
    }
    let line = |row: &Vec<u32>| row.iter().filter_map(|bits| char::from_u32(0x2800 + bits)).collect();
    Some((cells.iter().map(line).collect(), low, top))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_goes_from_corner_to_corner() {
        let points: Vec<(f64, f64)> = (0..8).map(|i| (f64::from(i), f64::from(i) - 4.0)).collect();
        let (lines, low, high) = curve(&points, 4, 2).expect("points");
        assert_eq!((low, high), (-4.0, 3.0));
        assert_eq!(lines, ["⠀⠀⣠⠞", "⣠⠞⠁⠀"]);
    }

    #[test]
    fn a_fall_is_joined_and_the_height_is_logarithmic() {
        let (lines, low, high) = curve(&[(1.0, 100.0), (2.0, 10.0), (3.0, 1.0)], 2, 1).expect("points");
        assert_eq!((low, high), (1.0, 100.0));
        // Heights 3, 2 and 0: ln 10 is in the middle, and is rounded up.
        assert_eq!(lines, ["⠁⢳"], "{lines:?}");
    }

    #[test]
    fn nothing_and_constants_are_drawn_too() {
        assert_eq!(curve(&[], 4, 2), None);
        assert_eq!(curve(&[(1.0, f64::NAN)], 4, 2), None);
        let (lines, low, high) = curve(&[(1.0, 2.0), (2.0, 2.0)], 2, 2).expect("points");
        assert_eq!((low, high), (2.0, 2.0));
        assert!(lines.iter().all(|line| line.chars().count() == 2), "{lines:?}");
        assert!(curve(&[(5.0, 2.0)], 3, 1).is_some());
    }
}
