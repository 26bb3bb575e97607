#!/usr/bin/env python3
"""Which tiles a picture is cut into, and their pixels: writes testdata/tiling.

    python3 scripts/reference/tiling.py

Needs `pip install transformers pillow numpy torch` (made with transformers 4.57.6, Pillow 13.0.0). The grids
of `anyres` and `idefics3` are those of transformers' own functions, those of `dynamic` are MM1.5's two rules
in exact fractions, written from the paper (arXiv 2409.20566). Read by
crates/data/tests/it/tiling.rs, which draws the same sizes.
"""
import json
import shutil
from fractions import Fraction
from pathlib import Path

import numpy as np
from PIL import Image
from transformers.image_processing_utils import get_patch_output_size, select_best_resolution
from transformers.image_utils import ChannelDimension
from transformers.models.idefics3.image_processing_idefics3 import (
    Idefics3ImageProcessor,
    get_resize_output_image_size,
)
from transformers.models.llava_next.image_processing_llava_next import LlavaNextImageProcessor

OUT = Path(__file__).resolve().parents[2] / "testdata" / "tiling"
SIZES = 12_000
LLAVA = [[1, 2], [2, 1], [2, 2], [3, 1], [1, 3]]
SIX = [[rows, columns] for rows in range(1, 7) for columns in range(1, 7)]

# The setting as a recipe has it, and the side of a view.
CASES = [
    ({"kind": "mm1"}, 672),
    ({"kind": "mm1", "fit": "pad"}, 56),
    ({"kind": "dynamic"}, 378),
    ({"kind": "dynamic", "min_tiles": 1, "max_tiles": 6, "fit": "stretch"}, 64),
    ({"kind": "dynamic", "min_tiles": 4, "max_tiles": 16}, 672),
    ({"kind": "anyres"}, 336),
    ({"kind": "anyres", "grids": SIX}, 384),
    ({"kind": "idefics3"}, 364),
    ({"kind": "idefics3", "longest": 2}, 512),
    ({"kind": "idefics3", "longest": 5}, 27),
]
PIXELS = [
    ("mm1", {"kind": "mm1"}, 24, 3),
    ("mm1-pad", {"kind": "mm1", "fit": "pad-black"}, 24, 3),
    ("dynamic", {"kind": "dynamic", "min_tiles": 2, "max_tiles": 6, "fit": "pad-black"}, 24, 3),
    ("anyres", {"kind": "anyres"}, 24, 3),
    ("idefics3", {"kind": "idefics3", "longest": 3}, 24, 1),
]
PICTURES = {"wide": (131, 40), "tall": (37, 99), "large": (240, 161)}


def draw(state):
    """The next number of a linear congruential generator (Knuth's)."""
    return (state * 6364136223846793005 + 1442695040888963407) % 2**64


def sizes(size):
    """Width and height: two of three near the size of a view, the third up to 4,999 pixels."""
    state = size
    for i in range(SIZES):
        pair = []
        for _ in range(2):
            state = draw(state)
            pair.append(1 + (state >> 33) % (4999 if i % 3 == 2 else 4 * size))
        yield tuple(pair)


def hashed(text):
    """FNV-1a of 64 bits."""
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = (value ^ byte) * 0x100000001B3 % 2**64
    return f"{value:016x}"


def dynamic(width, height, size, fewest, most):
    """MM1.5: the grid that covers the picture with least padding, else the one that loses least of it. Of
    equal ones the one with fewer tiles, then with fewer rows. (rows, columns); None: one view."""
    if width <= size and height <= size:
        return None
    grids = [(n // c, c) for n in range(fewest, most + 1) for c in range(n, 0, -1) if n % c == 0]

    def area(grid):
        scale = min(Fraction(grid[1] * size, width), Fraction(grid[0] * size, height))
        return width * scale * height * scale

    covering = [(r, c) for r, c in grids if width <= c * size and height <= r * size]
    if covering:
        best = min(covering, key=lambda grid: grid[0] * grid[1] * size**2 - area(grid))
    else:
        best = max(grids, key=area)
    return None if best == (1, 1) else best


def blank(width, height):
    """An array of these sides that takes no memory."""
    return np.broadcast_to(np.zeros(1, np.uint8), (height, width, 3))


def placed(width, height, target, fit):
    """Sides on the canvas, and the padding before."""
    if fit == "stretch":
        return (target[1], target[0]), (0, 0)
    h, w = get_patch_output_size(blank(width, height), target, ChannelDimension.LAST)
    return (w, h), ((target[1] - w) // 2, (target[0] - h) // 2)


def tiles(width, height, setting, size):
    """(rows, columns), the sides after each resize, the padding; None: one view."""
    kind = setting["kind"]
    if kind == "idefics3":
        longest = setting.get("longest", 4) * size
        first = get_resize_output_image_size(blank(width, height), longest, ChannelDimension.LAST)
        last = []
        processor = Idefics3ImageProcessor()
        processor.resize = lambda image, size, **_: last.append((size["height"], size["width"]))
        processor.resize_for_vision_encoder(
            blank(first[1], first[0]), size, input_data_format=ChannelDimension.LAST
        )
        (height, width), = last
        return (height // size, width // size), [(first[1], first[0]), (width, height)], (0, 0)
    if kind == "mm1":
        grid, fit = (2, 2), "stretch"
    elif kind == "dynamic":
        grid = dynamic(width, height, size, setting.get("min_tiles", 4), setting.get("max_tiles", 9))
        fit = "pad"
    else:
        given = [(r * size, c * size) for r, c in setting.get("grids", LLAVA)]
        # A picture so narrow that no grid shows a pixel of it has no best one there; ours is the first.
        best = select_best_resolution((height, width), given) or given[0]
        grid, fit = (best[0] // size, best[1] // size), "pad"
    if grid is None:
        return None
    inner, offset = placed(width, height, (grid[0] * size, grid[1] * size), setting.get("fit", fit))
    return grid, [inner], offset


def row(width, height, setting, size):
    """What is compared, as text."""
    found = tiles(width, height, setting, size)
    if found is None:
        return f"{width}x{height} whole"
    (rows, columns), resized, offset = found
    steps = " ".join(f"{w}x{h}" for w, h in resized)
    return f"{width}x{height} {rows}x{columns} {steps} +{offset[0]}+{offset[1]}"


def source(width, height):
    """Slopes, stripes and checks, by whole numbers only."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    checks = np.where((x // 5 + y // 7) % 2 == 1, 255, x * y % 256)
    pixels = np.stack([(x * 3 + y * 5) % 256, (x * 255 // width + y * 255 // height) // 2, checks], 2)
    return Image.fromarray(pixels.astype(np.uint8))


def views(picture, setting, size, resample):
    """The views, overview at its place, `[n, size, size, 3]`."""
    if setting["kind"] == "anyres":
        given = [(r * size, c * size) for r, c in setting.get("grids", LLAVA)]
        cut = LlavaNextImageProcessor().get_image_patches(
            np.array(picture), given, (size, size), size, resample, ChannelDimension.LAST, ChannelDimension.LAST
        )
        return np.stack(cut)
    if setting["kind"] == "idefics3":
        side = {"longest_edge": setting["longest"] * size}
        processor = Idefics3ImageProcessor(
            size=side, max_image_size={"longest_edge": size}, resample=resample, do_rescale=False, do_normalize=False
        )
        cut = processor(picture, return_tensors="np")["pixel_values"][0]
        return cut.transpose(0, 2, 3, 1).astype(np.uint8)
    found = tiles(*picture.size, setting, size)
    overview = [picture.resize((size, size), resample)]
    if found is None:
        return np.stack([np.array(view) for view in overview])
    (rows, columns), (inner,), offset = found
    canvas = Image.new("RGB", (columns * size, rows * size))
    canvas.paste(picture.resize(inner, resample), offset)
    cells = [(c * size, r * size) for r in range(rows) for c in range(columns)]
    cut = [canvas.crop((x, y, x + size, y + size)) for x, y in cells]
    ordered = overview + cut if setting["kind"] == "mm1" else cut + overview
    return np.stack([np.array(view) for view in ordered])


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    cases = []
    for setting, size in CASES:
        rows = [row(w, h, setting, size) for w, h in sizes(size)]
        hashes = [hashed("\n".join(rows[i : i + 1000])) for i in range(0, SIZES, 1000)]
        cases.append({"tiling": setting, "size": size, "hashes": hashes, "rows": rows[:: SIZES // 40]})
        seen = {line.split()[1] for line in rows}
        print(json.dumps(setting)[:60], size, len(seen), "grids")
    (OUT / "grids.json").write_text(json.dumps(cases, indent=0) + "\n")
    pixels = []
    for name, setting, size, resample in PIXELS:
        for shape, sides in PICTURES.items():
            cut = views(source(*sides), setting, size, resample)
            Image.fromarray(cut.reshape(-1, size, 3)).save(OUT / f"{name}-{shape}.png")
            pixels.append({"name": f"{name}-{shape}", "tiling": setting, "size": size, "sides": sides,
                           "filter": "lanczos" if resample == 1 else "bicubic", "views": len(cut)})
    (OUT / "pixels.json").write_text(json.dumps(pixels, indent=0) + "\n")


main()
