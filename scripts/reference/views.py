#!/usr/bin/env python3
"""Each deterministic piece of a view by torchvision and Pillow: writes testdata/views.

    python3 scripts/reference/views.py

Needs `pip install torch torchvision pillow numpy` (made with torchvision 0.29.2, Pillow 13.0.0). Read by
crates/data/tests/it/augment.rs.
"""
import json
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torchvision.transforms import RandomResizedCrop
from torchvision.transforms import functional as F
from torchvision.transforms.functional import InterpolationMode

OUT = Path(__file__).resolve().parents[2] / "testdata" / "views"


def source(width, height, seed):
    """Soft colours with noise over them, and a row of greys, of plain and of extreme colours."""
    rng = np.random.default_rng(seed)
    soft = Image.fromarray(rng.integers(0, 256, (4, 5, 3), dtype=np.uint8)).resize((width, height), Image.BICUBIC)
    pixels = np.asarray(soft).astype(int) + rng.integers(-12, 13, (height, width, 3))
    pixels = pixels.clip(0, 255).astype(np.uint8)
    pixels[0] = np.linspace(0, 255, width, dtype=np.uint8)[:, None]
    pixels[1] = rng.choice(np.array([0, 1, 127, 128, 254, 255], dtype=np.uint8), (width, 3))
    return Image.fromarray(pixels)


def colours(image):
    """Every operation with some values, as (operation, value, picture)."""
    for factor in [0.0, 0.35, 0.6, 1.0, 1.4, 2.5]:
        yield "brightness", factor, F.adjust_brightness(image, factor)
        yield "contrast", factor, F.adjust_contrast(image, factor)
        yield "saturation", factor, F.adjust_saturation(image, factor)
    for turn in [-0.5, -0.1, -0.03, 0.0, 0.07, 0.31]:
        yield "hue", turn, F.adjust_hue(image, turn)
    for sigma in [0.1, 0.6, 1.3, 2.0]:
        yield "blur", sigma, F.gaussian_blur(image, [9, 9], [sigma, sigma])
    yield "grey", 0.0, F.rgb_to_grayscale(image, num_output_channels=3)
    yield "solarise", 128.0, F.solarize(image, 128)
    yield "flip", 0.0, F.hflip(image)


def crops(image):
    """Crops to a square as (left, top, width, height, size), enlarged and made smaller. Pillow's `box` sees
    beyond the crop's edge, as ours does; torchvision cuts first."""
    for left, top, width, height, size in [(3, 5, 17, 13, 24), (0, 0, 30, 40, 12), (11, 2, 34, 41, 16), (20, 20, 9, 9, 9)]:
        box = (left, top, left + width, top + height)
        picture = image.resize((size, size), Image.BICUBIC, box=box)
        cut = F.resized_crop(image, top, left, height, width, [size, size], InterpolationMode.BICUBIC)
        apart = np.abs(np.asarray(picture).astype(int) - np.asarray(cut)).mean()
        print(f"crop {box} to {size}: torchvision's, cut first, is {apart:.2f} levels away on average")
        yield [left, top, width, height, size], picture


def shapes():
    """Sides of a crop for a share of the area and a ratio, where it fits; and the middle, where none does."""
    torch.manual_seed(0)
    fitting, middles = [], []
    for width, height in [(640, 480), (33, 500), (7, 7), (1, 1), (5000, 3)]:
        blank = Image.new("RGB", (width, height))
        for share, ratio in [(0.08, 0.75), (0.33, 1.2), (0.5, 4 / 3), (0.97, 1.0), (1.0, 1.0)]:
            top, left, h, w = RandomResizedCrop.get_params(blank, [share, share], [ratio, ratio])
            apart = abs(w * h / (width * height) / share - 1)
            # Elsewhere it is the middle that was taken.
            if apart < 0.05:
                fitting.append([width, height, share, ratio, w, h])
        for ratio in [[0.75, 4 / 3], [1.0, 1.0], [0.2, 0.3]]:
            top, left, h, w = RandomResizedCrop.get_params(blank, [4.0, 4.0], ratio)
            # A crop of no pixels fails in Pillow; ours has one.
            middles.append([width, height, *ratio, left, top, max(w, 1), max(h, 1)])
    return fitting, middles


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    image = source(45, 43, 7)
    image.save(OUT / "source.png")
    cases, cropped = [], []
    for i, (operation, value, picture) in enumerate(colours(image)):
        name = f"{operation}-{i}.png"
        picture.save(OUT / name)
        cases.append({"file": name, "operation": operation, "value": value})
    for i, (crop, picture) in enumerate(crops(image)):
        picture.save(OUT / f"crop-{i}.png")
        cropped.append({"file": f"crop-{i}.png", "crop": crop})
    fitting, middles = shapes()
    text = json.dumps({"cases": cases, "crops": cropped, "fitting": fitting, "middles": middles}, indent=1)
    (OUT / "cases.json").write_text(text + "\n")


main()
