"""Makes testdata/vision/*.safetensors: what the image encoder's options must compute, by the PyTorch
network in mm1.py.

    python3 scripts/reference/vision.py [--out testdata/vision]

A case has in its metadata `config` (JSON: `vision` and `connector` tables), `grid` (rows and columns of
patches) and `prefixes` (one for each picture, or null), and the tensors

    weights/PATH     every parameter of `vision` and `connector` (f32)
    input/…          pixels [n, h, w, 3]; probe [n, t, d], what the tokens are multiplied with
    output/…         embed, tokens [n, t, d], features [n, p, d], pooled [n, d], connector [n, k, 24]
    gradients/PATH   of the sum of tokens * probe

`positions.safetensors` has tables `HxW` [h w, d] and, for each, tables `HxW/RxC` interpolated to other
grids. Computed in f64 from f32 values, then rounded to f32.
"""

import argparse
import json
import pathlib

import torch
from safetensors.torch import save_file

from golden import fill, sort_metadata
from mm1 import CONNECTORS, Vision, resample

OUT = 24


def vision(**other):
    base = {"image_size": 20, "patch": 4, "stem": "patch", "dim": 16, "layers": 2, "heads": 2, "ffn": 24}
    return base | {"class_token": False, "norm_eps": 1e-6} | other


CASES = {
    # As CLIP, on a wide picture; two blocks of three.
    "clip": {
        "vision": vision(
            layers=3, feature_block=2, class_token=True, pre_norm=True, activation="quick-gelu", norm_eps=1e-5
        ),
        "connector": {"kind": "average-pool", "tokens": 4},
        "grid": [3, 7],
    },
    # As SigLIP, on a tall picture of more patches than the table.
    "siglip": {
        "vision": vision(image_size=12, activation="gelu-tanh"),
        "connector": {"kind": "c-abstractor", "tokens": 4, "dim": 20, "depth": 1},
        "grid": [6, 5],
    },
    # As AIM: the first patches of each picture see each other, the others themselves and those before.
    "prefix": {
        "vision": vision(image_size=16, stem="conv"),
        "connector": {"kind": "average-pool", "tokens": 4},
        "grid": [4, 4],
        "prefixes": [3, 9],
    },
}
GRIDS = {(5, 5): [(3, 7), (10, 4), (5, 6), (1, 1), (16, 16)], (37, 37): [(16, 16), (38, 5)], (3, 4): [(8, 9)]}


def sight(prefixes, t):
    """Who sees whom: [n, 1, t, t]."""
    if prefixes is None:
        return None
    query, key = torch.arange(t)[:, None], torch.arange(t)[None]
    return torch.stack([(key <= query) | (key < prefix) for prefix in prefixes])[:, None]


def golden(case, seed):
    generator = torch.Generator().manual_seed(seed)
    config, (rows, columns), prefixes = case["vision"], case["grid"], case.get("prefixes")
    model = torch.nn.ModuleDict(
        {"vision": Vision(config), "connector": CONNECTORS[case["connector"]["kind"]](case["connector"], config, OUT)}
    )
    fill(model, generator)
    pixels = torch.randn(2, rows * config["patch"], columns * config["patch"], 3, generator=generator)
    tokens = rows * columns + config["class_token"]
    probe = torch.randn(2, tokens, config["dim"], generator=generator)
    tensors = {f"weights/{path}": p.detach().clone() for path, p in model.named_parameters()}
    tensors |= {"input/pixels": pixels, "input/probe": probe}

    model = model.double()
    encoder = model["vision"]
    embed = encoder.embed(pixels.double())
    encoded = encoder.encode(embed, sight(prefixes, tokens))
    (encoded * probe.double()).sum().backward()
    gradients = {path: p.grad for path, p in model.named_parameters() if p.grad is not None}
    features = encoder(pixels.double())
    pooled = encoded[:, 0] if config["class_token"] else encoded.mean(1)
    outputs = {"embed": embed, "tokens": encoded, "features": features, "pooled": pooled}
    outputs["connector"] = model["connector"](features, (rows, columns))
    tensors |= {f"gradients/{path}": grad for path, grad in gradients.items()}
    tensors |= {f"output/{name}": x for name, x in outputs.items()}
    about = {"config": {key: case[key] for key in ("vision", "connector")}, "grid": case["grid"], "prefixes": prefixes}
    return tensors, {key: json.dumps(value) for key, value in about.items()}


def positions():
    generator, tensors = torch.Generator().manual_seed(9), {}
    for start, ends in GRIDS.items():
        name = "x".join(map(str, start))
        table = torch.randn(start[0] * start[1], 3, generator=generator)
        tensors[name] = table
        for end in ends:
            tensors[f"{name}/{'x'.join(map(str, end))}"] = resample(table.double(), start, end)
    return tensors, {}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--out", type=pathlib.Path, default="testdata/vision")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    files = {name: golden(case, seed) for seed, (name, case) in enumerate(CASES.items())}
    for name, (tensors, metadata) in (files | {"positions": positions()}).items():
        path = out / f"{name}.safetensors"
        save_file({key: x.detach().float().contiguous() for key, x in tensors.items()}, path, metadata)
        sort_metadata(path)
        print(f"{name}: {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
