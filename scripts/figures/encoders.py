"""Draws docs/images/encoders.svg from three runs:

    pip install matplotlib
    python scripts/figures/encoders.py --clip runs/clip --dino runs/dino --aim runs/aim
"""

import argparse
import json
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

COLOURS = {"encoder": "#1763ad", "random": "#c05a00", "pixels": "#6b7280"}
IMAGES = Path(__file__).parents[2] / "docs/images"
# The same bytes each time.
matplotlib.rcParams |= {"svg.hashsalt": "mm1", "svg.fonttype": "none", "font.size": 9, "axes.spines.top": False, "axes.spines.right": False}


def save(figure, name):
    figure.savefig(IMAGES / name, metadata={"Date": None}, bbox_inches="tight")


def error(score):
    low, high = score["ci95"]
    return [[score["value"] - low], [high - score["value"]]]


def smooth(values):
    half = max(1, len(values) // 60)
    windows = (values[max(0, i - half) : i + half + 1] for i in range(len(values)))
    return [sum(window) / len(window) for window in windows]


def measures(axes, name, run):
    """k-NN and the probes beside what needs no training."""
    scores = {score["task"]: score for score in json.loads((run / "eval.json").read_text())}
    tasks = {"knn": "k-NN", "linear-probe": "linear\nprobe", "attentive-probe": "attentive\nprobe"}
    tasks = {task: label for task, label in tasks.items() if task in scores}
    for group, task in enumerate(tasks):
        for i, (way, colour) in enumerate(COLOURS.items()):
            score = scores[task if way == "encoder" else f"{task}/{way}"]
            label = {"encoder": "trained", "random": "random weights", "pixels": "raw pixels"}[way] if group == 0 else None
            axes.bar(group + (i - 1) * 0.27, score["value"], 0.25, color=colour, label=label)
            axes.errorbar(group + (i - 1) * 0.27, score["value"], error(score), color="#1b1f24", linewidth=1)
    axes.set_xticks(range(len(tasks)), tasks.values())
    axes.set_title(f"{name}-quick")
    axes.set_ylabel(f"right class, %, n = {scores['knn']['n']:,}")


def curve(axes, run, key, label):
    steps = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    steps = [step for step in steps if key in step]
    axes.plot([step["step"] for step in steps], smooth([step[key] for step in steps]), color=COLOURS["encoder"])
    axes.set_xlabel("step")
    axes.set_ylabel(label)


def quick(runs):
    figure, axes = plt.subplots(2, 3, figsize=(9, 5), layout="constrained")
    for column, (name, run) in zip(axes.T, runs.items()):
        measures(column[0], name, run)
    figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=3, frameon=False)
    curve(axes[1, 0], runs["clip"], "loss", "loss, nats a picture")
    curve(axes[1, 1], runs["dino"], "rank", "rank of the features")
    curve(axes[1, 2], runs["aim"], "loss", "squared error a value")
    save(figure, "encoders.svg")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ["clip", "dino", "aim"]:
        parser.add_argument(f"--{name}", type=Path, required=True, help=f"the run of recipes/encoder/{name}-quick.toml")
    args = parser.parse_args()
    quick({name: getattr(args, name) for name in ["clip", "dino", "aim"]})


main()
