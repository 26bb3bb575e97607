"""Five steps of PyTorch's AdamW with groups and clipping: writes testdata/train/adamw.json.

Once as it is (`after`), and once with moments that are rounded to bytes after each step (`after_8bit`), as
crates/kernels/src/adamw/bytes.rs says; no parameter here is longer than a block.

    python3 scripts/reference/optimizer.py

The loss is sum(parameter * coefficient), so that the coefficients are the gradients. Read by
crates/train/tests/it/optim.rs.
"""

import json
from pathlib import Path

import numpy as np
import torch

SHAPES = {"vision.matrix": [3, 4], "connector.matrix": [2, 3, 2], "lm.matrix": [4, 5], "lm.bias": [5]}
SCALE = {"vision": 0.5, "connector": 2.0, "lm": 1.0}
LRS = [1e-2, 3e-2, 2e-2, 1e-2, 5e-3]

torch.manual_seed(0)
start = {n: torch.randn(s) for n, s in SHAPES.items()}
# The first two steps have gradients below the clipping norm of 1.
gradients = [{n: torch.randn(s) * (0.05 if i < 2 else 3.0) for n, s in SHAPES.items()} for i in range(len(LRS))]


def scrambled(x):
    for shift, factor in ((16, 0x7FEB352D), (15, 0x846CA68B)):
        x = (x ^ (x >> np.uint64(shift))) * np.uint64(factor) & np.uint64(0xFFFFFFFF)
    return x ^ (x >> np.uint64(16))


def eight_bits(state, time):
    """To one of the two codes around each moment, with the odds of its place between what they stand for."""
    first, second = (state[moment].flatten().double().numpy() for moment in ("exp_avg", "exp_avg_sq"))
    bits = scrambled(np.arange(first.size, dtype=np.uint64) ^ scrambled(np.uint64(time)))
    odds = [(bits & np.uint64(0xFFFF)) / 65536, (bits >> np.uint64(16)) / 65536]

    def kept(codes, value, meaning, odds):
        codes = np.floor(codes + 1e-9)
        low, high = meaning(codes), meaning(codes + 1)
        return np.where(odds * (high - low) < value - low, high, low)

    s, r = np.abs(first).max(), np.sqrt(second.max())
    sign, size = np.sign(first), np.abs(first)
    first = sign * kept(127 * np.sqrt(size / s), size, lambda code: (code / 127) ** 2 * s, odds[0])
    meaning = lambda code: ((code / 255) ** 2 * r) ** 2
    second = np.where(second > 0, np.maximum(kept(255 * np.sqrt(np.sqrt(second) / r), second, meaning, odds[1]), meaning(1)), 0)
    for moment, values in (("exp_avg", first), ("exp_avg_sq", second)):
        state[moment].copy_(torch.from_numpy(values).view(state[moment].shape))


def train(rounded=None):
    """The norm of the gradients and the parameters after each step; `rounded` changes the moments behind a
    step.
    """
    params = {n: p.clone().requires_grad_() for n, p in start.items()}
    groups = [{"params": [p], "name": n, "weight_decay": 0.1 if p.dim() >= 2 else 0.0} for n, p in params.items()]
    adam = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), eps=1e-8)
    for time, (lr, coefficients) in enumerate(zip(LRS, gradients), start=1):
        for group in adam.param_groups:
            group["lr"] = lr * SCALE[group["name"].split(".")[0]]
        adam.zero_grad()
        sum((params[n] * c).sum() for n, c in coefficients.items()).backward()
        norm = torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
        adam.step()
        if rounded:
            for state in adam.state.values():
                rounded(state, time)
        yield norm.item(), {n: p.detach().flatten().tolist() for n, p in params.items()}


def lists(tensors):
    return {n: t.flatten().tolist() for n, t in tensors.items()}


steps = [
    {"lr": lr, "grads": lists(grads), "norm": norm, "after": after, "after_8bit": after_8bit}
    for lr, grads, (norm, after), (_, after_8bit) in zip(LRS, gradients, train(), train(eight_bits))
]
out = Path(__file__).parents[2] / "testdata/train/adamw.json"
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(json.dumps({"shapes": SHAPES, "start": lists(start), "steps": steps}) + "\n")
