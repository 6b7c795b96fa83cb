"""Class names, the VOC colour map, and label maps as files."""

import functools
import os
from pathlib import Path

import numpy as np
import torch
from PIL import Image

VOID = 255
"""The label of pixels that count for nothing: borders and doubtful regions."""

VOC_CLASSES = (
    "background",
    "aeroplane",
    "bicycle",
    "bird",
    "boat",
    "bottle",
    "bus",
    "car",
    "cat",
    "chair",
    "cow",
    "diningtable",
    "dog",
    "horse",
    "motorbike",
    "person",
    "pottedplant",
    "sheep",
    "sofa",
    "train",
    "tvmonitor",
)


@functools.cache
def voc_colormap() -> np.ndarray:
    """Return the 256 colours of PASCAL VOC, (256, 3) uint8: row k is label k's colour.

    The three lowest bits of the label become the highest bits of red, green and blue,
    the next three the second highest, and so on (VOCdevkit, ``VOClabelcolormap.m``).
    """
    colors = np.zeros((256, 3), dtype=np.uint8)
    for label in range(256):
        for bit in range(8):
            channel, place = bit % 3, 7 - bit // 3
            colors[label, channel] |= (label >> bit & 1) << place
    colors.flags.writeable = False  # every caller shares it
    return colors


def colorize(labels: np.ndarray | torch.Tensor) -> np.ndarray:
    """Paint a label map (H, W) with the VOC colours: (H, W, 3) uint8, void nearly white."""
    return voc_colormap()[np.asarray(labels, dtype=np.uint8)]


def labels_from_colors(picture: np.ndarray) -> np.ndarray:
    """Turn a picture painted in VOC colours, (H, W, 3) uint8, back into labels (H, W).

    Raises ValueError when a colour is no VOC colour, as after a resize that blends.
    """
    colors = voc_colormap().astype(np.int64) @ (1 << 16, 1 << 8, 1)
    codes = picture.astype(np.int64) @ (1 << 16, 1 << 8, 1)
    order = np.argsort(colors)
    found = order[np.searchsorted(colors[order], codes).clip(max=255)]
    wrong = colors[found] != codes
    if wrong.any():
        color = tuple(int(c) for c in picture[wrong][0])
        raise ValueError(
            f"the colour {color} is not in VOC's colour map: "
            "the mask was blended, as by a resize or by JPEG"
        )
    return found.astype(np.uint8)


def save_labels(path: str | Path, labels: np.ndarray | torch.Tensor) -> None:
    """Write a label map (H, W) as VOC does: an 8-bit PNG with the VOC palette.

    The file appears whole or not at all.
    """
    path = Path(path)
    mask = Image.fromarray(np.asarray(labels, dtype=np.uint8))
    mask.putpalette(voc_colormap().tobytes())
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    mask.save(beside, format="PNG")
    beside.replace(path)
