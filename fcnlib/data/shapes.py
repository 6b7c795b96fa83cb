"""The embedded data: scenes of shapes, drawn by the course itself.

Every number comes from NumPy's frozen generator RandomState and from + - * / and square
roots, which IEEE 754 rounds alike everywhere: the same seed gives the same arrays on every
machine. (No sine, no exponential, no sum: those differ in the last bit.)
"""

import math
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from tqdm import tqdm

from fcnlib.data.labels import VOID, save_labels
from fcnlib.data.places import data_dir

SHAPE_CLASSES = (
    "background",
    "disk",
    "ring",
    "square",
    "triangle",
    "star",
    "dumbbell",
    "kite",
)
NUM_TRAIN, NUM_VAL = 400, 100
CROPS_PER_CLASS = {"train": 300, "val": 50}
CROP_SIZE = 64
RIM = (-0.5, 1.5)  # signed distances, in pixels, that are void

# Background and objects take their colours from one list: colour tells no class.
COLORS = np.array(
    [
        (231, 111, 81),
        (244, 162, 97),
        (233, 196, 106),
        (138, 177, 125),
        (42, 157, 143),
        (69, 123, 157),
        (38, 70, 83),
        (120, 94, 140),
        (201, 112, 140),
        (236, 221, 200),
        (150, 160, 170),
        (110, 84, 68),
    ],
    dtype=np.float32,
)

Random = np.random.RandomState
Distance = Callable[[np.ndarray, np.ndarray, float], np.ndarray]


def shapes(seed: int = 0, progress: bool = False) -> Path:
    """Return the folder of the embedded set, in VOC layout; draw it on first use.

    400 scenes for training and 100 for validation, with labels.txt, and crops with one
    object each (see :func:`shape_crops`). The folder appears whole or not at all.
    """
    root = data_dir() / f"shapes-{seed}"
    if root.is_dir():
        return root
    root.parent.mkdir(parents=True, exist_ok=True)
    beside = Path(tempfile.mkdtemp(prefix=".shapes-", dir=root.parent))
    try:
        _write_set(beside, seed, progress)
        beside.chmod(0o755)
        try:
            beside.rename(root)
        except OSError:  # another process was quicker
            if not root.is_dir():
                raise
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    return root


def shape_crops(split: str, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return crops with one object each: images (N, 3, 64, 64) uint8, classes (N,) int64.

    ``split`` is "train" (300 of each class) or "val" (50). Class 0 is background alone.
    """
    if split not in CROPS_PER_CLASS:
        raise ValueError(f"split is {split!r}, but must be 'train' or 'val'.")
    with np.load(shapes(seed) / f"crops-{split}.npz") as arrays:
        images, classes = arrays["images"], arrays["classes"]
    return torch.from_numpy(images).permute(0, 3, 1, 2), torch.from_numpy(classes)


def draw_scene(seed: int, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Draw scene number ``index``: picture (H, W, 3) uint8 and labels (H, W) uint8.

    Objects cover about a quarter; the largest is drawn first, smaller ones hide parts of
    it, and a rim of void runs along every border.
    """
    random = Random([seed, 0, index])
    height, width = 8 * random.randint(21, 27), 8 * random.randint(28, 37)
    if random.random_sample() < 0.15:
        height, width = width, height
    picture, ground = _background(random, height, width)
    labels = np.zeros((height, width), np.uint8)
    wanted = _between(random, 0.35, 1.2) * height * width
    sizes: list[float] = []
    while sum(size * size for size in sizes) < wanted or len(sizes) < 3:
        sizes.append(_object_size(random))
    for size in sorted(sizes, reverse=True):
        label = random.randint(1, len(SHAPE_CLASSES))
        centre = _between(random, 0, width), _between(random, 0, height)
        _draw_object(random, picture, labels, ground, label, centre, size)
    return _finish(random, picture), labels


def draw_crop(seed: int, split: str, label: int, index: int) -> np.ndarray:
    """Draw one object (label 0: none) on a ground of its own: (64, 64, 3) uint8."""
    random = Random([seed, 1 + (split == "val"), label, index])
    picture, ground = _background(random, CROP_SIZE, CROP_SIZE)
    if label:
        size = min(_object_size(random), 1.25 * CROP_SIZE)
        middle = CROP_SIZE / 2
        centre = middle + _between(random, -8, 8), middle + _between(random, -8, 8)
        labels = np.zeros((CROP_SIZE, CROP_SIZE), np.uint8)
        _draw_object(random, picture, labels, ground, label, centre, size)
    return _finish(random, picture)


# --- the shapes: signed distance to the border, negative inside, r the outer radius


def _disk(x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    return np.sqrt(x * x + y * y) - r


def _ring(x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    half = max(0.13 * r, 1.4)
    return np.abs(_disk(x, y, r - half)) - half


def _square(x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    return np.maximum(np.abs(x), np.abs(y)) - 0.75 * r


def _triangle(x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    side = math.sqrt(0.75) * np.abs(x)
    return np.maximum(y, side - 0.5 * y) - 0.5 * r


def _star(x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    """Inside a pentagram are the points within at least four of its five lines."""
    root5 = math.sqrt(5)
    cos72, cos36 = (root5 - 1) / 4, (root5 + 1) / 4
    sin72, sin36 = math.sqrt(1 - cos72 * cos72), math.sqrt(1 - cos36 * cos36)
    x = np.abs(x)
    lines = [y, cos72 * y + sin72 * x, cos72 * y - sin72 * x]
    lines += [sin36 * x - cos36 * y, -sin36 * x - cos36 * y]
    return np.sort(lines, axis=0)[-2] - cos72 * r


def _dumbbell(x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    x = np.abs(x)
    ball = _disk(x - 0.68 * r, y, 0.32 * r)
    bar = np.maximum(np.abs(y) - max(0.08 * r, 1.4), x - 0.68 * r)
    return np.minimum(ball, bar)


def _kite(x: np.ndarray, y: np.ndarray, r: float) -> np.ndarray:
    """Join a body, with corners at r, 0.35 r and -0.15 r, and a tail that waves."""
    side = np.abs(y)
    nose = (0.45 * (x - 0.35 * r) + 0.65 * (side - 0.45 * r)) / math.sqrt(0.625)
    rear = (-0.45 * (x - 0.35 * r) + 0.5 * (side - 0.45 * r)) / math.sqrt(0.4525)
    along = (-0.15 * r - x) / (0.85 * r)  # 0 at the body, 1 at the tail's end
    half_waves = np.clip(3 * along, 0, 2.999)
    turn = np.floor(half_waves)
    part = half_waves - turn
    wave = 0.6 * r * part * (1 - part) * (1 - 2 * (turn % 2))
    tail = np.maximum(0.8 * np.abs(y - wave) - max(0.045 * r, 1.3), -x - r)
    tail = np.maximum(tail, x + 0.1 * r)
    return np.minimum(np.maximum(nose, rear), tail)


DISTANCES: tuple[Distance, ...] = (
    _disk,
    _ring,
    _square,
    _triangle,
    _star,
    _dumbbell,
    _kite,
)


# --- painting, on float32 pictures (H, W, 3) in 0..255


def _draw_object(
    random: Random,
    picture: np.ndarray,
    labels: np.ndarray,
    ground: int,
    label: int,
    centre: tuple[float, float],
    size: float,
) -> None:
    """Draw one object with a soft shadow, in place, and its label with a rim of void."""
    height, width = labels.shape
    reach = size / 2 + 12
    left, right = max(0, int(centre[0] - reach)), min(width, int(centre[0] + reach) + 1)
    top, bottom = (
        max(0, int(centre[1] - reach)),
        min(height, int(centre[1] + reach) + 1),
    )
    window = np.s_[top:bottom, left:right]
    dx = _steps(left, right)[None, :] + (0.5 - centre[0])
    dy = _steps(top, bottom)[:, None] + (0.5 - centre[1])
    cos, sin = _direction(random)
    shape = DISTANCES[label - 1]

    def distance(dx: np.ndarray, dy: np.ndarray) -> np.ndarray:
        return shape(cos * dx + sin * dy, cos * dy - sin * dx, size / 2)

    shadow = 0.4 * np.clip(0.5 - distance(dx - 2, dy - 3) / 7, 0, 1)
    picture[window] *= (1 - shadow)[..., None]
    edge = distance(dx, dy)
    color = _other_color(random, ground)
    paint = _texture(random, bottom - top, right - left, color, _between(random, 0.1, 0.4))
    light = 1 - 0.2 * (dx + dy) / size
    inside = np.clip(0.5 - edge, 0, 1)[..., None]
    picture[window] += inside * (paint * light[..., None] - picture[window])
    labels[window][edge < 0] = label
    labels[window][(edge > RIM[0]) & (edge < RIM[1])] = VOID


def _background(random: Random, height: int, width: int) -> tuple[np.ndarray, int]:
    """Paint a ground; return it with the index of its main colour."""
    ground = random.randint(len(COLORS))
    picture = _texture(random, height, width, ground, strength=_between(random, 0, 0.25))
    second = COLORS[random.randint(len(COLORS))]
    clouds = 0.5 * _noise(random, height, width, 4)[..., None]
    return picture + clouds * (second - picture), ground


def _texture(random: Random, height: int, width: int, color: int, strength: float) -> np.ndarray:
    """Paint one of COLORS with a lighter or darker pattern: (height, width, 3) float32."""
    kind = random.randint(5)
    period = _between(random, 5, 14)
    cos, sin = _direction(random)
    x, y = _steps(0, width)[None, :], _steps(0, height)[:, None]
    u, v = (cos * x + sin * y) / period, (cos * y - sin * x) / period
    u, v = u - np.floor(u), v - np.floor(v)
    if kind == 0:
        pattern = np.zeros((height, width), np.float32)
    elif kind == 1:
        pattern = np.clip(4 * np.abs(u - 0.5) - 0.5, 0, 1)
    elif kind == 2:
        pattern = ((u < 0.5) ^ (v < 0.5)).astype(np.float32)
    elif kind == 3:
        pattern = np.clip(2 - 6 * np.sqrt((u - 0.5) ** 2 + (v - 0.5) ** 2), 0, 1)
    else:
        pattern = _noise(random, height, width, int(max(height, width) / period) + 2)
    tone = 255.0 if random.randint(2) else 20.0
    return COLORS[color] + (strength * pattern)[..., None] * (tone - COLORS[color])


def _noise(random: Random, height: int, width: int, cells: int) -> np.ndarray:
    """Draw smooth noise in 0..1: random values on a grid, blended in between."""
    grid = random.random_sample((cells + 1, cells + 1)).astype(np.float32)

    def steps(n: int) -> tuple[np.ndarray, np.ndarray]:
        place = _steps(0, n) * (cells / n)
        cell = place.astype(int)
        part = place - np.floor(place)
        return cell, part * part * (3 - 2 * part)

    (row, down), (column, across) = steps(height), steps(width)
    rows = grid[row] + down[:, None] * (grid[row + 1] - grid[row])
    left, right = rows[:, column], rows[:, column + 1]
    return left + across * (right - left)


def _finish(random: Random, picture: np.ndarray) -> np.ndarray:
    """Set the brightness, add grain and round to uint8."""
    grain = (12 * random.random_sample(picture.shape[:2]) - 6).astype(np.float32)
    picture = picture * _between(random, 0.8, 1.1) + grain[..., None]
    return np.clip(picture + 0.5, 0, 255).astype(np.uint8)


def _steps(start: int, stop: int) -> np.ndarray:
    return np.arange(start, stop, dtype=np.float32)


def _between(random: Random, low: float, high: float) -> float:
    return float(low + (high - low) * random.random_sample())


def _object_size(random: Random) -> float:
    """Draw a diameter from 12 to 120 pixels, each doubling about equally often."""
    octave = _between(random, 0, 10 / 3)  # 2 ** (10 / 3) is 10.08
    whole = int(octave)
    return 12.0 * 2**whole * min(1 + octave - whole, 1.25 if whole == 3 else 2.0)


def _direction(random: Random) -> tuple[float, float]:
    """Draw cosine and sine of an angle without calling either."""
    while True:
        x, y = _between(random, -1, 1), _between(random, -1, 1)
        length = math.sqrt(x * x + y * y)
        if 0.1 < length <= 1:
            return x / length, y / length


def _other_color(random: Random, color: int) -> int:
    """Draw the index of a colour that stands out from the given one."""
    while True:
        other = random.randint(len(COLORS))
        if np.abs(COLORS[other] - COLORS[color]).max() > 60:
            return other


# --- files


def _write_set(root: Path, seed: int, progress: bool) -> None:
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / folder).mkdir(parents=True)
    (root / "labels.txt").write_bytes("\n".join(SHAPE_CLASSES).encode() + b"\n")
    ids = [f"shapes_{index:04}" for index in range(NUM_TRAIN + NUM_VAL)]
    for split, part in (("train", ids[:NUM_TRAIN]), ("val", ids[NUM_TRAIN:])):
        path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.write_bytes("\n".join(part).encode() + b"\n")
    bar = tqdm(ids, "drawing shapes", unit="scene", leave=False, disable=None if progress else True)
    for index, id_ in enumerate(bar):
        picture, labels = draw_scene(seed, index)
        path = root / "JPEGImages" / f"{id_}.jpg"
        Image.fromarray(picture).save(path, quality=95, subsampling=0)
        save_labels(root / "SegmentationClass" / f"{id_}.png", labels)
    for split, count in CROPS_PER_CLASS.items():
        classes = np.repeat(np.arange(len(SHAPE_CLASSES)), count)
        numbers = range(len(classes))
        images = [draw_crop(seed, split, int(classes[i]), i) for i in numbers]
        np.savez(root / f"crops-{split}.npz", images=np.stack(images), classes=classes)
