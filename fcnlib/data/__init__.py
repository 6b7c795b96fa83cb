"""Data: the VOC-layout reader, labels and palette, joint transforms, embedded scenes."""

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
from fcnlib.data.places import data_dir, find_voc
from fcnlib.data.shapes import SHAPE_CLASSES, shape_crops, shapes
from fcnlib.data.transforms import RandomScale, to_float, train_transforms
from fcnlib.errors import DataError

__all__ = [
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
