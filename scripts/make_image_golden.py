#!/usr/bin/env python3
"""Writes testdata/image: pictures of every supported kind and what Pillow makes of them.

Used by crates/data/tests/it/image.rs. Needs `pip install pillow numpy` (made with Pillow 13.0.0).
  KIND.EXT          a picture
  KIND.EXT.rgb.png  the same, decoded by Pillow: upright, over white, 8-bit RGB
  NAME-SIZE.png     source.png resized by Pillow's bicubic filter
"""
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

OUT = Path(__file__).resolve().parent.parent / "testdata" / "image"


def source(width, height):
    y, x = np.mgrid[0:height, 0:width].astype(np.float64)
    rgb = np.stack([255 * x / width, 255 * y / height, 127 + 120 * np.sin(x / 5) * np.cos(y / 7)], -1)
    image = Image.fromarray(rgb.astype(np.uint8))
    draw = ImageDraw.Draw(image)
    draw.ellipse([width // 5, height // 5, width // 2, height // 2], fill=(250, 20, 30))
    draw.line([0, height - 1, width - 1, 0], fill=(255, 255, 255))
    return image


def over_white(image):
    image = ImageOps.exif_transpose(image)
    if image.mode in ("LA", "RGBA") or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, image).convert("RGB")
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image, np.float64) / 257 + 0.5).astype(np.uint8)).convert("RGB")
    return image.convert("RGB")


def resized():
    image = source(97, 61)
    image.save(OUT / "source.png")
    for size in (32, 140):
        image.resize((size, size), Image.Resampling.BICUBIC).save(OUT / f"squash-{size}.png")
    left = (97 - 61) / 2
    box = (left, 0, left + 61, 61)
    image.resize((32, 32), Image.Resampling.BICUBIC, box=box).save(OUT / "centre-crop-32.png")
    padded = Image.new("RGB", (32, 32), (128, 128, 128))
    padded.paste(image.resize((32, 20), Image.Resampling.BICUBIC), (0, 6))
    padded.save(OUT / "pad-32.png")


def reduced():
    """A JPEG with chroma at half the size, at a quarter of its sides by the decoder (Pillow's draft), then
    resized.
    """
    path = OUT / "photo.jpg"
    source(330, 250).save(path, quality=85)
    image = Image.open(path)
    _, box = image.draft("RGB", (60, 60))
    assert image.size == (83, 63)
    image.resize((60, 60), Image.Resampling.BICUBIC, box=box).save(OUT / "photo-60.png")


def kinds():
    image = source(24, 16)
    alpha = Image.fromarray(np.tile(np.linspace(0, 255, 24).astype(np.uint8), (16, 1)))
    rgba = image.copy()
    rgba.putalpha(alpha)
    grey = image.convert("L")
    grey_alpha = grey.copy()
    grey_alpha.putalpha(alpha)
    deep = Image.fromarray(np.asarray(grey).astype(np.uint16) * 257 + 100)
    exif = Image.Exif()
    exif[0x0112] = 6
    best = {"quality": 95, "subsampling": 0}
    image.save(OUT / "rgb.jpg", **best)
    image.save(OUT / "progressive.jpg", progressive=True, **best)
    image.save(OUT / "rotated.jpg", exif=exif, **best)
    image.convert("CMYK").save(OUT / "cmyk.jpg", **best)
    grey.save(OUT / "grey.jpg", quality=95)
    rgba.save(OUT / "rgba.png")
    grey_alpha.save(OUT / "grey-alpha.png")
    deep.save(OUT / "grey16.png")
    image.quantize(16).save(OUT / "palette.png", transparency=3)
    rgba.save(OUT / "lossless.webp", lossless=True, exact=True)
    image.save(OUT / "lossy.webp", quality=95)
    image.save(OUT / "animated.gif", save_all=True, append_images=[ImageOps.invert(image)])
    image.save(OUT / "animated.webp", save_all=True, append_images=[ImageOps.invert(image)], lossless=True)
    for kind in ("*.jpg", "*.webp", "*.gif", "rgba.png", "grey-alpha.png", "grey16.png", "palette.png"):
        for path in sorted(OUT.glob(kind)):
            over_white(Image.open(path)).save(OUT / (path.name + ".rgb.png"))


OUT.mkdir(parents=True, exist_ok=True)
resized()
kinds()
reduced()
