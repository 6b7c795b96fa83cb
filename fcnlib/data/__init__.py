"""Data: the VOC-layout reader, labels and palette, joint transforms, embedded scenes."""

from typing import TYPE_CHECKING

from fcnlib.data.download import download_voc
from fcnlib.data.folder import SegmentationFolder, read_image, read_labels
from fcnlib.data.labels import (
    VOC_CLASSES,
    VOID,
    colorize,
    labels_from_colors,
    save_labels,
    voc_colormap,
)
from fcnlib.data.places import SEGMENTER, data_dir, find_voc
from fcnlib.data.shapes import SHAPE_CLASSES, shape_crops, shapes
from fcnlib.errors import DataError

if TYPE_CHECKING:
    from fcnlib.data.transforms import RandomScale, to_float, train_transforms

__all__ = [
    "SEGMENTER",
    "SHAPE_CLASSES",
    "VOC_CLASSES",
    "VOID",
    "DataError",
    "RandomScale",
    "SegmentationFolder",
    "colorize",
    "data_dir",
    "download_voc",
    "find_voc",
    "labels_from_colors",
    "read_image",
    "read_labels",
    "save_labels",
    "shape_crops",
    "shapes",
    "to_float",
    "train_transforms",
    "voc_colormap",
]


def __getattr__(name: str) -> object:
    """Import the transforms when they are first asked for: torchvision takes seconds."""
    if name not in {"RandomScale", "to_float", "train_transforms"}:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from fcnlib.data import transforms

    return getattr(transforms, name)
