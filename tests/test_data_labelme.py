"""From labelme's JSON to a folder in VOC layout: every pixel, every file, every fault."""

import functools
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st
from matplotlib.path import Path as Outline
from PIL import Image

from fcnlib.cli import main
from fcnlib.data import DataError, SegmentationFolder, read_labels, save_labels
from fcnlib.data.check import check_folder
from fcnlib.data.labelme import from_labelme, label_map, read_annotation

NAMES = ("background", "cat", "dog")
HEIGHT, WIDTH = 6, 8


def shape(label: str, points: Any, kind: str = "polygon") -> dict[str, Any]:
    points = [list(point) for point in points]
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}}


CAT = shape("cat", [(1, 1), (4, 3)], "rectangle")
DOG = shape("dog", [(0, 0), (3, 0), (0, 3)])


def annotation(*shapes: dict[str, Any], name: str = "a.png", size: Any = None) -> dict[str, Any]:
    height, width = size or (HEIGHT, WIDTH)
    return {
        "version": "5.5.0",
        "flags": {},
        "shapes": list(shapes),
        "imagePath": name,
        "imageData": None,
        "imageHeight": height,
        "imageWidth": width,
    }


def draw(*shapes: dict[str, Any], size: Any = None) -> np.ndarray:
    return label_map(annotation(*shapes, size=size), NAMES, "a.json")


def rows(labels: np.ndarray) -> list[str]:
    return ["".join(map(str, row)) for row in labels]


# --- one label map


@pytest.mark.parametrize("corners", [[(1, 1), (4, 3)], [(4, 3), (1, 1)], [(4, 1), (1, 3)]])
def test_a_rectangle_covers_the_pixels_between_its_corners(corners):
    expected = ["00000000", "01110000", "01110000", "00000000", "00000000", "00000000"]
    assert rows(draw(shape("cat", corners, "rectangle"))) == expected


def test_a_pixel_belongs_to_a_shape_with_its_centre():
    inside = [(1.4, 1.4), (3.6, 2.6)]  # around the centres of columns 1 to 3, rows 1 and 2
    outside = [(0.6, 0.6), (4.4, 3.4)]
    assert np.array_equal(draw(shape("cat", inside, "rectangle")), draw(CAT))
    assert np.array_equal(draw(shape("cat", outside, "rectangle")), draw(CAT))
    assert not draw(shape("cat", [(1.6, 1.6), (2.4, 2.4)], "rectangle")).any()


def test_a_polygon_by_hand():
    triangle = shape("dog", [(0, 0), (7.9, 3.95), (0, 3.95)])  # under the line y = x / 2
    expected = ["20000000", "22200000", "22222000", "22222220", "00000000", "00000000"]
    assert rows(draw(triangle)) == expected


def test_a_circle_by_hand():
    expected = ["01110000", "11111000", "11111000", "11111000", "01110000", "00000000"]
    assert rows(draw(shape("cat", [(2.5, 2.5), (2.5, 4.8)], "circle"))) == expected


def test_shapes_may_reach_out_of_the_picture():
    assert (draw(shape("cat", [(-5, -5), (50, 50)], "rectangle")) == 1).all()
    assert (draw(shape("cat", [(4, 3), (400, 3)], "circle")) == 1).all()
    assert not draw(shape("cat", [(-5, -5), (-1, 50), (-9, 9)])).any()


def test_later_shapes_lie_over_earlier_ones_and_void_is_255():
    hole = shape("background", [(2, 1), (3, 2)], "rectangle")
    rim = shape("void", [(0, 2), (8, 3)], "rectangle")
    labels = draw(CAT, hole, rim)
    assert labels.dtype == np.uint8
    assert labels[1].tolist() == [0, 1, 0, 1, 0, 0, 0, 0]
    assert (labels[2] == 255).all()
    assert (draw(rim, hole, CAT)[1, 1:4] == 1).all()


def test_without_a_type_a_shape_is_a_polygon_as_in_old_files():
    for kind in ({}, {"shape_type": None}):
        old = {"label": "dog", "points": DOG["points"], **kind}
        assert np.array_equal(draw(old), draw(DOG))


corner = st.tuples(st.integers(-3, 12), st.integers(-3, 10))


@given(st.lists(st.tuples(st.sampled_from((0, 1, 2, 255)), corner, corner)))
def test_rectangles_are_numpy_slices_in_order(drawn):
    expected = np.zeros((HEIGHT, WIDTH), np.uint8)
    for label, (x0, y0), (x1, y1) in drawn:
        (left, right), (top, bottom) = sorted((x0, x1)), sorted((y0, y1))
        expected[max(top, 0) : max(bottom, 0), max(left, 0) : max(right, 0)] = label
    name = {0: "background", 1: "cat", 2: "dog", 255: "void"}
    shapes = [shape(name[label], corners, "rectangle") for label, *corners in drawn]
    assert np.array_equal(draw(*shapes), expected)


# Other tests in the same process may have switched subnormal numbers off.
floats = functools.partial(st.floats, width=16, allow_subnormal=False)
point = st.tuples(floats(-3, 12), floats(-3, 10))


@given(point, point, point)
def test_triangles_are_those_of_matplotlib(a, b, c):
    assume((b[0] - a[0]) * (c[1] - a[1]) != (c[0] - a[0]) * (b[1] - a[1]))  # not a mere line
    centres = np.indices((HEIGHT, WIDTH))[::-1].reshape(2, -1).T + 0.5
    triangle = Outline([a, b, c, a], closed=True)
    sure = [triangle.contains_points(centres, radius=radius) for radius in (1e-6, -1e-6)]
    found = draw(shape("cat", (a, b, c))).ravel() == 1
    decided = sure[0] == sure[1]  # no centre on an edge
    assert np.array_equal(found[decided], sure[0][decided])


@given(point, point, point, point)
def test_of_two_polygons_with_a_common_edge_each_pixel_belongs_to_one(a, b, c, d):
    """Even-odd: the triangles a b c and a c d together are the quadrilateral a b c d."""
    one, other, both = ((draw(shape("cat", p)) == 1) for p in ((a, b, c), (a, c, d), (a, b, c, d)))
    assert np.array_equal(one ^ other, both)


# --- a whole folder


def save_picture(path: Path, size: Any = (HEIGHT, WIDTH), seed: int = 0, **options: Any) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(path, **options)


def save_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content))


@pytest.fixture
def source(tmp_path: Path) -> Path:
    """A folder of three pictures, each with its JSON: cat, dog, and nothing."""
    folder = tmp_path / "labelled"
    folder.mkdir()
    for k, (name, shapes) in enumerate((("a.png", [CAT]), ("b.jpg", [DOG]), ("c.png", []))):
        save_picture(folder / name, seed=k)
        save_json((folder / name).with_suffix(".json"), annotation(*shapes, name=name))
    return folder


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "voc"


def test_a_folder_becomes_voc_layout(source, out):
    train, val = from_labelme(source, out)
    assert (train.root, train.ids, val.ids) == (out, ["b", "c"], ["a"])
    assert train.classes == NAMES
    for id_, shapes in (("a", [CAT]), ("b", [DOG]), ("c", [])):
        path = out / "SegmentationClass" / f"{id_}.png"
        assert np.array_equal(read_labels(path, 3), draw(*shapes))
    for name in ("a.png", "b.jpg", "c.png"):
        assert (out / "JPEGImages" / name).read_bytes() == (source / name).read_bytes()
    assert (out / "labels.txt").read_bytes() == b"background\ncat\ndog\n"
    assert [path.name for path in out.parent.iterdir() if path != source] == ["voc"]
    report = check_folder(out)
    assert report.problems == []
    assert report.pixels[1:3].tolist() == [6, 3]
    assert report.pixels.sum() == 3 * HEIGHT * WIDTH


def test_every_fifth_picture_is_for_validation(tmp_path, out):
    for k in range(11):
        save_picture(tmp_path / f"{k:02}.png")
        save_json(tmp_path / f"{k:02}.json", annotation(name=f"{k:02}.png"))
    train, val = from_labelme(tmp_path, out)
    assert val.ids == ["00", "05", "10"]
    assert train.ids == ["01", "02", "03", "04", "06", "07", "08", "09"]


def test_labels_txt_gives_the_order(source, out):
    (source / "labels.txt").write_text("background\nzebra\ndog\ncat\n")
    train, _ = from_labelme(source, out)
    assert train.classes == ("background", "zebra", "dog", "cat")
    assert set(np.unique(train[0][1])) == {0, 2}


def test_void_and_background_are_no_classes_of_their_own(source, out):
    shapes = [CAT, shape("void", CAT["points"], "rectangle"), shape("background", DOG["points"])]
    save_json(source / "c.json", annotation(*shapes, name="c.png"))
    train, _ = from_labelme(source, out)
    assert train.classes == NAMES
    assert set(np.unique(train[1][1])) == {0, 255}


def test_spaces_around_labels_and_in_names_of_files(source, out):
    (source / "a.png").rename(source / "my  cat.png")
    (source / "a.json").unlink()
    around = {**CAT, "label": " cat\t"}
    save_json(source / "my cat.json", annotation(around, name="my  cat.png"))
    train, val = from_labelme(source, out)
    assert train.classes == NAMES
    assert [*train.ids, *val.ids] == ["c", "my_cat", "b"]
    assert (out / "JPEGImages" / "my_cat.png").exists()


@pytest.mark.parametrize("named", ["..\\pictures\\a.png", "../pictures/a.png"])
def test_a_picture_in_another_folder_as_labelme_names_it(source, out, named):
    pictures = source.parent / "pictures"
    pictures.mkdir()
    (source / "a.png").rename(pictures / "a.png")
    save_json(source / "a.json", annotation(CAT, name=named))
    _, val = from_labelme(source, out)
    assert (out / "JPEGImages/a.png").read_bytes() == (pictures / "a.png").read_bytes()
    assert np.array_equal(val[0][1], draw(CAT))


@pytest.mark.parametrize("named", ["C:\\Users\\me\\a.png", "/gone/old.png", ""])
def test_a_picture_that_is_not_where_it_was_is_found_beside_the_json(source, out, named):
    save_json(source / "a.json", annotation(CAT, name=named))
    _, val = from_labelme(source, out)
    assert val.ids == ["a"]


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_turned_picture_is_stored_upright(source, out, suffix):
    """A telephone held upright: stored lying, with the note "turn me". labelme turns it."""
    (source / "a.png").unlink()
    exif = Image.Exif()
    exif[0x0112] = 6  # rotate by 270 degrees to show it
    name = f"a{suffix}"
    save_picture(source / name, size=(WIDTH, HEIGHT), exif=exif, quality=95, subsampling=0)
    save_json(source / "a.json", annotation(CAT, name=name))
    _, val = from_labelme(source, out)
    with Image.open(source / name) as lying, Image.open(out / "JPEGImages" / name) as upright:
        assert upright.size == (WIDTH, HEIGHT)
        assert upright.getexif().get(0x0112, 1) == 1
        turned = np.asarray(lying.transpose(Image.Transpose.ROTATE_270)).astype(int)
        assert np.abs(np.asarray(upright) - turned).max() <= (0 if suffix == ".png" else 12)
    assert np.array_equal(val[0][1], draw(CAT))


@pytest.mark.parametrize(
    ("name", "mode", "stored"),
    [
        ("a.png", "RGBA", "a.png"),
        ("a.png", "P", "a.png"),
        ("a.jpg", "L", "a.jpg"),
        ("a.bmp", "RGB", "a.png"),
        ("a.Png", "RGB", "a.png"),
    ],
)
def test_other_pictures_are_stored_as_rgb(source, out, name, mode, stored):
    (source / "a.png").unlink()
    picture = Image.new("RGB", (WIDTH, HEIGHT), (200, 100, 50)).convert(mode)
    picture.save(source / name)
    save_json(source / "a.json", annotation(CAT, name=name))
    _, val = from_labelme(source, out)
    with Image.open(out / "JPEGImages" / stored) as found:
        assert found.mode == "RGB"
    expected = np.asarray(picture.convert("RGB"))[0, 0].astype(int)
    assert np.abs(val[0][0][:, 0, 0].numpy() - expected).max() <= 2


def test_the_picture_inside_the_json_is_not_read(source):
    save_json(source / "a.json", {**annotation(CAT), "imageData": "no base64"})
    assert set(read_annotation(source / "a.json")) == {
        "shapes",
        "imagePath",
        "imageHeight",
        "imageWidth",
    }


def test_an_empty_folder_may_be_there(source, out):
    out.mkdir()
    from_labelme(source, out)
    assert check_folder(out).problems == []


# --- the command, and what can be wrong


def test_the_command_prints_one_line(source, out, capsys):
    assert main(["data", "labelme", str(source), "--out", str(out)]) == 0
    expected = f"3 pictures (2 train, 1 val), classes background, cat, dog: see {out}\n"
    assert capsys.readouterr().out == expected
    assert len(SegmentationFolder(out, "train")) == 2
    assert main(["data", "check", str(out)]) == 0


def test_the_command_needs_to_know_where_to_write(source):
    with pytest.raises(SystemExit) as stopped:
        main(["data", "labelme", str(source)])
    assert stopped.value.code == 2


def with_shape(**wrong: Any) -> dict[str, Any]:
    return annotation({**CAT, **wrong}, name="a.png")


JSON_FAULTS: dict[str, tuple[Any, str]] = {
    # name: (what a.json holds instead, what is said after its path)
    "a list": ([], " has no shapes as labelme writes it: save it again from labelme, or move it"),
    "COCO": ({"images": []}, " has no shapes as labelme writes it"),
    "no path": ({**annotation(), "imagePath": None}, " has no imagePath as labelme writes it"),
    "no size": ({**annotation(), "imageWidth": "8"}, " has no imageWidth as labelme writes it"),
    "no label": (with_shape(label=" "), ": shape 1 needs a label and points [x, y]: draw it again"),
    "label a number": (with_shape(label=3), ": shape 1 needs a label"),
    "shape a number": ({**annotation(), "shapes": [7]}, ": shape 1 needs a label"),
    "no points": (with_shape(points=None), ": shape 1 needs a label"),
    "flat points": (with_shape(points=[1, 1, 4, 3]), ": shape 1 needs a label"),
    "points in space": (with_shape(points=[[1, 1, 1], [4, 3, 1]]), ": shape 1 needs a label"),
    "NaN": (with_shape(points=[[float("nan"), 1], [4, 3]]), ": shape 1 needs a label"),
    "endless": (with_shape(points=[[float("inf"), 1], [4, 3]]), ": shape 1 needs a label"),
    "line": (
        with_shape(shape_type="line"),
        " has the label 'cat' on a shape of the type 'line': draw it as polygon, rectangle or "
        "circle.",
    ),
    "type a list": (with_shape(shape_type=["mask"]), " has the label 'cat' on a shape of the type"),
    "two corners": (
        with_shape(shape_type="polygon"),
        " has the label 'cat' on a polygon of 2 points: draw it again.",
    ),
    "four corners": (
        with_shape(points=[[1, 1], [4, 1], [4, 3], [1, 3]]),
        " has the label 'cat' on a rectangle of 4 points: draw it again.",
    ),
    "circle of one point": (
        with_shape(points=[[1, 1]], shape_type="circle"),
        " has the label 'cat' on a circle of 1 points: draw it again.",
    ),
    "another size": (
        annotation(size=(WIDTH, HEIGHT)),
        " is for 6 x 8 pixels, but {source}/a.png has 8 x 6: put the picture there that was "
        "labelled, or label this one.",
    ),
    "the picture of another": (
        annotation(name="b.jpg"),
        " and {source}/b.json both label a picture 'b': move one away, or rename its picture",
    ),
}


def refused(source: Path, out: Path, capsys: Any) -> str:
    """The one sentence of the command, which leaves everything as it was."""
    before = sorted(source.parent.rglob("*"))
    assert main(["data", "labelme", str(source), "--out", str(out)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1, said
    assert said[0].startswith("fcn: ")
    assert said[0].endswith(".")
    assert sorted(source.parent.rglob("*")) == before
    return said[0]


@pytest.mark.parametrize("fault", JSON_FAULTS)
def test_a_wrong_json_is_named_and_nothing_is_written(source, out, capsys, fault):
    content, said = JSON_FAULTS[fault]
    save_json(source / "a.json", content)
    expected = f"fcn: {source}/a.json" + said.replace("{source}", str(source))
    assert refused(source, out, capsys).startswith(expected)


@pytest.mark.parametrize("content", [b"", b'{"shapes": [', b"\xff\xfe\x00", b"\x89PNG"])
def test_what_is_no_json(source, out, capsys, content):
    (source / "b.json").write_bytes(content)
    said = refused(source, out, capsys)
    assert said.startswith(f"fcn: {source}/b.json cannot be read as JSON (")
    assert said.endswith("): save it again from labelme.")


def test_a_label_that_labels_txt_does_not_know(source, out, capsys):
    (source / "labels.txt").write_text("background\ncat\n")
    assert refused(source, out, capsys) == (
        f"fcn: {source}/b.json has the label 'dog', but the classes are background, cat: "
        "correct the label, or add it to labels.txt."
    )


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cat\ndog\n", " begins with 'cat': put 'background' first, the class of what no shape"),
        ("background\ncat\ncat\n", " has 'cat' twice, in lines 2 and 3: take one out."),
    ],
)
def test_a_labels_txt_that_cannot_be_used(source, out, capsys, text, said):
    (source / "labels.txt").write_text(text)
    assert refused(source, out, capsys).startswith(f"fcn: {source}/labels.txt{said}")


def test_more_classes_than_a_mask_can_hold(source, out, capsys):
    shapes = [{**DOG, "label": f"dog {k}"} for k in range(255)]
    save_json(source / "b.json", annotation(*shapes, name="b.jpg"))
    assert "has 257 classes, but a mask can hold 255 at most" in refused(source, out, capsys)


def test_a_picture_that_is_missing(source, out, capsys):
    (source / "b.jpg").unlink()
    assert refused(source, out, capsys) == (
        f"fcn: {source}/b.json labels the picture b.jpg, which is missing: put it beside the JSON."
    )


def test_a_picture_that_is_damaged(source, out, capsys):
    (source / "b.jpg").write_bytes(b"hello")
    said = refused(source, out, capsys)
    assert said.startswith(f"fcn: {source}/b.jpg has no format that is known here")


def test_json_of_endless_brackets(source, out, capsys):
    (source / "b.json").write_text("[" * 200_000)
    assert "b.json cannot be read as JSON" in refused(source, out, capsys)


def test_damaged_tags_of_a_picture_that_reads(source, out, capsys):
    """Pillow reads the picture, and raises SyntaxError for its tags."""
    picture = Image.new("RGB", (WIDTH, HEIGHT), "red")
    picture.save(source / "b.jpg", exif=b"Exif\0\0garbage and more", dpi=(72, 72))
    with pytest.raises(SyntaxError), Image.open(source / "b.jpg") as opened:
        opened.getexif()
    from_labelme(source, out)
    assert (out / "JPEGImages" / "b.jpg").exists()


def test_two_pictures_of_one_name(source, out, capsys):
    save_picture(source / "a.jpg")
    save_json(source / "other.json", annotation(CAT, name="a.jpg"))
    said = f"{source}/a.json and {source}/other.json both label a picture 'a': move one away"
    assert said in refused(source, out, capsys)


def test_too_few_pictures(source, out, capsys):
    for name in ("b.json", "c.json"):
        (source / name).unlink()
    assert refused(source, out, capsys) == (
        f"fcn: {source} has too few JSON files of labelme (1): label at least two pictures, one "
        "for training and one for validation."
    )


def test_no_folder(source, out, capsys):
    said = refused(source / "a.png", out, capsys)
    assert said.endswith("a.png is no folder: give the one with labelme's JSON files.")


def test_a_folder_with_something_in_it_is_left_alone(source, capsys):
    said = f"fcn: {source} is there already: name a folder that is new or empty."
    assert refused(source, source, capsys) == said
    file = source / "a.png"
    assert refused(source, file, capsys) == said.replace(str(source), str(file))


def test_a_disk_that_fails_leaves_nothing(source, out, monkeypatch):
    def fail(path: Path, labels: np.ndarray) -> None:
        if path.name == "c.png":
            raise OSError(28, "No space left on device", str(path))
        save_labels(path, labels)

    monkeypatch.setattr("fcnlib.data.labelme.save_labels", fail)
    with pytest.raises(OSError, match="No space left"):
        from_labelme(source, out)
    assert list(out.parent.iterdir()) == [source]


def test_an_error_is_a_data_error_for_callers_too():
    with pytest.raises(DataError, match=r"^x\.json has the label 'cow', but the classes are back"):
        label_map(annotation({**CAT, "label": "cow"}), NAMES, "x.json")
