"""From pictures labelled with labelme, one JSON beside each, to a folder in VOC layout."""

import json
import math
import shutil
import tempfile
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import ExifTags, Image
from torch import Tensor
from tqdm import tqdm

from fcnlib.data.folder import (
    IMAGE_SUFFIXES,
    SegmentationFolder,
    any_size,
    read_image,
    read_lines,
)
from fcnlib.data.labels import VOID, save_labels
from fcnlib.errors import DataError

BACKGROUND = "background"
"""The class of the pixels that no shape covers: label 0."""

FIELDS = {"shapes": list, "imagePath": str, "imageHeight": int, "imageWidth": int}
"""What is read of labelme's JSON. (A copy of the picture in imageData is not.)"""

KINDS = ("polygon", "rectangle", "circle")
"""The types of shapes that are drawn. (Points and lines cover no pixels.)"""

Size = tuple[int, ...]  # height, width


class _Labelled(NamedTuple):
    path: Path  # of the JSON
    picture: Path
    annotation: dict[str, Any]


def from_labelme(
    source: str | Path, out: str | Path, progress: bool = False
) -> tuple[SegmentationFolder, SegmentationFolder]:
    """Turn a folder labelled with labelme into one in VOC layout; return its train and val.

    Every fifth picture in the order of the names goes to val. Classes are those of the
    source's labels.txt if it has one, else background and all labels found, sorted. The
    label "void" means void. Upright RGB pictures are copied byte for byte, others written
    upright in RGB; spaces in their names become "_".

    The folder ``out`` must be new or empty, and appears whole or not at all. Raises
    DataError for a folder or file that cannot be used.
    """
    source, out = Path(source), Path(out)
    if out.is_file() or (out.is_dir() and any(out.iterdir())):
        raise DataError(f"{out} is there already: name a folder that is new or empty.")
    found = _find(source)
    names = _class_names(source, found.values())
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".labelme-", dir=out.parent) as beside:
        root = Path(beside) / "voc"
        _write(root, found, names, progress)
        if out.is_dir():
            out.rmdir()  # Windows renames to no name that is taken
        root.rename(out)
    return SegmentationFolder(out, "train"), SegmentationFolder(out, "val")


def label_map(annotation: dict[str, Any], names: Sequence[str], where: str) -> np.ndarray:
    """Draw the shapes of one JSON, later ones over earlier ones: (H, W) uint8.

    A pixel gets the place of the label in ``names``, or 255 for the label "void", where
    its centre lies in the shape; elsewhere it is 0. ``annotation`` is what
    :func:`read_annotation` returns. Raises DataError, naming ``where``, for an unknown
    label, and for a shape that is no polygon, rectangle or circle.
    """
    labels = np.zeros(_size(annotation), np.uint8)
    for shape in annotation["shapes"]:
        labels[_covered(shape, labels.shape, where)] = _number(shape["label"], names, where)
    return labels


def read_annotation(path: Path) -> dict[str, Any]:
    """Read the FIELDS of one JSON of labelme, spaces around labels removed. Raises DataError."""
    try:
        annotation = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"{path} cannot be read as JSON ({error}): save it again from labelme."
        ) from None
    for name, kind in FIELDS.items():
        if not isinstance(annotation, dict) or not isinstance(annotation.get(name), kind):
            raise DataError(
                f"{path} has no {name} as labelme writes it: save it again from labelme, or "
                "move it away."
            )
    for number, shape in enumerate(annotation["shapes"], 1):
        if not _is_shape(shape):
            raise DataError(
                f"{path}: shape {number} needs a label and points [x, y]: draw it again in labelme."
            )
        shape["label"] = shape["label"].strip()
    return {name: annotation[name] for name in FIELDS}


def _is_shape(shape: Any) -> bool:
    if not isinstance(shape, dict) or not isinstance(shape.get("points"), list):
        return False
    label = shape.get("label")
    return isinstance(label, str) and bool(label.strip()) and all(map(_is_point, shape["points"]))


def _is_point(point: Any) -> bool:
    """Say whether this is [x, y], and neither NaN nor endless."""
    if not isinstance(point, list) or len(point) != 2:
        return False
    return all(isinstance(x, int | float) and abs(x) < 1e9 for x in point)


# --- drawing


def _size(annotation: dict[str, Any]) -> tuple[int, int]:
    return annotation["imageHeight"], annotation["imageWidth"]


def _number(label: str, names: Sequence[str], where: str) -> int:
    if label == "void":
        return VOID
    if label not in names:
        raise DataError(
            f"{where} has the label {label!r}, but the classes are {', '.join(names)}: correct "
            "the label, or add it to labels.txt."
        )
    return names.index(label)


def _covered(shape: dict[str, Any], size: Size, where: str) -> np.ndarray:
    """Return which pixels of a picture (height, width) a shape covers, (H, W) bool."""
    kind, points = shape.get("shape_type") or "polygon", shape["points"]
    if kind not in KINDS:
        raise DataError(
            f"{where} has the label {shape['label']!r} on a shape of the type {kind!r}: draw "
            f"it as {', '.join(KINDS[:-1])} or {KINDS[-1]}."
        )
    wrong = len(points) < 3 if kind == "polygon" else len(points) != 2
    if wrong:
        raise DataError(
            f"{where} has the label {shape['label']!r} on a {kind} of {len(points)} points: "
            "draw it again."
        )
    if kind == "polygon":
        return _inside(points, size)
    (x, y), (x1, y1) = points
    if kind == "rectangle":
        return _inside([(x, y), (x1, y), (x1, y1), (x, y1)], size)
    row, column = np.ogrid[: size[0], : size[1]]
    return np.hypot(column + 0.5 - x, row + 0.5 - y) < math.dist((x, y), (x1, y1))


def _inside(points: Sequence[Sequence[float]], size: Size) -> np.ndarray:
    """Return which pixels have their centre in a polygon, (H, W) bool.

    In labelme, (0, 0) is the outer corner of the first pixel, so that the centre of pixel
    (row, column) is at x = column + 0.5, y = row + 0.5. PIL's ImageDraw.polygon would round
    the points to whole pixels and add the outline: half a pixel too much on every side.

    Walking along a row of centres, one is inside after an odd number of edges. Of two
    polygons that share an edge, each pixel belongs to one.
    """
    height, width = size
    crossed = np.zeros((height, width + 1), bool)
    for start, end in zip(points, [*points[1:], points[0]], strict=True):
        (x0, y0), (x1, y1) = sorted((start, end), key=lambda point: point[1])
        first, last = (min(max(math.ceil(y - 0.5), 0), height) for y in (y0, y1))
        row = np.arange(first, last)  # whose centres lie at y0 <= y < y1
        x = x0 + (row + 0.5 - y0) / (y1 - y0) * (x1 - x0)
        crossed[row, np.ceil(x - 0.5).clip(0, width).astype(int)] ^= True
    return np.bitwise_xor.accumulate(crossed, axis=1)[:, :width]


# --- files


def _find(source: Path) -> dict[str, _Labelled]:
    """Return what is labelled in a folder, by id, in the order of the ids."""
    if not source.is_dir():
        raise DataError(f"{source} is no folder: give the one with labelme's JSON files.")
    found: dict[str, _Labelled] = {}
    for path in sorted(source.glob("*.json")):
        annotation = read_annotation(path)
        picture = _picture(path, annotation["imagePath"])
        id_ = "_".join(picture.stem.split())  # an id has no spaces
        if id_ in found:
            raise DataError(
                f"{found[id_].path} and {path} both label a picture {id_!r}: move one away, or "
                "rename its picture and label that."
            )
        found[id_] = _Labelled(path, picture, annotation)
    if len(found) < 2:
        raise DataError(
            f"{source} has too few JSON files of labelme ({len(found)}): label at least two "
            "pictures, one for training and one for validation."
        )
    return dict(sorted(found.items()))


def _picture(path: Path, name: str) -> Path:
    """Return the picture that a JSON names, or the one of the JSON's own name beside it."""
    named = path.parent / name.replace("\\", "/")
    for picture in (named, *(path.with_suffix(suffix) for suffix in IMAGE_SUFFIXES)):
        if picture.is_file():
            return picture
    raise DataError(f"{path} labels the picture {name}, which is missing: put it beside the JSON.")


def _class_names(source: Path, found: Iterable[_Labelled]) -> list[str]:
    if (path := source / "labels.txt").exists():
        names = read_lines(path, "class name")
        if names[0] != BACKGROUND:
            raise DataError(
                f"{path} begins with {names[0]!r}: put {BACKGROUND!r} first, the class of what no "
                "shape covers."
            )
    else:
        labels = {shape["label"] for one in found for shape in one.annotation["shapes"]}
        names = [BACKGROUND, *sorted(labels - {BACKGROUND, "void"})]
    if len(names) > VOID:
        raise DataError(
            f"{source} has {len(names)} classes, but a mask can hold {VOID} at most: merge classes."
        )
    return names


def _write(root: Path, found: dict[str, _Labelled], names: Sequence[str], progress: bool) -> None:
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    for id_, (path, picture, annotation) in tqdm(
        found.items(), "drawing", unit="picture", leave=False, disable=None if progress else True
    ):
        image = read_image(picture)
        (h, w), (height, width) = image.shape[-2:], _size(annotation)
        if (h, w) != (height, width):
            raise DataError(
                f"{path} is for {width} x {height} pixels, but {picture} has {w} x {h}: put the "
                "picture there that was labelled, or label this one."
            )
        labels = label_map(annotation, names, str(path))
        save_labels(root / "SegmentationClass" / f"{id_}.png", labels)
        _store(picture, image, root / "JPEGImages" / id_)
    ids = list(found)
    splits = {"train": [id_ for k, id_ in enumerate(ids) if k % 5], "val": ids[::5]}
    for split, part in splits.items():
        _write_lines(root / "ImageSets" / "Segmentation" / f"{split}.txt", part)
    _write_lines(root / "labels.txt", names)


def _store(picture: Path, image: Tensor, target: Path) -> None:
    """Copy a picture that is upright RGB; write any other so, as read_image made it."""
    with any_size(), Image.open(picture) as opened:
        try:
            upright = opened.getexif().get(ExifTags.Base.Orientation, 1) == 1
        except Exception:  # Pillow raises many kinds for damaged tags
            upright = False
        as_it_is = upright and opened.mode == "RGB" and not opened.has_transparency_data
    known = picture.suffix in IMAGE_SUFFIXES
    path = target.with_name(target.name + (picture.suffix if known else ".png"))
    if known and as_it_is:
        shutil.copyfile(picture, path)
    else:
        pixels = image.permute(1, 2, 0).numpy()
        Image.fromarray(pixels).save(path, quality=95, subsampling=0)


def _write_lines(path: Path, lines: Sequence[str]) -> None:
    path.write_bytes("\n".join(lines).encode() + b"\n")
