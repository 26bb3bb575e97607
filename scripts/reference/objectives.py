"""Makes testdata/model/objectives/*.safetensors: what the objectives of the image encoder must compute.

    python3 scripts/reference/objectives.py [--out testdata/model/objectives]

clip, siglip   open_clip's own ClipLoss and SigLipLoss (pip install open-clip-torch): loss times the number
               of pairs, as ours is a sum, and the gradients of both sides' vectors, of the scale's
               logarithm and of the bias
dino-*         equations 1-4 of Caron et al. 2021 over the PyTorch encoder beside this file: multi-crop with
               bicubic positions, centring or Sinkhorn-Knopp (algorithm of SwAV's appendix), iBOT's patch
               loss as in DINOv2, KoLeo
aim            El-Nouby et al. 2024: prefix attention, normalised pixels, mean squared error

Each file has `config` in its metadata, `weights/PATH`, `input/…`, `output/…`, `loss` and `gradients/PATH`;
computed in f64 from f32 values and rounded to f32.
"""

import argparse
import json
import math
import pathlib

import torch
import torch.nn.functional as F
from open_clip.loss import ClipLoss, SigLipLoss
from safetensors.torch import save_file
from torch import nn

from golden import fill
from mm1 import Mlp, Norm, Vision, linear, matrix

VISION = {"image_size": 16, "patch": 4, "stem": "patch", "dim": 16, "layers": 2, "heads": 2, "ffn": 24}
VISION |= {"class_token": False, "norm_eps": 1e-6}


def write(path, tensors, **metadata):
    tensors = {k: v.detach().contiguous().clone() for k, v in tensors.items()}
    tensors = {k: v.float() if v.is_floating_point() else v for k, v in tensors.items()}
    save_file(tensors, path, {k: json.dumps(v) for k, v in metadata.items()})


def contrast(out, generator):
    for name, scale, bias in [("clip", 14.0, None), ("siglip", 9.0, -4.0)]:
        sides = [F.normalize(torch.randn(6, 8, generator=generator), dim=1).float() for _ in range(2)]
        pictures, texts = [s.double().requires_grad_() for s in sides]
        log_scale = torch.tensor([math.log(scale)]).float().double().requires_grad_()
        tensors = {"input/pictures": pictures, "input/texts": texts, "input/log_scale": log_scale}
        if bias is None:
            loss = ClipLoss()(pictures, texts, log_scale.exp()) * 6
            leaves = [pictures, texts, log_scale]
        else:
            bias = torch.tensor([bias]).double().requires_grad_()
            loss = SigLipLoss()(pictures, texts, log_scale.exp(), bias) * 6
            leaves = [pictures, texts, log_scale, bias]
            tensors["input/bias"] = bias
        grads = torch.autograd.grad(loss, leaves)
        tensors |= {f"gradients/{n}": g for n, g in zip(["pictures", "texts", "log_scale", "bias"], grads)}
        write(out / f"{name}.safetensors", tensors | {"loss": loss.reshape(1)})


class Head(nn.Module):
    """Appendix C of DINO: three layers, a unit vector, weight-normalised prototypes of length 1."""

    def __init__(self, dim, hidden, bottleneck, prototypes):
        super().__init__()
        self.first, self.first_bias = matrix(dim, hidden), matrix(hidden)
        self.second, self.second_bias = matrix(hidden, hidden), matrix(hidden)
        self.third, self.third_bias = matrix(hidden, bottleneck), matrix(bottleneck)
        self.prototypes = matrix(bottleneck, prototypes)

    def forward(self, x):
        x = F.gelu(linear(x, self.first, self.first_bias))
        x = F.gelu(linear(x, self.second, self.second_bias))
        x = F.normalize(linear(x, self.third, self.third_bias), dim=-1)
        return x @ F.normalize(self.prototypes, dim=0)


def encode(vision, pixels, mask=None, token=None, attention=None):
    """All tokens after the last norm: [n, t, d]."""
    n, h, w, _ = pixels.shape
    p = vision.side
    x = pixels.view(n, h // p, p, w // p, p, 3).transpose(2, 3).reshape(n, -1, p * p * 3)
    x = linear(x, vision.patch, vision.patch_bias)
    if mask is not None:
        x = torch.where(mask[..., None], token, x)
    side = math.isqrt(vision.position.shape[0])
    table = vision.position.T.reshape(1, -1, side, side)
    if (h // p, w // p) != (side, side):
        table = F.interpolate(table, size=(h // p, w // p), mode="bicubic", align_corners=False)
    x = x + table.flatten(2).transpose(1, 2)
    if vision.class_token is not None:
        x = torch.cat([vision.class_token.expand(n, 1, -1), x], dim=1)
    for block in vision.blocks:
        x = block(x, attention)
    return vision.norm(x)


def pooled(vision, x):
    return x.mean(1) if vision.class_token is None else x[:, 0]


def sinkhorn(scores, temperature):
    q = torch.exp(scores / temperature).T
    q = q / q.sum()
    k, b = q.shape
    for _ in range(3):
        q = q / q.sum(1, keepdim=True) / k
        q = q / q.sum(0, keepdim=True) / b
    return (q * b).T


def koleo(x):
    x = F.normalize(x, dim=1, eps=1e-8)
    dots = (x @ x.T).fill_diagonal_(-1)
    return -torch.log(F.pairwise_distance(x, x[dots.argmax(1)], 2, 1e-8) + 1e-8).sum()


class Student(nn.Module):
    def __init__(self, vision, sizes):
        super().__init__()
        self.vision, self.head, self.mask = Vision(vision), Head(*sizes), matrix(1, vision["dim"])


class Dino(nn.Module):
    def __init__(self, vision, sizes):
        super().__init__()
        self.vision, self.head = Vision(vision), Head(*sizes)
        self.centre, self.patch_centre = matrix(sizes[3]), matrix(sizes[3])
        self.student = Student(vision, sizes)


def dino(out, generator, name, config, class_token):
    n, g, small, temperature = 3, 2, 2, 0.1
    sizes = (VISION["dim"], 20, 10, 14)
    vision = VISION | {"class_token": class_token}
    model = Dino(vision, sizes)
    fill(model, generator)
    weights = {f"weights/{k}": v.detach().clone() for k, v in model.named_parameters()}
    large, crops = torch.randn(n * g, 16, 16, 3, generator=generator), torch.randn(n * small, 8, 8, 3, generator=generator)
    mask = torch.zeros(n * g, 16, dtype=torch.bool)
    if config["ibot"]:
        for view in (0, 3, 4):
            mask[view, torch.randperm(16, generator=generator)[: 3 + view]] = True
    model = model.double()
    with torch.no_grad():
        tokens = encode(model.vision, large.double())
        logits = model.head(pooled(model.vision, tokens))
        patches = model.head(tokens[:, -16:][mask])
        balance = lambda x, c: sinkhorn(x, 0.05) if config["centring"] == "sinkhorn" else ((x - c) / 0.05).softmax(1)
        targets, patch_targets = balance(logits, model.centre), balance(patches, model.patch_centre)
    student = model.student
    seen = encode(student.vision, large.double(), mask, student.mask)
    features = pooled(student.vision, seen)
    said = student.head(features).view(n, g, -1)
    local = student.head(pooled(student.vision, encode(student.vision, crops.double()))).view(n, small, -1)
    said = (torch.cat([said, local], 1) / temperature).log_softmax(-1)
    loss, pairs = 0, 0
    for t in range(g):
        for s in range(g + small):
            if s != t:
                loss = loss - (targets.view(n, g, -1)[:, t] * said[:, s]).sum()
                pairs += 1
    loss = loss / pairs
    if config["ibot"]:
        each = -(patch_targets * (student.head(seen[:, -16:][mask]) / temperature).log_softmax(-1)).sum(-1)
        count = mask.sum(1, keepdim=True).expand_as(mask)[mask]
        loss = loss + config["ibot"] * (each / count).sum() / g
    if config["koleo"]:
        loss = loss + config["koleo"] * sum(koleo(features.view(n, g, -1)[:, v]) for v in range(g))
    loss.backward()
    grads = {f"gradients/student.{k}": p.grad for k, p in student.named_parameters() if k != "mask" or config["ibot"]}
    flat = mask.flatten().nonzero().flatten()
    share = (1 / mask.sum(1, keepdim=True).clamp(min=1).expand_as(mask)[mask])
    tensors = {"input/large": large, "input/small": crops, "input/masks": flat, "input/mask_weights": share}
    tensors |= {"output/targets": targets, "output/patch_targets": patch_targets, "output/logits": logits}
    tensors["output/centre"] = model.centre * 0.9 + logits.mean(0) * 0.1
    settings = {"prototypes": 14, "hidden": 20, "bottleneck": 10, "teacher_temperature": [0.05, 0.05]} | config
    write(out / f"{name}.safetensors", weights | tensors | grads | {"loss": loss.reshape(1)}, vision=vision, config=settings)


class Aim(nn.Module):
    def __init__(self):
        super().__init__()
        dim = VISION["dim"]
        self.vision = Vision(VISION)
        self.head = nn.ModuleList(Mlp(dim, 20, 1e-6, True) for _ in range(2))
        self.norm = Norm(dim, 1e-6, True)
        self.paint, self.paint_bias = matrix(dim, 48), matrix(48)


def aim(out, generator):
    model = Aim()
    fill(model, generator)
    weights = {f"weights/{k}": v.detach().clone() for k, v in model.named_parameters()}
    pixels, prefixes = torch.randn(3, 16, 16, 3, generator=generator), [1, 7, 15]
    model, p = model.double(), 16
    mask = torch.ones(p, p, dtype=torch.bool).tril().repeat(3, 1, 1, 1)
    for i, prefix in enumerate(prefixes):
        mask[i, 0, :, :prefix] = True
    patches = pixels.double().view(3, 4, 4, 4, 4, 3).transpose(2, 3).reshape(3, p, 48)
    targets = (patches - patches.mean(-1, keepdim=True)) / (patches.var(-1, keepdim=True) + 1e-6) ** 0.5
    x = encode(model.vision, pixels.double(), attention=mask)
    for block in model.head:
        x = block(x)
    errors = (linear(model.norm(x), model.paint, model.paint_bias)[:, :-1] - targets[:, 1:]).square().mean(-1)
    loss = sum(errors[i, prefix - 1 :].mean() for i, prefix in enumerate(prefixes))
    loss.backward()
    grads = {f"gradients/{k}": q.grad for k, q in model.named_parameters()}
    tensors = {"input/pixels": pixels, "input/prefixes": torch.tensor(prefixes), "loss": loss.reshape(1)}
    config = {"head_layers": 2, "head_ffn": 20}
    write(out / "aim.safetensors", weights | tensors | grads, vision=VISION, config=config)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    root = pathlib.Path(__file__).resolve().parent.parent.parent
    parser.add_argument("--out", type=pathlib.Path, default=root / "testdata/model/objectives")
    out = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    generator = torch.Generator().manual_seed(0)
    contrast(out, generator)
    dino(out, generator, "dino-centre", {"centring": "centre", "ibot": 0.0, "koleo": 0.0}, False)
    dino(out, generator, "dino-v2", {"centring": "sinkhorn", "ibot": 1.0, "koleo": 0.1}, True)
    aim(out, generator)


if __name__ == "__main__":
    main()
