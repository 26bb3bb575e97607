use mm1_train::Schedule;

fn close(a: f64, b: f64) {
    assert!((a - b).abs() < 1e-15, "{a:e} is not {b:e}");
}

#[test]
fn has_the_right_corners() {
    let s = Schedule { peak: 1e-3, warmup_steps: 10, steps: 110 };
    close(s.lr(0), 1e-4);
    close(s.lr(4), 5e-4);
    close(s.lr(9), 1e-3);
    close(s.lr(59), 5.5e-4); // half of the cosine
    close(s.lr(109), 1e-4);
    close(s.lr(110), 1e-4);
    close(s.lr(u64::MAX - 1), 1e-4);
}

#[test]
fn rises_then_falls() {
    let s = Schedule { peak: 1.0, warmup_steps: 7, steps: 50 };
    for step in 0..49 {
        assert_eq!(s.lr(step + 1) > s.lr(step), step < 6, "between {step} and {}", step + 1);
    }
}

#[test]
fn survives_odd_settings() {
    let lr = |warmup_steps, steps, step| Schedule { peak: 1.0, warmup_steps, steps }.lr(step);
    assert!(lr(0, 100, 0) < 1.0 && lr(0, 100, 0) > 0.999);
    close(lr(0, 1, 0), 0.1);
    close(lr(5, 5, 4), 1.0);
    close(lr(100, 5, 4), 0.05); // a run that ends inside its warm-up
    close(lr(0, 0, 0), 0.1);
}
