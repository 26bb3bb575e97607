"""Five steps of PyTorch's AdamW with groups and clipping: writes testdata/train/adamw.json.

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
params = {n: torch.randn(s).requires_grad_() for n, s in SHAPES.items()}
start = {n: p.detach().flatten().tolist() for n, p in params.items()}
groups = [
    {"params": [p], "name": n, "weight_decay": 0.1 if p.dim() >= 2 else 0.0} for n, p in params.items()
]
adam = torch.optim.AdamW(groups, lr=0.0, betas=(0.9, 0.95), eps=1e-8)
steps = []
for i, lr in enumerate(LRS):
    # The first two steps have gradients below the clipping norm of 1.
    coefficients = {n: torch.randn(s) * (0.05 if i < 2 else 3.0) for n, s in SHAPES.items()}
    for group in adam.param_groups:
        group["lr"] = lr * SCALE[group["name"].split(".")[0]]
    adam.zero_grad()
    sum((params[n] * c).sum() for n, c in coefficients.items()).backward()
    norm = torch.nn.utils.clip_grad_norm_(params.values(), 1.0)
    adam.step()
    steps.append({
        "lr": lr,
        "grads": {n: c.flatten().tolist() for n, c in coefficients.items()},
        "norm": norm.item(),
        "after": {n: p.detach().flatten().tolist() for n, p in params.items()},
    })

out = Path(__file__).parents[2] / "testdata/train/adamw.json"
out.parent.mkdir(parents=True, exist_ok=True)
out.write_text(json.dumps({"shapes": SHAPES, "start": start, "steps": steps}) + "\n")
