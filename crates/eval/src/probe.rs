//! What an image encoder's features are worth by themselves: k nearest neighbours, zero-shot classification,
//! retrieval. Each gives a score of 0 or 100 for every item, of which [`crate::score::bootstrap::mean`] makes
//! a score.

/// Temperature of the neighbours' votes (Wu et al. 2018; DINO, section 4.1).
const VOTE_TEMPERATURE: f64 = 0.07;

/// Vectors `[n, dim]` and the class of each.
#[derive(Clone, Debug, PartialEq)]
pub struct LabelledVectors {
    /// Values of a vector.
    pub dim: usize,
    /// `[n, dim]`
    pub vectors: Vec<f32>,
    /// `[n]`
    pub labels: Vec<usize>,
}

/// Classifies each of `test` by its `k` nearest of `train` in cosine, whose votes weigh `exp(cosine / 0.07)`;
/// of equal classes the first is taken.
pub fn nearest(train: &LabelledVectors, test: &LabelledVectors, k: usize) -> Vec<f64> {
    let classes = train.labels.iter().max().map_or(0, |label| label + 1);
    let (train_units, test_units) = (units(&train.vectors, train.dim), units(&test.vectors, test.dim));
    let class = |vector: &[f32]| {
        let mut near: Vec<(f64, usize)> = train_units
            .chunks_exact(train.dim)
            .zip(&train.labels)
            .map(|(other, &label)| (dot(vector, other), label))
            .collect();
        let k = k.min(near.len());
        near.select_nth_unstable_by(k - 1, |a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        let mut votes = vec![0.0; classes];
        // In a fixed order: a sum depends on it.
        near[..k].sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
        near[..k].iter().for_each(|(cosine, label)| votes[*label] += (cosine / VOTE_TEMPERATURE).exp());
        first_largest(&votes)
    };
    let right = |(vector, label): (&[f32], &usize)| percent(class(vector) == *label);
    test_units.chunks_exact(test.dim).zip(&test.labels).map(right).collect()
}

/// Classifies pictures by the nearest in cosine of the `classes`' texts `[c, dim]`, which stand in the order
/// of labels.
pub fn zero_shot(pictures: &LabelledVectors, classes: &[f32]) -> Vec<f64> {
    let (pictures_units, classes) = (units(&pictures.vectors, pictures.dim), units(classes, pictures.dim));
    let right = |(vector, label): (&[f32], &usize)| percent(closest(vector, &classes) == *label);
    pictures_units.chunks_exact(pictures.dim).zip(&pictures.labels).map(right).collect()
}

/// Recall at 1 among all n pairs: whether a picture's nearest text is its own, and a text's nearest picture;
/// both `[n, dim]`. Texts that are the same, by `same`, are each other's own.
pub fn retrieval(pictures: &[f32], texts: &[f32], dim: usize, same: &[usize]) -> [Vec<f64>; 2] {
    let (pictures, texts) = (units(pictures, dim), units(texts, dim));
    let found = |from: &[f32], among: &[f32]| {
        let right = |(vector, own): (&[f32], &usize)| percent(same[closest(vector, among)] == *own);
        from.chunks_exact(dim).zip(same).map(right).collect()
    };
    [found(&pictures, &texts), found(&texts, &pictures)]
}

fn percent(right: bool) -> f64 {
    if right { 100.0 } else { 0.0 }
}

/// The index of the vector nearest in cosine, all being unit vectors; of equals the first.
fn closest(vector: &[f32], among: &[f32]) -> usize {
    let cosines: Vec<f64> = among.chunks_exact(vector.len()).map(|other| dot(vector, other)).collect();
    first_largest(&cosines)
}

fn first_largest(values: &[f64]) -> usize {
    (0..values.len()).rev().max_by(|&a, &b| values[a].total_cmp(&values[b])).unwrap_or(0)
}

/// The vectors at length 1; one of length 0 stays.
fn units(vectors: &[f32], dim: usize) -> Vec<f32> {
    let mut units = vectors.to_vec();
    for vector in units.chunks_exact_mut(dim) {
        let length = dot(vector, vector).sqrt();
        if length > 0.0 {
            vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
        }
    }
    units
}

/// In lanes, which the compiler turns into vector instructions; the sum's order is fixed.
fn dot(a: &[f32], b: &[f32]) -> f64 {
    let ((a, a_rest), (b, b_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    let mut lanes = [0f32; 16];
    for (a, b) in a.iter().zip(b) {
        for i in 0..16 {
            lanes[i] += a[i] * b[i];
        }
    }
    let rest: f64 = a_rest.iter().zip(b_rest).map(|(a, b)| f64::from(a * b)).sum();
    lanes.iter().map(|&x| f64::from(x)).sum::<f64>() + rest
}
