"""Draws docs/images/mixture.svg from docs/results/mixture.md, which has our means and the paper's table:

    pip install matplotlib
    python scripts/figures/mixture.py
"""

import re
from pathlib import Path

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as plt

ROOT = Path(__file__).parents[2]
COLOURS = {"0": "#6b7280", "4": "#1763ad", "8": "#c05a00"}
# The same bytes each time.
matplotlib.rcParams |= {
    "svg.hashsalt": "mm1",
    "svg.fonttype": "none",
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
}

text = (ROOT / "docs/results/mixture.md").read_text()
figure, (ours, paper) = plt.subplots(1, 2, figsize=(7.6, 3.1))
for shots, section in re.findall(r"## few-shot, (\d) shots\n(.*?)(?=\n## )", text, re.S):
    rows = re.findall(r"^\| (\d+ : \d+) \| ([\d.]+) ± ([\d.]+) \|", section, re.M)
    names, values, widths = zip(*[(name, float(value), float(width)) for name, value, width in rows])
    ours.errorbar(names, values, widths, color=COLOURS[shots], marker="o", ms=4, capsize=3, label=f"{shots} shots")
rows = re.findall(r"^\| (\d+ : \d+) \| ([\d.]+) \| ([\d.]+) \| ([\d.]+) \|$", text, re.M)
for i, shots in enumerate(COLOURS):
    values = [float(row[i + 1]) for row in rows]
    paper.plot([row[0] for row in rows], values, color=COLOURS[shots], marker="o", ms=4, label=f"{shots} shots")
for axes, title in ((ours, "ours: built-in world, three seeds"), (paper, "MM1, figure 5")):
    axes.set(title=title, xlabel="captions : interleaved", ylabel="mean score", ylim=(0, None))
    axes.legend(frameon=False)
figure.tight_layout()
figure.savefig(ROOT / "docs/images/mixture.svg", metadata={"Date": None}, bbox_inches="tight")
