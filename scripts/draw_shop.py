#!/usr/bin/env python3
"""Draws the pictures of recipes/tasks/shop: plain things of a shop on white.    pip install pillow"""

import pathlib

from PIL import Image, ImageDraw

FOLDER = pathlib.Path(__file__).parents[1] / "recipes/tasks/shop"

# Name of the file, its shape and its colour.
THINGS = [
    ("ball-red.png", "ellipse", "red"),
    ("box-blue.png", "rectangle", "blue"),
    ("ball-green.png", "ellipse", "green"),
    ("box-yellow.png", "rectangle", "yellow"),
    ("ball-black.png", "ellipse", "black"),
    ("box-red.png", "rectangle", "red"),
]

for name, shape, colour in THINGS:
    picture = Image.new("RGB", (64, 64), "white")
    getattr(ImageDraw.Draw(picture), shape)((12, 12, 52, 52), fill=colour)
    picture.quantize(8).save(FOLDER / name, optimize=True)
