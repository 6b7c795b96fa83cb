"""Plays the person who labels pictures with labelme: clicks around objects, not quite exactly."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import contourpy
import numpy as np
from PIL import Image, ImageFilter

from fcnlib.data.shapes import SHAPE_CLASSES, draw_scene

ROUND = ("disk", "ring", "dumbbell")
FIRST_SEED = 100  # the embedded set has the seed 0
SPACING, ERROR = 5, 0.7  # pixels between two clicks, and how far they miss (normal)
SMALLEST = 20  # square pixels; nobody clicks around less


def annotate(folder: Path, count: int, seed: int = 0) -> list[Path]:
    """Draw new scenes with a JSON of labelme beside each; return the paths of the pictures.

    They are scene-000.jpg and so on. There are two labels, "round" and "angular"; what shows
    through an object's hole is clicked around as "background". The same seed gives the same
    files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    paths = [folder / f"scene-{index:03}.jpg" for index in range(count)]
    for index, path in enumerate(paths):
        picture, labels = draw_scene(FIRST_SEED + seed, index)
        Image.fromarray(picture).save(path, quality=95)
        random = np.random.RandomState([FIRST_SEED + seed, index])
        text = json.dumps(_annotation(path.name, labels, random), indent=2)
        path.with_suffix(".json").write_text(text + "\n", encoding="utf-8")
    return paths


def _annotation(name: str, labels: np.ndarray, random: np.random.RandomState) -> dict[str, Any]:
    """Return what labelme would write about a scene with these labels (H, W)."""
    height, width = labels.shape
    outlines = [
        (_area(line), _new_label(shape), line)
        for number, shape in enumerate(SHAPE_CLASSES)
        for line in _outlines(labels == number)
        if number > 0 or _is_hole(line, labels.shape)
    ]
    # What lies in front, or in a hole, is smaller than what is around it.
    outlines.sort(key=lambda outline: -outline[0])
    shapes: list[dict[str, Any]] = [
        {
            "label": label,
            "points": _clicks(line, labels.shape, random),
            "group_id": None,
            "description": "",
            "shape_type": "polygon",
            "flags": {},
        }
        for area, label, line in outlines
        if area >= SMALLEST
    ]
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": shapes,
        "imagePath": name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def _new_label(shape: str) -> str:
    if shape == "background":
        return shape
    return "round" if shape in ROUND else "angular"


def _outlines(mask: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the outer outline of every piece of a mask: (n, 2) x and y, first point last too.

    The mask grows by a pixel first: the middle of the void rim, where the object ends.
    """
    grown = Image.fromarray(mask).convert("L").filter(ImageFilter.MaxFilter(3))
    padded = np.pad(np.array(grown) / 255, 1)  # with zeros: every line is closed
    for line in cast("list[np.ndarray]", contourpy.contour_generator(z=padded).lines(0.5)):
        if _area(line) > 0:
            yield line - 0.5  # less 1 for the padding, and pixel 0 has its centre at 0.5


def _area(line: np.ndarray) -> float:
    """Return the area in a closed line, negative for a hole, around which contourpy turns back."""
    x, y = line.T
    return float((x[:-1] * y[1:] - x[1:] * y[:-1]).sum() / 2)


def _is_hole(line: np.ndarray, size: tuple[int, ...]) -> bool:
    """Say whether a piece of the background is enclosed, away from the picture's border."""
    height, width = size
    return bool((line > 0).all() and (line < (width, height)).all())


def _clicks(
    line: np.ndarray, size: tuple[int, ...], random: np.random.RandomState
) -> list[list[float]]:
    """Put a point about every SPACING pixels on a closed line, each a bit wrong."""
    steps = np.hypot(*np.diff(line, axis=0).T)
    length = np.concatenate([[0], steps.cumsum()])
    at = np.linspace(0, length[-1], max(3, round(length[-1] / SPACING)), endpoint=False)
    points = np.stack([np.interp(at, length, part) for part in line.T], axis=1)
    points += random.normal(0, ERROR, points.shape)
    return points.clip(0, size[::-1]).round(2).tolist()
