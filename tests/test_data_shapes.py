import hashlib
import os
import sys

import numpy as np
import pytest
from PIL import Image

import fcnlib.data.shapes  # noqa: F401  (the name fcnlib.data.shapes is the function)
from fcnlib.data import SHAPE_CLASSES, VOID, SegmentationFolder, shape_crops, shapes
from fcnlib.data.check import check_folder

drawing = sys.modules["fcnlib.data.shapes"]


def digest(*arrays: np.ndarray) -> str:
    return hashlib.sha256(b"".join(a.tobytes() for a in arrays)).hexdigest()[:16]


def test_the_arrays_are_the_same_on_every_machine():
    """Pinned: whoever sees another hash here has another set than everybody else."""
    scenes = [drawing.draw_scene(0, index) for index in (0, 7, 399, 400, 499)]
    assert digest(*(a for pair in scenes for a in pair)) == "f868ba5fb282ef08"
    crops = [drawing.draw_crop(0, "train", label, 300 * label) for label in range(8)]
    assert digest(*crops) == "dcef65a5de715150"


def test_the_reader_gives_the_same_arrays_on_every_machine(shapes_root):
    """JPEG is decoded alike by every build of Pillow seen so far (11.0 to 13.0)."""
    dataset = SegmentationFolder(shapes_root, "val")
    pairs = [dataset[index] for index in (0, 50, 99)]
    assert digest(*(a.numpy() for pair in pairs for a in pair)) == "635df2234b5a6e0c"


def test_another_seed_draws_other_scenes():
    assert not np.array_equal(drawing.draw_scene(0, 0)[1], drawing.draw_scene(1, 0)[1])


def test_the_set_has_the_promised_pairs_and_no_problem(shapes_root):
    report = check_folder(shapes_root)
    assert report.problems == []
    assert report.pairs == {"train": 400, "val": 100}
    assert report.classes == SHAPE_CLASSES
    background = report.pixels[0] / report.pixels[:VOID].sum()
    assert 0.72 < background < 0.78
    assert (report.pixels[1:8] / report.pixels[:VOID].sum() > 0.01).all()
    assert 0.03 < report.pixels[VOID] / report.pixels.sum() < 0.08


def test_the_files_hold_the_drawn_arrays(shapes_root):
    dataset = SegmentationFolder(shapes_root, "val")
    for index in (0, 99):
        picture, labels = drawing.draw_scene(0, 400 + index)
        image, target = dataset[index]
        assert np.array_equal(target, labels)
        error = np.abs(image.permute(1, 2, 0).numpy().astype(int) - picture)
        assert error.mean() < 2.5  # JPEG


def test_train_and_val_share_no_scene(shapes_root):
    pictures = [path.read_bytes() for path in (shapes_root / "JPEGImages").iterdir()]
    assert len(set(pictures)) == 500


def test_sizes_are_near_192_x_256_and_vary(shapes_root):
    found = {image.size for image in map(Image.open, (shapes_root / "JPEGImages").iterdir())}
    assert len(found) > 50
    assert all(168 <= min(size) <= 208 and 224 <= max(size) <= 288 for size in found)


def test_objects_have_all_sizes_from_12_to_120():
    random = np.random.RandomState(0)
    sizes = [drawing._object_size(random) for _ in range(2000)]
    assert 12 <= min(sizes) < 13
    assert 115 < max(sizes) <= 120
    shares = np.histogram(sizes, [12, 24, 48, 96])[0] / 2000
    assert np.allclose(shares, 0.3, atol=0.04)  # each doubling is 3/10 of the octaves


def test_colour_alone_tells_no_class(shapes_root):
    """The mean colours of the classes lie close together, their own spread is wide."""
    means = {label: [] for label in range(len(SHAPE_CLASSES))}
    for image, labels in SegmentationFolder(shapes_root, "val"):
        for label in labels.unique().tolist():
            if label != VOID:
                pixels = image[:, labels == label].float()
                means[label].append(pixels.mean(1).numpy())
    centres = np.array([np.mean(colors, 0) for colors in means.values()])
    spread = np.mean([np.std(colors, 0) for colors in means.values()])
    assert np.std(centres, 0).max() < 0.4 * spread


def test_every_shape_is_drawn_at_its_size():
    """The signed distance is negative inside, and no shape leaves its circle."""
    y, x = np.mgrid[-80:81, -80:81].astype(np.float32)
    for name, shape in zip(SHAPE_CLASSES[1:], drawing.DISTANCES, strict=True):
        for radius in (6.0, 60.0):
            inside = shape(x, y, radius) < 0
            reach = np.sqrt(x * x + y * y)[inside].max()
            assert 0.7 * radius < reach <= 1.1 * radius + 1, (name, radius)


def test_thin_parts_are_thinner_than_a_stride():
    """Rings, bars and tails of the largest objects stay below 32 pixels across."""
    _, x = np.mgrid[0:1, 0:80].astype(np.float32)
    assert (drawing._ring(x, 0 * x, 60) < 0).sum() < 32
    assert (drawing._dumbbell(0 * x, x, 60) < 0).sum() * 2 < 32
    assert (drawing._kite(0 * x - 40, x - 40, 60) < 0).sum() < 32


def test_crops_hold_one_object_each(shapes_root):
    for split, count in (("train", 300), ("val", 50)):
        images, classes = shape_crops(split)
        assert images.shape == (8 * count, 3, 64, 64)
        assert classes.bincount().tolist() == [count] * 8
    train, val = shape_crops("train")[0], shape_crops("val")[0]
    assert not {t.numpy().tobytes() for t in train} & {v.numpy().tobytes() for v in val}
    with pytest.raises(ValueError, match=r"'test'.*must be 'train' or 'val'"):
        shape_crops("test")


@pytest.fixture
def tiny_set(tmp_path, monkeypatch):
    """Let `shapes` draw few scenes into an empty folder."""
    monkeypatch.setenv("FCN_DATA", str(tmp_path / "data"))
    monkeypatch.setattr(drawing, "NUM_TRAIN", 2)
    monkeypatch.setattr(drawing, "NUM_VAL", 1)
    monkeypatch.setattr(drawing, "CROPS_PER_CLASS", {"train": 1, "val": 1})
    return tmp_path / "data"


def test_the_set_is_drawn_once(tiny_set):
    root = shapes()
    assert root == tiny_set / "shapes-0"
    before = {path: path.stat().st_mtime_ns for path in root.rglob("*")}
    assert shapes() == root
    assert {path: path.stat().st_mtime_ns for path in root.rglob("*")} == before


def test_a_break_while_drawing_leaves_nothing(tiny_set, monkeypatch):
    def fail(*args):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(drawing, "draw_crop", fail)
        with pytest.raises(KeyboardInterrupt):
            shapes()
    assert list(tiny_set.iterdir()) == []
    assert len(SegmentationFolder(shapes(), "train")) == 2


def test_two_processes_at_once_both_get_the_set(tiny_set, monkeypatch):
    """The other process finishes while this one draws."""
    draw = drawing._write_set

    def slow(root, seed, progress):
        draw(root, seed, progress)
        if not (tiny_set / "shapes-0").exists():
            (tiny_set / "other").mkdir()
            draw(tiny_set / "other", seed, progress)
            os.rename(tiny_set / "other", tiny_set / "shapes-0")

    monkeypatch.setattr(drawing, "_write_set", slow)
    assert len(SegmentationFolder(shapes(), "val")) == 1
    assert [path.name for path in tiny_set.iterdir()] == ["shapes-0"]
