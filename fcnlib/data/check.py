"""Read a whole folder in VOC layout and list what is wrong with it."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from tqdm import tqdm

from fcnlib.data.folder import (
    check_sizes,
    find_pairs,
    read_classes,
    read_ids,
    read_image,
    read_labels,
    splits,
)
from fcnlib.data.labels import VOID
from fcnlib.errors import DataError


@dataclass
class Report:
    """What :func:`check_folder` found: problems, one sentence each, and counts.

    ``pairs`` says how many ids each split lists, ``pixels`` how many pixels each label
    0..255 has, and ``pictures`` in how many pictures it occurs. A pair that is listed
    in several splits is counted once.
    """

    classes: tuple[str, ...]
    problems: list[str] = field(default_factory=list)
    pairs: dict[str, int] = field(default_factory=dict)
    pixels: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))
    pictures: np.ndarray = field(default_factory=lambda: np.zeros(256, np.int64))

    def table(self) -> str:
        """Return the class frequencies as text: shares of the pixels that are not void."""
        valid = max(1, self.pixels[:VOID].sum())
        width = max(map(len, (*self.classes, "class")))
        lines = [f"{'class':{width}}  {'pixels':>14}  {'share':>7}  {'pictures':>8}"]
        for label, name in [*enumerate(self.classes), (VOID, "void")]:
            share = "" if label == VOID else f"{self.pixels[label] / valid:.2%}"
            lines.append(
                f"{name:{width}}  {self.pixels[label]:>14,}  {share:>7}  {self.pictures[label]:>8,}"
            )
        return "\n".join(lines)


def check_folder(root: str | Path, progress: bool = False) -> Report:
    """Read every picture and mask that a split lists and report all problems.

    Raises DataError only where nothing can be read at all: no folder in VOC layout, no
    split, or class names that cannot be used. It writes nothing.
    """
    root = Path(root)
    report = Report(read_classes(root))
    if not splits(root):
        raise DataError(
            f"{root / 'ImageSets' / 'Segmentation'} holds no split: write the ids of "
            "the training pictures into a file train.txt there, one a line."
        )
    listed: dict[str, list[str]] = {}
    for split in splits(root):
        try:
            listed[split] = read_ids(root, split)
        except DataError as error:
            report.problems.append(str(error))
    report.pairs = {split: len(ids) for split, ids in listed.items()}
    report.problems += _shared_ids(root, listed)
    each_once = list(dict.fromkeys(id_ for ids in listed.values() for id_ in ids))
    pairs = list(zip(*find_pairs(root, each_once), strict=True))
    for image_path, label_path in tqdm(
        pairs, "reading", unit="pair", leave=False, disable=None if progress else True
    ):
        _check_pair(image_path, label_path, report)
    return report


def _shared_ids(root: Path, listed: dict[str, list[str]]) -> list[str]:
    """Say it if train and val, where both are there, share pictures."""
    shared = sorted(set(listed.get("train", [])) & set(listed.get("val", [])))
    if not shared:
        return []
    return [
        f"{root / 'ImageSets' / 'Segmentation' / 'val.txt'} lists {len(shared)} of the "
        f"pictures that train.txt lists too, such as {shared[0]!r}: take them out of one."
    ]


def _check_pair(image_path: Path, label_path: Path, report: Report) -> None:
    """Read one pair; add its pixels to the report, or what is wrong with it."""
    image = labels = None
    try:
        image = read_image(image_path)
    except DataError as error:
        report.problems.append(str(error))
    try:
        labels = read_labels(label_path, len(report.classes))
        if image is not None:
            check_sizes(label_path, image, labels)
    except DataError as error:
        report.problems.append(str(error))
    if labels is not None:
        counts = np.bincount(labels.numpy().ravel(), minlength=256)
        report.pixels += counts
        report.pictures += counts > 0
