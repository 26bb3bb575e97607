#!/usr/bin/env python3
"""Golden numbers for the statistics of crates/lab: writes testdata/lab/study.json and testdata/lab/law.json.

    pip install numpy scipy
    python3 scripts/reference/study.py

Scores: mean squares of seeds, examples and their interaction by the textbook, and from these variance and
degrees of freedom as Hillis (2007) has them. The law: regressions by numpy's least squares with a column
for each seed. Read by crates/lab/tests/it/study.rs and crates/lab/tests/it/law.rs.
"""

import json
from pathlib import Path

import numpy as np
from scipy import stats

FOLDER = Path(__file__).parents[2] / "testdata" / "lab"
rng = np.random.default_rng(28)


def setting(means, seeds, examples, of_seed):
    """For each task a matrix of scores, seeds by examples."""
    shared = [rng.normal(0, 12, n) for n in examples]
    run = rng.normal(0, of_seed, (seeds, 1))
    return [np.round(m + run + s + rng.normal(0, 8, (seeds, len(s))), 2) for m, s in zip(means, shared)]


def run_means(tasks):
    return np.mean([y.mean(1) for y in tasks], axis=0)


def estimate(tasks, of_seeds, free):
    t, s = len(tasks), len(tasks[0])
    items = 0.0
    for y in tasks:
        n = y.shape[1]
        ms_examples = s * ((y.mean(0) - y.mean()) ** 2).sum() / (n - 1)
        rest = y - y.mean(0, keepdims=True) - y.mean(1, keepdims=True) + y.mean()
        ms_rest = (rest**2).sum() / ((s - 1) * (n - 1))
        items += (ms_examples - ms_rest) / (s * n) / t**2
    variance = of_seeds + max(items, 0.0)
    df = variance**2 / (of_seeds**2 / free)
    return run_means(tasks).mean(), np.sqrt(variance), df


def interaction(settings):
    """The mean square of settings by seeds, and its degrees of freedom."""
    m = np.array([run_means(tasks) for tasks in settings])
    rest = m - m.mean(0, keepdims=True) - m.mean(1, keepdims=True) + m.mean()
    free = (m.shape[0] - 1) * (m.shape[1] - 1)
    return (rest**2).sum() / free, free


def of(value, error, df):
    df = min(df, 1000)
    half = stats.t.ppf(0.975, df) * error
    return {
        "value": value,
        "standard_error": error,
        "degrees_of_freedom": df,
        "ci95": [value - half, value + half],
        "p_equal": 2 * stats.t.sf(abs(value) / error, df),
        "p_beyond": max(stats.t.sf((3 + value) / error, df), stats.t.cdf((value - 3) / error, df)),
    }


def holm(p):
    m, order = len(p), np.argsort(p)
    stepped = [min(1.0, (m - k) * p[i]) for k, i in enumerate(order)]
    out = [0.0] * m
    for k, i in enumerate(order):
        out[i] = max(stepped[: k + 1])
    return out


studies = []
for others, seeds, examples, of_seed in [
    (1, 3, [12], 2.0),
    (1, 3, [9, 15], 0.2),
    (3, 5, [20], 4.0),
    (2, 2, [8, 6, 7], 1.0),
]:
    base = setting([50] * len(examples), seeds, examples, of_seed)
    changed = [[y + np.round(rng.normal(3, 5, y.shape), 2) for y in base] for _ in range(others)]
    square, free = interaction([base, *changed])
    apart = [[a - b for a, b in zip(other, base)] for other in changed]
    own = run_means(base).var(ddof=1) / seeds
    studies.append(
        {
            "settings": [[y.tolist() for y in tasks] for tasks in [base, *changed]],
            "base": of(*estimate(base, own, seeds - 1)),
            "differences": [of(*estimate(tasks, 2 * square / seeds, free)) for tasks in apart],
        }
    )
p = [0.011, 0.02, 0.3, 0.004, 0.004, 0.9, 0.04]
golden = {"studies": studies, "p": p, "holm": holm(p)}
(FOLDER / "study.json").write_text(json.dumps(golden, indent=1) + "\n")


def optimum(x, y):
    """`y` by settings and seeds."""
    settings, seeds = y.shape
    columns = [np.tile(np.eye(seeds)[s], settings) for s in range(seeds)]
    design = np.column_stack([*columns, np.repeat(x, seeds), np.repeat(x**2, seeds)])
    beta = np.linalg.lstsq(design, y.ravel(), rcond=None)[0]
    left = ((y.ravel() - design @ beta) ** 2).sum()
    df = y.size - seeds - 2
    covariance = left / df * np.linalg.inv(design.T @ design)
    b, c = beta[-2:]
    slope = np.zeros(len(beta))
    slope[-2:] = [-1 / (2 * c), b / (2 * c**2)]
    pure = y - y.mean(1, keepdims=True) - y.mean(0, keepdims=True) + y.mean()
    pure, free = (pure**2).sum(), (settings - 1) * (seeds - 1)
    f = (left - pure) / (settings - 3) / (pure / free)
    return -b / (2 * c), np.sqrt(slope @ covariance @ slope), df, stats.f.sf(f, settings - 3, free)


sizes, runs, optima = [100_000, 400_000, 1_500_000, 6_000_000, 20_000_000], [], []
for size in sizes:
    best = -0.42 * np.log(size) - 0.5 + rng.normal(0, 0.05)
    rates = [float(f"{r:.4g}") for r in np.exp(np.round(best, 1) + np.log(2) * np.arange(-2, 3))]
    x = np.log(rates)
    y = 2 + 0.05 * (x[:, None] - best) ** 2 + rng.normal(0, 0.02, (1, 3)) + rng.normal(0, 0.008, (5, 3))
    y = np.round(y, 5)
    for i, rate in enumerate(rates):
        for seed in range(3):
            run = {"parameters": size, "learning_rate": rate, "weight_decay": 0.1, "seed": seed}
            runs.append({**run, "result": y[i, seed]})
    ln, error, df, p = optimum(x, y)
    optima.append({"ln": ln, "standard_error": error, "degrees_of_freedom": df, "parabola_p": p})

x, y = np.log(sizes), np.array([o["ln"] for o in optima])
root = 1 / np.array([o["standard_error"] for o in optima])
design = np.column_stack([x, np.ones_like(x)]) * root[:, None]
(a, b), *_ = np.linalg.lstsq(design, y * root, rcond=None)
covariance = np.linalg.inv(design.T @ design)
scatter = ((y * root - design @ [a, b]) ** 2).sum() / (len(sizes) - 2)
free = sum(o["degrees_of_freedom"] for o in optima)
half = [
    max(stats.t.ppf(0.975, free) * np.sqrt(v), stats.t.ppf(0.975, len(sizes) - 2) * np.sqrt(v * scatter))
    for v in np.diag(covariance)
]
law = {"a": a, "b": b, "half_widths": half, "scatter": scatter}
(FOLDER / "law.json").write_text(json.dumps({"runs": runs, "optima": optima, "law": law}, indent=1) + "\n")
