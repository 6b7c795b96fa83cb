"""The one who labels: outlines as a person clicks them, close to the true ones."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnlib.course import annotate as room
from fcnlib.course.annotate import annotate
from fcnlib.data import SHAPE_CLASSES
from fcnlib.data.labelme import from_labelme, label_map
from fcnlib.data.shapes import draw_scene

COUNT = 24
CLASSES = ("background", "angular", "round")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory) -> list[Path]:
    return annotate(tmp_path_factory.mktemp("annotated") / "new", COUNT)


def read(picture: Path) -> dict:
    return json.loads(picture.with_suffix(".json").read_text())


def true_labels(index: int) -> np.ndarray:
    """The scene's labels as angular 1 and round 2, void 255."""
    new = np.full(256, 255, np.uint8)
    for number, name in enumerate(SHAPE_CLASSES):
        new[number] = 2 if name in ("disk", "ring", "dumbbell") else 1
    new[0] = 0
    return new[draw_scene(100, index)[1]]


def test_scenes_with_a_json_beside_each(pictures):
    folder = pictures[0].parent
    assert [path.name for path in pictures] == [f"scene-{k:03}.jpg" for k in range(COUNT)]
    assert len(list(folder.iterdir())) == 2 * COUNT
    for k, path in enumerate(pictures):
        scene = draw_scene(100, k)[0]
        with Image.open(path) as picture:
            difference = np.abs(np.asarray(picture).astype(int) - scene)
        assert difference.mean() < 8  # JPEG
        found = read(path)
        assert (found["imagePath"], found["imageData"]) == (path.name, None)
        assert (found["imageHeight"], found["imageWidth"]) == scene.shape[:2]


def test_points_are_clicks_in_the_picture(pictures):
    labels: set[str] = set()
    steps: list[float] = []
    for path in pictures:
        found = read(path)
        size = found["imageWidth"], found["imageHeight"]
        for shape in found["shapes"]:
            labels.add(shape["label"])
            points = np.array(shape["points"])
            assert shape["shape_type"] == "polygon"
            assert len(points) >= 3
            assert ((points >= 0) & (points <= size)).all()
            assert np.array_equal(points, points.round(2))
            steps += np.hypot(*np.diff(points, axis=0).T).tolist()
    assert 4 < np.median(steps) < 6
    assert labels == {"angular", "round", "background"}


def test_the_same_seed_labels_the_same(pictures, tmp_path):
    for path in annotate(tmp_path / "again", 2):
        first = pictures[0].with_name(path.name)
        assert path.read_bytes() == first.read_bytes()
        assert path.with_suffix(".json").read_bytes() == first.with_suffix(".json").read_bytes()
    (other,) = annotate(tmp_path / "other", 1, seed=1)
    assert other.read_bytes() != pictures[0].read_bytes()


def test_labels_agree_with_the_scenes(pictures, tmp_path):
    folders = from_labelme(pictures[0].parent, tmp_path / "voc")
    assert [len(folder) for folder in folders] == [19, 5]
    right = total = 0
    for folder in folders:
        assert folder.classes == CLASSES
        for (_, labels), id_ in zip(folder, folder.ids, strict=True):
            true = true_labels(int(id_.removeprefix("scene-")))
            known = true != 255
            agree = labels.numpy()[known] == true[known]
            assert agree.mean() > 0.97, id_
            right, total = right + agree.sum(), total + agree.size
    assert right / total > 0.99


def test_a_star_in_the_hole_of_a_ring_survives():
    y, x = np.indices((120, 120)) - 59.5
    radius = np.hypot(x, y)
    labels = np.zeros((120, 120), np.uint8)
    labels[(radius > 40) & (radius < 50)] = SHAPE_CLASSES.index("ring")
    labels[np.abs(x) + np.abs(y) < 15] = SHAPE_CLASSES.index("star")
    labels[0, :4] = SHAPE_CLASSES.index("disk")  # too small for anyone to click
    found = room._annotation("a.jpg", labels, np.random.RandomState(0))
    named = [shape["label"] for shape in found["shapes"]]
    assert named == ["round", "background", "angular"]
    drawn = label_map(found, CLASSES, "a.json")
    assert (drawn[60, 60], drawn[60, 85], drawn[60, 104], drawn[60, 115]) == (1, 0, 2, 0)


def test_without_errors_an_outline_is_where_the_object_grown_by_a_pixel_ends(monkeypatch):
    monkeypatch.setattr(room, "ERROR", 0)
    monkeypatch.setattr(room, "SPACING", 0.01)
    labels = np.zeros((20, 30), np.uint8)
    labels[5:15, 10:20] = SHAPE_CLASSES.index("square")
    labels[16:, 24:] = SHAPE_CLASSES.index("square")  # cut off by the border
    found = room._annotation("a.jpg", labels, np.random.RandomState(0))
    expected = np.zeros((20, 30), np.uint8)
    expected[4:16, 9:21] = 1
    expected[15:, 23:] = 1
    assert np.array_equal(label_map(found, CLASSES, "a.json"), expected)
