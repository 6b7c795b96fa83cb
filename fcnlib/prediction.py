"""Segmenting pictures of any size: whole, or in tiles where they are large."""

import errno
import math
import os
import shutil
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from unicodedata import normalize

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn

from fcnlib.checkpoint import Classes
from fcnlib.data.folder import IMAGE_SUFFIXES, read_image
from fcnlib.errors import DataError, RunError, explained

TILE, MARGIN = 768, 288  # pixels; both are multiples of 32, the largest stride of a network
LARGEST_JPEG = 65500  # pixels a side
Box = tuple[slice, slice]


def predict(
    network: nn.Module,
    image: Tensor,
    positions: Sequence[int] | None = None,
    probabilities: np.ndarray | None = None,
) -> Tensor:
    """Return the labels (H, W), uint8, of a picture (3, H, W), uint8 or float in 0..1.

    A picture with a side of more than 1344 pixels is cut into tiles of 768 pixels. The network
    sees 288 pixels more around each: fcnlib's networks look less far, so the labels are those of
    the whole picture at once. (Only fcn_resnet50 moves them by up to 7 pixels where a side is no
    multiple of 8.) One tile at a time takes memory.

    ``positions`` are the network's classes that may be predicted, label k being the k-th of
    them. Into the array ``probabilities`` (K, H, W), if given, the softmax is written.
    """
    device = next(network.parameters()).device
    labels = torch.empty(image.shape[-2:], dtype=torch.uint8)
    with evaluating(network):
        for seen, inside, tile in tiles(*image.shape[-2:]):
            part = image[:, *seen].to(device)
            part = part / 255 if part.dtype == torch.uint8 else part
            logits = network(part[None])[0][:, *inside]
            logits = logits if positions is None else logits[list(positions)]
            labels[tile] = logits.argmax(dim=0).to("cpu", torch.uint8)
            if probabilities is not None:
                probabilities[:, *tile] = logits.float().softmax(dim=0).cpu().numpy()
    return labels


def tiles(height: int, width: int) -> Iterator[tuple[Box, Box, Box]]:
    """Yield (what the network sees, the tile in it, the tile in the picture) as slices.

    Every tile begins at a multiple of 32, so its cells lie where the whole picture's do.
    """
    for rows in _spans(height):
        for columns in _spans(width):
            seen, inside, tile = zip(rows, columns, strict=True)
            yield seen, inside, tile


def _spans(length: int) -> Iterator[tuple[slice, slice, slice]]:
    if length <= TILE + 2 * MARGIN:
        whole = slice(0, length)
        yield whole, whole, whole
        return
    for start in range(0, length, TILE):
        stop = min(start + TILE, length)
        first, last = max(0, start - MARGIN), min(length, stop + MARGIN)
        yield slice(first, last), slice(start - first, stop - first), slice(start, stop)


@contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """Have a network in eval mode, without gradients, then each layer in the mode it was in.

    Raises RunError where the memory of the device does not suffice.
    """
    modes = {layer: layer.training for layer in network.modules()}
    network.eval()
    device = next(network.parameters()).device.type
    on_gpu = ", or use the CPU (set the environment variable CUDA_VISIBLE_DEVICES to nothing)"
    short = (
        f"free some of it{on_gpu if device == 'cuda' else ''}",
        "go on with --workers 0 (a training with --resume, too)",
    )
    try:
        with explained(device, *short), torch.inference_mode():
            yield
    finally:
        for layer, was_training in modes.items():
            layer.training = was_training


def find_images(paths: Sequence[str | Path]) -> list[Path]:
    """Return the pictures: files as they are, and of folders all pictures in them, sorted.

    Each is there once. Raises DataError for what is not there, and for two pictures of one
    name, whose results would bear one name too.
    """
    found: list[Path] = []
    for path in map(Path, paths):
        if path.is_dir():
            inside = sorted(
                p
                for p in path.iterdir()
                if p.suffix in IMAGE_SUFFIXES and p.name[0] != "." and not p.is_dir()
            )
            if not inside:
                raise DataError(f"{path} holds no pictures ({', '.join(IMAGE_SUFFIXES[:3])}).")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise DataError(f"{path} is missing: give a picture or a folder of pictures.")
    found = list({os.path.abspath(path): path for path in found}.values())
    first: dict[str, Path] = {}
    for path in found:
        name = normalize("NFC", path.stem).casefold()  # as macOS and Windows compare names
        if name in first:
            raise DataError(
                f"{first[name]} and {path} have the same name, and so would their results: "
                "rename one, or predict them into two folders."
            )
        first[name] = path
    return found


def predict_file(
    network: nn.Module,
    classes: Classes,
    path: Path,
    out: Path,
    positions: Sequence[int] | None = None,
    with_probabilities: bool = False,
) -> list[Path]:
    """Segment a picture file; return the files written into the folder ``out``.

    They are NAME.png, a mask with palette, in the numbers and colours of the training data;
    NAME_overlay.jpg, the picture tinted with them, and a legend; on request
    NAME_probabilities.npy, (K, H, W) float16, classes in the order of ``classes``. Each file
    appears whole or not at all. Raises DataError for a picture that cannot be read, and
    RunError where the folder cannot take the results.
    """
    image = read_image(path)
    if out.is_dir() and out.samefile(path.parent):
        raise RunError(
            f"{out} is the folder of {path.name}: choose another one for the results, so that no "
            "picture is overwritten."
        )
    try:
        out.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".predict-", dir=out) as folder:
            beside = Path(folder) / path.stem
            probabilities = None
            if with_probabilities:
                probabilities = _array(f"{beside}_probabilities.npy", image, len(classes.names))
            labels = predict(network, image, positions, probabilities)
            if probabilities is not None:
                probabilities.flush()
                probabilities = None  # closed: Windows renames no file that is open
            _mask(labels, classes).save(f"{beside}.png")
            shown = overlay(image, labels, classes)
            shown.thumbnail((LARGEST_JPEG, LARGEST_JPEG))
            shown.save(f"{beside}_overlay.jpg", quality=90)
            written = sorted(Path(folder).iterdir())
            return [file.replace(out / file.name) for file in written]
    except OSError as error:
        raise RunError(
            f"{out} cannot be written ({error.strerror or error}): make room, or choose another "
            "folder for the results."
        ) from error


def overlay(image: Tensor, labels: Tensor, classes: Classes) -> Image.Image:
    """Return a picture (3, H, W), uint8, tinted with its classes' colours, above a legend.

    Background, number 0 in the masks, stays as it is. The legend names the classes that occur.
    """
    picture = Image.fromarray(image.permute(1, 2, 0).contiguous().numpy())
    mask = _mask(labels, classes)
    tinted = Image.blend(picture, mask.convert("RGB"), 0.6)
    tinted.paste(picture, mask=Image.fromarray(np.array(mask) == 0))
    legend = _legend(np.unique(labels).tolist(), classes, picture.size)
    width, height = picture.size
    whole = Image.new("RGB", (max(width, legend.width), height + legend.height), "white")
    whole.paste(tinted)
    whole.paste(legend, (0, height))
    return whole


def _mask(labels: Tensor, classes: Classes) -> Image.Image:
    """Return labels as a mask in the numbers and colours of the training data."""
    mask = Image.fromarray(classes.in_masks(labels).numpy())
    mask.putpalette(classes.palette().tobytes())
    return mask


def _array(path: str, image: Tensor, num_classes: int) -> np.memmap:
    """Return a float16 array (num_classes, H, W) that lies in a file, not in memory."""
    shape = (num_classes, *image.shape[-2:])
    if shutil.disk_usage(Path(path).parent).free < 2 * math.prod(shape):  # would kill the process
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)
    return np.lib.format.open_memmap(path, mode="w+", dtype=np.float16, shape=shape)


def _legend(labels: Sequence[int], classes: Classes, picture: tuple[int, int]) -> Image.Image:
    """Draw a coloured square and a name for each label, in as many lines as it takes."""
    width, size = picture[0], max(14, min(picture) // 27)
    font = ImageFont.load_default(size)
    entries, x, line = [], size // 2, 0
    for label in labels:
        length = int(font.getlength(classes.names[label])) + 3 * size
        if x > size // 2 and x + length > width:
            x, line = size // 2, line + 1
        entries.append((x, line, label))
        x += length
    right = max((x + font.getlength(classes.names[k]) + 2 * size for x, _, k in entries), default=1)
    legend = Image.new("RGB", (max(width, int(right)), 2 * size * (line + 1)), "white")
    draw = ImageDraw.Draw(legend)
    for x, line, label in entries:
        top = 2 * size * line + size // 2
        color = classes.colors[label] if classes.numbers[label] else "white"  # is not tinted
        draw.rectangle((x, top, x + size, top + size), fill=color, outline="black")
        draw.text((x + 1.5 * size, top - size // 8), classes.names[label], "black", font)
    return legend
