"""Five steps of PyTorch's AdamW with groups and clipping: writes testdata/train/adamw.json.

Once as it is (`after`), and once with moments that are rounded to bfloat16 after each step (`after_bf16`).

    python3 scripts/reference/optimizer.py

The loss is sum(parameter * coefficient), so that the coefficients are the gradients. Read by
crates/train/tests/it/optim.rs.
"""

import json
from pathlib import Path

import torch

SHAPES = {"vision.matrix": [3, 4], "connector.matrix": [2, 3, 2], "lm.matrix": [4, 5], "lm.bias": [5]}
SCALE = {"vision": 0.5, "connector": 2.0, "lm": 1.0}
LRS = [1e-2, 3e-2, 2e-2, 1e-2, 5e-3]

torch.manual_seed(0)
start = {n: torch.randn(s) for n, s in SHAPES.items()}
# The first two steps have gradients below the clipping norm of 1.
gradients = [{n: torch.randn(s) * (0.05 if i < 2 else 3.0) for n, s in SHAPES.items()} for i in range(len(LRS))]


def train(rounded):
    """The norm of the gradients and the parameters after each step."""
    params = {n: p.clone().requires_grad_() for n, p in start.items()}
    groups = [{"params": [p], "name": n, "weight_decay": 0.1 if p.dim() >= 2 else 0.0} for n, p in params.items()]
    adam = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), eps=1e-8)
    for lr, coefficients in zip(LRS, gradients):
        for group in adam.param_groups:
            group["lr"] = lr * SCALE[group["name"].split(".")[0]]
        adam.zero_grad()
        sum((params[n] * c).sum() for n, c in coefficients.items()).backward()
        norm = torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
        adam.step()
        if rounded:
            for state in adam.state.values():
                for moment in ("exp_avg", "exp_avg_sq"):
                    state[moment].copy_(state[moment].bfloat16())
        yield norm.item(), {n: p.detach().flatten().tolist() for n, p in params.items()}


def lists(tensors):
    return {n: t.flatten().tolist() for n, t in tensors.items()}


steps = [
    {"lr": lr, "grads": lists(grads), "norm": norm, "after": after, "after_bf16": after_bf16}
    for lr, grads, (norm, after), (_, after_bf16) in zip(LRS, gradients, train(False), train(True))
]
out = Path(__file__).parents[2] / "testdata/train/adamw.json"
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(json.dumps({"shapes": SHAPES, "start": lists(start), "steps": steps}) + "\n")
