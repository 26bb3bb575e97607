#!/usr/bin/env python3
"""Pictures prepared by the image processors of Hugging Face's transformers (with Pillow): writes
testdata/preprocess.

    python3 scripts/reference/preprocess.py

Needs `pip install transformers pillow numpy` (made with transformers 5.24.0, Pillow 13.0.0: older ones
resize across first, always, which differs on tall pictures where an edge throws over). Read by
crates/data/tests/it/preprocessor.rs, which makes the same source pictures.
"""
import json
import shutil
from pathlib import Path

import numpy as np
from PIL import Image
from transformers.models.bit.image_processing_pil_bit import BitImageProcessorPil
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

OUT = Path(__file__).resolve().parents[2] / "testdata" / "preprocess"
SQUARE = {"height": 32, "width": 32}

# Small forms of openai/clip-vit-base-patch32, google/siglip-base-patch16-224 and facebook/dinov2-base, and
# of what else the fields can say.
PROCESSORS = {
    "clip": CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size=SQUARE),
    "siglip": SiglipImageProcessorPil(size=SQUARE),
    "dinov2": BitImageProcessorPil(
        size={"shortest_edge": 37}, crop_size=SQUARE, image_mean=[0.485, 0.456, 0.406], image_std=[0.229, 0.224, 0.225]
    ),
    "bilinear": SiglipImageProcessorPil(size=SQUARE, resample=2),
    "lanczos": CLIPImageProcessorPil(size={"shortest_edge": 33}, crop_size=SQUARE, resample=1),
    "nearest": BitImageProcessorPil(size={"shortest_edge": 40}, crop_size=SQUARE, resample=0),
    "padded": CLIPImageProcessorPil(size={"shortest_edge": 13}, crop_size=SQUARE),
    "cropped": CLIPImageProcessorPil(do_resize=False, crop_size=SQUARE, do_normalize=False),
}
PICTURES = {"wide": (131, 40), "tall": (37, 99), "tiny": (7, 5), "large": (640, 427), "square": (32, 32)}


def source(width, height):
    """Slopes, stripes and checks, by whole numbers only."""
    x, y = np.meshgrid(np.arange(width), np.arange(height))
    checks = np.where((x // 5 + y // 7) % 2 == 1, 255, x * y % 256)
    pixels = np.stack([(x * 3 + y * 5) % 256, (x * 255 // width + y * 255 // height) // 2, checks], 2)
    return Image.fromarray(pixels.astype(np.uint8))


def main():
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    values = {}
    for name, processor in PROCESSORS.items():
        (OUT / f"{name}.json").write_text(processor.to_json_string())
        for shape, (width, height) in PICTURES.items():
            if name in ("bilinear", "lanczos", "nearest") and shape not in ("wide", "large"):
                continue
            picture = source(width, height)
            bytes_ = processor(picture, do_rescale=False, do_normalize=False, return_tensors="np")["pixel_values"][0]
            Image.fromarray(bytes_.transpose(1, 2, 0).astype(np.uint8)).save(OUT / f"{name}-{shape}.png")
        whole = processor(source(*PICTURES["square"]), return_tensors="np")["pixel_values"][0]
        values[name] = [round(float(v), 6) for v in whole.transpose(1, 2, 0)[16].flatten()]
    (OUT / "values.json").write_text(json.dumps(values) + "\n")


main()
