//! Neighbours, classes and pairs whose answers are known.

use mm1_eval::probe::{LabelledVectors, nearest, retrieval, zero_shot};

fn labelled(vectors: &[[f32; 2]], labels: &[usize]) -> LabelledVectors {
    LabelledVectors { dim: 2, vectors: vectors.concat(), labels: labels.to_vec() }
}

#[test]
fn neighbours_vote_by_their_cosine() {
    let train = labelled(&[[1.0, 0.0], [5.0, 0.2], [0.0, 1.0], [0.0, 3.0], [0.1, 1.0]], &[0, 0, 1, 1, 2]);
    let test = labelled(&[[2.0, 0.1], [0.0, 0.5], [0.0, 9.0]], &[0, 1, 0]);
    assert_eq!(nearest(&train, &test, 1), [100.0, 100.0, 0.0]);
    // Two of class 1 at cosine 1 weigh more than one of class 2 beside them; more neighbours than there are:
    // all.
    assert_eq!(nearest(&train, &test, 3), [100.0, 100.0, 0.0]);
    assert_eq!(nearest(&train, &test, 50), [100.0, 100.0, 0.0]);
    // Nearness counts, not number: two of class 1 at 45 degrees against one of class 0 at 0.
    let train = labelled(&[[1.0, 0.0], [1.0, 1.0], [1.0, -1.0]], &[0, 1, 1]);
    assert_eq!(nearest(&train, &labelled(&[[1.0, 0.0]], &[0]), 3), [100.0]);
}

#[test]
fn zero_shot_takes_the_nearest_class() {
    let classes = [1.0, 0.0, 0.0, 8.0];
    let pictures = labelled(&[[0.9, 0.5], [0.1, 0.2], [3.0, 2.0]], &[0, 1, 1]);
    assert_eq!(zero_shot(&pictures, &classes), [100.0, 100.0, 0.0]);
}

#[test]
fn retrieval_knows_texts_that_are_the_same() {
    let pictures = [1.0, 0.0, 0.0, 1.0, -1.0, 0.0];
    // The third picture's own text is the first's; the second text is nearest to the first picture.
    let texts = [1.0, 0.1, 0.9, 0.2, 1.0, 0.1];
    let [by_picture, by_text] = retrieval(&pictures, &texts, 2, &[0, 1, 0]);
    assert_eq!(by_picture, [100.0, 100.0, 0.0]);
    assert_eq!(by_text, [100.0, 0.0, 100.0]);
}
