use mm1_train::law::LearningRateLaw;

#[test]
fn gives_the_papers_values() {
    let law = LearningRateLaw::default();
    for (parameters, expected) in
        [(9_000_000, 6.75e-4), (85_000_000, 2.62e-4), (302_000_000, 1.54e-4), (1_200_000_000, 8.6e-5)]
    {
        let lr = law.learning_rate(parameters).unwrap();
        assert!((lr / expected - 1.0).abs() < 5e-3, "{parameters}: {lr:e}, the paper has {expected:e}");
    }
}

#[test]
fn numbers_that_give_no_rate_are_refused() {
    for (a, b) in [(0.5, 0.0), (f64::NAN, 0.0), (-0.4, f64::INFINITY), (-1e9, 0.0)] {
        let error = LearningRateLaw { a, b }.learning_rate(1000).unwrap_err().to_string();
        assert!(error.contains("law: a = ") && error.contains("mm1 law"), "{error}");
    }
    assert!(LearningRateLaw::default().learning_rate(0).is_err());
}
