"""Where data lies: what the course draws or downloads, and a PASCAL VOC of your own."""

import os
from pathlib import Path

from fcnlib.errors import DataError

SEGMENTER = Path(__file__).parents[2] / "data" / "segmenter"
"""The checkpoint that the course hands out, as fcnlib.course.segmenter makes it."""


def checkout() -> Path | None:
    """Return the folder of the course's checkout, or None if fcnlib was installed without it."""
    folder = Path(__file__).parents[2]
    return folder if (folder / "pyproject.toml").is_file() else None


def data_dir() -> Path:
    """Return the folder for drawn and downloaded sets.

    ``$FCN_DATA`` if it is set, else ``data/`` of the course's checkout, else ``data/``
    of the current folder (when fcnlib was installed without its checkout).
    """
    if named := os.environ.get("FCN_DATA"):
        return Path(named)
    return (checkout() or Path()) / "data"


def find_voc() -> Path | None:
    """Return the folder of PASCAL VOC 2012, or None where it is not found.

    Looks at ``$FCN_VOC`` (a folder in VOC layout; ``none`` hides every VOC), then at
    ``VOCdevkit/VOC2012`` in :func:`data_dir`. Raises DataError when ``$FCN_VOC`` names
    no folder in VOC layout.
    """
    named = os.environ.get("FCN_VOC")
    if named == "none":
        return None
    root = Path(named) if named else data_dir() / "VOCdevkit" / "VOC2012"
    if (root / "ImageSets" / "Segmentation").is_dir():
        return root
    if named:
        raise DataError(
            f"FCN_VOC names {root}, but there is no ImageSets/Segmentation in it: "
            "give the folder that holds JPEGImages, or unset FCN_VOC."
        )
    return None
