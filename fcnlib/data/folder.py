"""The reader of folders in PASCAL VOC layout."""

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unicodedata import normalize

import numpy as np
import psutil
import torch
from PIL import Image, ImageOps, UnidentifiedImageError
from torch.utils.data import Dataset

from fcnlib.data.labels import VOC_CLASSES, VOID, labels_from_colors, voc_colormap
from fcnlib.errors import DataError

if TYPE_CHECKING:  # torchvision takes seconds to import: not before a picture is read
    from torchvision import tv_tensors

SPLITS = Path(__file__).parent / "splits"
"""The course's own lists of VOC's pictures: animals-train and animals-val, 899 of the official
splits, nearly all with a cat, cow, dog, horse or sheep; and seg11valid, 736 of VOC 2011 val that
are not in SBD's training set, on which the paper's authors score."""

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".JPG", ".JPEG", ".PNG")
_VOC_PALETTE = voc_colormap().tobytes()


def read_image(path: str | Path) -> "tv_tensors.Image":
    """Read a picture of any common kind as RGB: (3, H, W) uint8.

    It is turned as its EXIF tag says, grey and CMYK become RGB, transparent parts lie
    on white, and 16-bit values keep their upper 8 bits. Raises DataError.
    """
    from torchvision import tv_tensors

    picture = _upright_rgb(_decode(path), path)
    image = np.array(picture).transpose(2, 0, 1)
    return torch.from_numpy(image).as_subclass(tv_tensors.Image)


def read_labels(path: str | Path, num_classes: int) -> "tv_tensors.Mask":
    """Read a label map: (H, W) uint8 with values 0..num_classes-1 and 255 for void.

    The file is a palette PNG, as VOC's are, or an 8-bit grey one. Raises DataError when
    it is of another kind, when its palette is not VOC's, or when a label is too large.
    """
    from torchvision import tv_tensors

    mask = _decode(path)
    if mask.mode not in ("P", "L"):
        raise DataError(f"{path} {_wrong_kind(mask)}")
    labels = np.array(mask)
    if mask.mode == "P":
        _check_palette(path, mask, labels)
    elif mask.format == "PNG":
        _check_depth(path)
    largest = int((labels + np.uint8(1)).max()) - 1  # void, 255 + 1, wraps to 0
    if largest >= num_classes:
        raise DataError(
            f"{path} holds the label {largest}, but there are {num_classes} classes (0 to "
            f"{num_classes - 1}, and {VOID} for void): mend the mask, or name the class in "
            "labels.txt."
        )
    return torch.from_numpy(labels).as_subclass(tv_tensors.Mask)


class SegmentationFolder(Dataset[tuple[Any, Any]]):
    """Pictures and their label maps from a folder in PASCAL VOC layout.

    ``ImageSets/Segmentation/SPLIT.txt`` lists the ids, one a line; the picture of an id
    is ``JPEGImages/ID.jpg`` (or .jpeg, .png), its mask ``SegmentationClass/ID.png``.
    Class names stand in ``labels.txt``, one a line; without it they are VOC's 21.

    An item is (image, labels): (3, H, W) and (H, W), both uint8, labels 0..K-1 or 255
    for void; or what ``transforms(image, labels)`` makes of them. Raises DataError.

    ``classes`` names the classes to keep: label k is the k-th of them, all others become
    void. ``numbers`` holds the labels that they have in the masks.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        transforms: Callable[["tv_tensors.Image", "tv_tensors.Mask"], Any] | None = None,
        classes: Sequence[str] | None = None,
    ) -> None:
        self.root = Path(root)
        self.split = split
        self.transforms = transforms
        self.all_classes = read_classes(self.root)
        self.classes = self.all_classes if classes is None else tuple(classes)
        self.numbers = find_classes(self.classes, self.all_classes, str(self.root))
        self._new_labels = torch.full((256,), VOID, dtype=torch.uint8)
        self._new_labels[list(self.numbers)] = torch.arange(len(self.numbers), dtype=torch.uint8)
        self.ids = read_ids(self.root, split)
        self.image_paths, self.label_paths = find_pairs(self.root, self.ids)
        for path in self.image_paths + self.label_paths:
            if not path.exists():
                raise missing(path)

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> tuple[Any, Any]:
        image = read_image(self.image_paths[index])
        labels = read_labels(self.label_paths[index], len(self.all_classes))
        check_sizes(self.label_paths[index], image, labels)
        if self.classes != self.all_classes:
            labels = self._new_labels[labels.long()].as_subclass(type(labels))
        if self.transforms is None:
            return image, labels
        return self.transforms(image, labels)


def read_classes(root: Path) -> tuple[str, ...]:
    """Return the class names of a folder: its labels.txt, or VOC's 21. Raises DataError."""
    check_layout(root)
    path = root / "labels.txt"
    if not path.exists():
        return VOC_CLASSES
    names = read_lines(path, "class name")
    if len(names) > VOID:
        raise DataError(
            f"{path} names {len(names)} classes, but a mask can hold {VOID} at most: merge classes."
        )
    return tuple(names)


def find_classes(names: Sequence[str], known: Sequence[str], where: str) -> tuple[int, ...]:
    """Return the places of class names among the known ones. Raises DataError."""
    for name in names:
        if name not in known:
            raise DataError(
                f"{where} has no class {name!r}: choose among its classes, {', '.join(known)}."
            )
        if list(names).count(name) > 1:
            raise DataError(f"The class {name!r} is named twice: name each class once.")
    return tuple(known.index(name) for name in names)


def read_ids(root: Path, split: str) -> list[str]:
    """Return the ids that ImageSets/Segmentation/SPLIT.txt lists. Raises DataError.

    Without that file, they are those of the course's list of this name, if there is one.
    """
    check_layout(root)
    path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
    if not path.exists() and (SPLITS / path.name).exists():
        path = SPLITS / path.name
    if not path.exists():
        there = ", ".join(splits(root)) or "none"
        raise DataError(
            f"{path} is missing: write the ids of the split {split!r} into it, one a "
            f"line, or choose a split that is there ({there})."
        )
    ids = read_lines(path, "id")
    for id_ in ids:
        if " " in id_ or "/" in id_ or "\\" in id_:
            raise DataError(
                f"{path} has the line {id_!r}, which is no id: write file names without "
                "folder and ending, one a line."
            )
    return ids


def splits(root: Path) -> list[str]:
    """Return the names of the splits that a folder in VOC layout has."""
    return sorted(p.stem for p in (root / "ImageSets" / "Segmentation").glob("*.txt"))


def find_pairs(root: Path, ids: list[str]) -> tuple[list[Path], list[Path]]:
    """Return the paths of pictures and of masks of these ids, be they there or not."""
    pictures, masks = _files(root / "JPEGImages"), _files(root / "SegmentationClass")
    images, labels = [], []
    for id_ in ids:
        names = [normalize("NFC", id_ + suffix) for suffix in IMAGE_SUFFIXES]
        name = next((name for name in names if name in pictures), names[0])
        images.append(pictures.get(name, root / "JPEGImages" / name))
        name = normalize("NFC", f"{id_}.png")
        labels.append(masks.get(name, root / "SegmentationClass" / name))
    return images, labels


def _files(folder: Path) -> dict[str, Path]:
    """Return a folder's files by their names, composed: macOS takes "ä" apart into two signs."""
    return {normalize("NFC", path.name): path for path in folder.iterdir()}


def check_layout(root: Path) -> None:
    """Raise DataError unless root is a folder with the three folders of VOC layout."""
    if not root.is_dir():
        what = "is a file, not a folder" if root.exists() else "is missing"
        raise DataError(
            f"{root} {what}: give the folder that holds JPEGImages, SegmentationClass "
            "and ImageSets."
        )
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        if not (folder := root / name).is_dir():
            raise DataError(f"{folder} is not there{_inner_root(root)}.")


def check_sizes(path: Path, image: torch.Tensor, labels: torch.Tensor) -> None:
    """Raise DataError, naming the mask's path, unless both have the same height, width."""
    if image.shape[-2:] != labels.shape[-2:]:
        (h, w), (mask_h, mask_w) = image.shape[-2:], labels.shape[-2:]
        raise DataError(
            f"{path} is {mask_w} x {mask_h} pixels, but its picture is {w} x {h}: "
            "draw the mask at the size of the picture, or resize it with "
            "nearest-neighbour."
        )


def missing(path: str | Path) -> DataError:
    """Return the error for a picture or mask that a split lists and nobody finds."""
    return DataError(f"{path} is missing: put the file there, or take its id out of the split.")


def _read_bytes(path: str | Path) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        raise missing(path) from None
    except OSError as error:
        if Path(path).is_dir():
            raise DataError(
                f"{path} is a folder, but a file should be there: move it away."
            ) from None
        raise DataError(f"{path} cannot be read: {error.strerror}.") from None


def _decode(path: str | Path) -> Image.Image:
    data = _read_bytes(path)
    try:
        with any_size():
            picture = Image.open(io.BytesIO(data))
        _check_memory(picture, path)
        picture.load()
        return picture
    except DataError:
        raise
    except UnidentifiedImageError:
        raise DataError(
            f"{path} has no format that is known here, or is damaged: save it as JPEG or PNG, or "
            "copy it again from its source."
        ) from None
    except Exception as error:  # decoders raise many kinds for damaged bytes
        raise DataError(f"{path} is damaged ({error}): copy it again from its source.") from None


@contextmanager
def any_size() -> Iterator[None]:
    """Have Pillow open pictures of more than 89 megapixels, such as aerial ones."""
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        yield
    finally:
        Image.MAX_IMAGE_PIXELS = limit


def _check_memory(picture: Image.Image, path: str | Path) -> None:
    """Raise DataError for a large picture that the memory cannot hold several times over."""
    width, height = picture.size
    needed = 24 * width * height
    if needed > 2**30 and needed > psutil.virtual_memory().available:
        raise DataError(
            f"{path} has {width} x {height} pixels, which would take {needed / 1e9:.0f} GB of "
            "memory: cut it into parts."
        )


def _upright_rgb(picture: Image.Image, path: str | Path) -> Image.Image:
    with suppress(Exception):  # of other, damaged tags, after the picture was turned
        ImageOps.exif_transpose(picture, in_place=True)
    if picture.mode.startswith("I;16"):  # Pillow would clip at 255, not scale
        picture = Image.fromarray((np.asarray(picture) >> 8).astype(np.uint8))
    elif picture.mode in ("I", "F"):
        raise DataError(f"{path} holds 32-bit values of unknown range: save it with 8 or 16 bits.")
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        white = Image.new("RGBA", picture.size, "white")
        picture = Image.alpha_composite(white, picture)
    return picture if picture.mode == "RGB" else picture.convert("RGB")


def _wrong_kind(mask: Image.Image) -> str:
    """Say what is wrong with a mask that is neither palette nor 8-bit grey, and the cure."""
    if mask.mode not in ("RGB", "RGBA"):
        return (
            f"is of Pillow's mode {mask.mode!r}, not a mask of labels: save it as an "
            "8-bit PNG with fcnlib.data.save_labels."
        )
    try:
        labels_from_colors(np.array(mask.convert("RGB")))
    except ValueError as error:
        return (
            f"is saved as RGB, and {error}; draw it anew, and resize masks with "
            "nearest-neighbour only."
        )
    return (
        "is saved as RGB, not as labels: turn its colours into labels with "
        "fcnlib.data.labels_from_colors, and write them with fcnlib.data.save_labels."
    )


def _check_depth(path: str | Path) -> None:
    """Raise DataError for a grey PNG of fewer than 8 bits: Pillow stretches its numbers."""
    depth = _read_bytes(path)[24]  # in the header, IHDR
    if depth < 8:
        raise DataError(
            f"{path} is a grey PNG of {depth} bits, whose numbers are read as brightness: save it "
            "as an 8-bit PNG with fcnlib.data.save_labels."
        )


def _check_palette(path: str | Path, mask: Image.Image, labels: np.ndarray) -> None:
    """Raise DataError unless the colour of every label in use is VOC's, or plain grey.

    Another palette comes from blended or quantised colours, and its indices mean nothing.
    """
    if _VOC_PALETTE.startswith(mask.palette.tobytes()):  # type: ignore[union-attr]
        return
    palette = np.array(mask.getpalette("RGB"), dtype=np.uint8).reshape(-1, 3)
    voc = voc_colormap()[: len(palette)]
    used = np.unique(labels)
    used = used[used < len(palette)]
    is_grey = (palette[used] == used[:, None]).all()
    wrong = (palette[used] != voc[used]).any(axis=1)
    if wrong.any() and not is_grey:
        label = int(used[wrong][0])
        color = tuple(int(c) for c in palette[label])
        raise DataError(
            f"{path} has a palette of its own: label {label} has the colour {color}, "
            "which is not VOC's, as when colours were blended by a resize; draw it anew, "
            "or, if its numbers are right, write them with fcnlib.data.save_labels."
        )


def read_lines(path: Path, what: str) -> list[str]:
    """Read a list, one thing a line, or raise DataError that names file and line."""
    try:
        text = _read_bytes(path).decode("utf-8-sig")
    except UnicodeDecodeError:
        raise DataError(f"{path} is not UTF-8 text: save it as UTF-8.") from None
    if not text.strip():
        raise DataError(f"{path} is empty: write one {what} a line into it.")
    if "\r" in text:
        raise DataError(f"{path} has Windows line ends (CRLF): save it with Unix line ends (LF).")
    lines = text.removesuffix("\n").split("\n")
    first: dict[str, int] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            raise DataError(f"{path}, line {number}, is blank: take the line out.")
        if line != line.strip():
            raise DataError(
                f"{path}, line {number}, has spaces around {line.strip()!r}: take them out."
            )
        if line in first:
            raise DataError(
                f"{path} has {line!r} twice, in lines {first[line]} and {number}: take one out."
            )
        first[line] = number
    return lines


def _inner_root(root: Path) -> str:
    """Name the VOC folder inside root, where people often stop one level too high."""
    for inner in ("VOC2012", "VOCdevkit/VOC2012"):
        if (root / inner / "JPEGImages").is_dir():
            return f": give {root / inner}"
    return ": give a folder in VOC layout"
