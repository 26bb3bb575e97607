#!/usr/bin/env python3
"""How often intervals over few seeds hold the truth: the simulations of docs/LOG.md.

    pip install numpy scipy
    python3 scripts/figures/intervals.py

Scores of seeds and examples are drawn around a known truth; so are optima of learning rates around a known
law. Each table gives the share of 95% intervals that hold it, by each way to make them. What crates/lab does
is "seeds and examples", "pooled" and "larger".
"""

import numpy as np
from scipy import stats

rng = np.random.default_rng(28)


def bootstrap(y, nested, draws=200):
    """Percentiles over seeds drawn anew and examples drawn anew: for each seed apart, or for all at once."""
    seeds, n = y.shape
    chosen = y[rng.integers(0, seeds, (draws, seeds))]
    weights = rng.multinomial(n, [1 / n] * n, (draws, seeds if nested else 1)) / n
    return np.quantile((chosen * weights).sum(2).mean(1), [0.025, 0.975])


def parts(y):
    """The variance of the mean by examples that seeds share."""
    seeds, n = y.shape
    rest = y - y.mean(0) - y.mean(1, keepdims=True) + y.mean()
    return max((y.mean(0).var(ddof=1) - (rest**2).sum() / ((seeds - 1) * (n - 1)) / seeds) / n, 0)


def interval(value, of_seeds, free, of_examples):
    variance = of_seeds + of_examples
    half = stats.t.ppf(0.975, min(variance**2 / (of_seeds**2 / free), 1000)) * np.sqrt(variance)
    return value - half, value + half


def one_setting(repeats=200, n=60):
    print("| sd of seeds, examples, rest | seeds, then examples | both at once | seeds' t alone |"
          " seeds and examples |\n|---|---|---|---|---|")
    seeds = 3
    for sd in [(0, 40, 10), (3, 40, 25), (5, 0, 10)]:
        held = np.zeros(4)
        for _ in range(repeats):
            y = rng.normal(0, sd[0], (seeds, 1)) + rng.normal(0, sd[1], n) + rng.normal(0, sd[2], (seeds, n))
            own = y.mean(1).var(ddof=1) / seeds
            ways = [bootstrap(y, True), bootstrap(y, False), interval(y.mean(), own, seeds - 1, 0)]
            ways.append(interval(y.mean(), own, seeds - 1, parts(y)))
            held += [low <= 0 <= high for low, high in ways]
        print(f"| {sd} |", " | ".join(f"{h / repeats:.2f}" for h in held), "|")


def differences(repeats=500, n=200, settings=4):
    print("\n| seeds | sd of each setting's seeds | by themselves | half width | pooled | half width | the last |"
          "\n|---|---|---|---|---|---|---|")
    for seeds in (2, 3, 5):
        for sd in [(0, 0, 0, 0), (1, 1, 1, 1), (1, 1, 1, 3)]:
            held, halves, last = np.zeros(2), ([], []), 0
            for _ in range(repeats):
                common = rng.normal(0, 2, (seeds, 1)) + rng.normal(0, 40, n)
                y = [common + rng.normal(0, s, (seeds, 1)) + rng.normal(0, 15, (seeds, n)) for s in sd]
                m = np.array([of.mean(1) for of in y])
                rest = m - m.mean(0) - m.mean(1, keepdims=True) + m.mean()
                free = (settings - 1) * (seeds - 1)
                pooled = 2 * (rest**2).sum() / free / seeds
                for of in y[1:]:
                    d = of - y[0]
                    own = d.mean(1).var(ddof=1) / seeds
                    for way, (v, f) in enumerate([(own, seeds - 1), (pooled, free)]):
                        low, high = interval(d.mean(), v, f, parts(d))
                        held[way] += low <= 0 <= high
                        halves[way].append((high - low) / 2)
                last += low <= 0 <= high
            shares, widths = held / repeats / (settings - 1), [np.median(h) for h in halves]
            print(f"| {seeds} | {sd} | {shares[0]:.2f} | {widths[0]:.1f} | {shares[1]:.2f} | {widths[1]:.1f} |"
                  f" {last / repeats:.2f} |")


def law(repeats=1000):
    """Optima of known errors with 10 degrees of freedom, some off the line."""
    print("\n| sizes | off the line | from errors | with scatter above 1 | t of scatter | larger |\n"
          "|---|---|---|---|---|---|")
    for sizes in (4, 6):
        x = np.linspace(np.log(1e5), np.log(1e7), sizes)
        x = x - x.mean()
        for off in (0, 1, 5):
            held = np.zeros(4)
            for _ in range(repeats):
                error = rng.uniform(0.5, 1.5, sizes)
                y = rng.normal(0, error) + rng.normal(0, off, sizes)
                guessed = error * np.sqrt(rng.chisquare(10, sizes) / 10)
                design = np.column_stack([x, np.ones(sizes)]) / guessed[:, None]
                covariance = np.linalg.inv(design.T @ design)
                beta = covariance @ design.T @ (y / guessed)
                scatter = ((y / guessed - design @ beta) ** 2).sum() / (sizes - 2)
                root = np.sqrt(covariance[0, 0])
                known = stats.t.ppf(0.975, 10 * sizes) * root
                halves = [known, known * np.sqrt(max(1, scatter))]
                halves.append(stats.t.ppf(0.975, sizes - 2) * root * np.sqrt(scatter))
                held += [abs(beta[0]) <= half for half in [*halves, max(known, halves[2])]]
            print(f"| {sizes} | {off} |", " | ".join(f"{h / repeats:.2f}" for h in held), "|")


one_setting()
differences()
law()
