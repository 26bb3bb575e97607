use mm1_train::law::learning_rate;

#[test]
fn gives_the_papers_values() {
    for (parameters, expected) in
        [(9_000_000, 6.75e-4), (85_000_000, 2.62e-4), (302_000_000, 1.54e-4), (1_200_000_000, 8.6e-5)]
    {
        let lr = learning_rate(parameters);
        assert!((lr / expected - 1.0).abs() < 5e-3, "{parameters}: {lr:e}, the paper has {expected:e}");
    }
}
