"""Bad input: one plain sentence that names file and cure, status 1, nothing touched."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnlib.cli import main
from fcnlib.data import DataError, SegmentationFolder, colorize, save_labels

TRAIN = "ImageSets/Segmentation/train.txt"
Breaker = Callable[[Path], object]


def remove(name: str) -> Breaker:
    return lambda root: (root / name).unlink()


def write(name: str, content: str) -> Breaker:
    return lambda root: (root / name).write_bytes(content.encode())


def make_folder(name: str) -> Breaker:
    def breaker(root: Path) -> None:
        (root / name).unlink(missing_ok=True)
        (root / name).mkdir()

    return breaker


def truncate(name: str) -> Breaker:
    return lambda root: os.truncate(root / name, (root / name).stat().st_size // 2)


def labels_of(root: Path) -> np.ndarray:
    return np.array(Image.open(root / "SegmentationClass/a.png"))


def save_mask(make: Callable[[np.ndarray], Image.Image]) -> Breaker:
    return lambda root: make(labels_of(root)).save(root / "SegmentationClass/a.png")


def blend(labels: np.ndarray) -> Image.Image:
    """Shrink the colours as a careless resize does, and make them a mask again."""
    colors = Image.fromarray(colorize(labels))
    return colors.resize((6, 5), Image.Resampling.BILINEAR).resize((12, 10), 0)


MASK = "SegmentationClass/a.png"
FAULTS: dict[str, tuple[Breaker, str, str]] = {
    # name: (what is done to the folder, the file that is named, words of the cure)
    "root missing": (lambda root: root.rename(root.with_name("gone")), "voc", "give the folder"),
    "root is a file": (
        lambda root: (root.rename(root.with_name("gone")), root.write_text("")),
        "voc is a file",
        "give the folder",
    ),
    "no masks folder": (
        lambda root: (root / "SegmentationClass").rename(root / "masks"),
        "SegmentationClass",
        "give a folder in VOC layout",
    ),
    "split empty": (write(TRAIN, ""), TRAIN, "one id a line"),
    "split with only blanks": (write(TRAIN, "\n \n"), TRAIN, "one id a line"),
    "split with a blank line": (write(TRAIN, "a\n\nb\n"), f"{TRAIN}, line 2", "take the line out"),
    "split with CRLF": (write(TRAIN, "a\r\nb\r\n"), TRAIN, "Unix line ends"),
    "split with spaces": (write(TRAIN, "a \nb\n"), f"{TRAIN}, line 1", "take them out"),
    "split with an id twice": (write(TRAIN, "a\nb\na\n"), TRAIN, "take one out"),
    "split with two columns": (write(TRAIN, "a  1\nb -1\n"), TRAIN, "without folder and ending"),
    "split with a way out": (write(TRAIN, "../a\nb\n"), TRAIN, "without folder and ending"),
    "split not text": (lambda root: (root / TRAIN).write_bytes(b"\xff\xfe\x00"), TRAIN, "UTF-8"),
    "split is a folder": (make_folder(TRAIN), TRAIN, "move it away"),
    "picture missing": (remove("JPEGImages/a.jpg"), "JPEGImages/a.jpg", "put the file there"),
    "picture is a folder": (make_folder("JPEGImages/a.jpg"), "JPEGImages/a.jpg", "move it away"),
    "picture truncated": (truncate("JPEGImages/a.jpg"), "JPEGImages/a.jpg", "copy it again"),
    "picture is text": (write("JPEGImages/a.jpg", "hello"), "JPEGImages/a.jpg", "copy it again"),
    "mask missing": (remove(MASK), MASK, "put the file there"),
    "mask is a folder": (make_folder(MASK), MASK, "move it away"),
    "mask truncated": (truncate(MASK), MASK, "copy it again"),
    "mask of another size": (
        lambda root: save_labels(root / MASK, labels_of(root)[:, :-1]),
        MASK,
        "draw the mask at the size of the picture",
    ),
    "mask saved as RGB": (
        save_mask(lambda labels: Image.fromarray(colorize(labels))),
        MASK,
        "fcnlib.data.labels_from_colors",
    ),
    "mask blended, RGB": (save_mask(blend), MASK, "nearest-neighbour"),
    "mask blended, palette": (
        save_mask(lambda labels: blend(labels).quantize(64)),
        MASK,
        "fcnlib.data.save_labels",
    ),
    "mask of 16 bits": (
        save_mask(lambda labels: Image.fromarray(labels.astype(np.uint16))),
        MASK,
        "fcnlib.data.save_labels",
    ),
    "label above the classes": (
        lambda root: save_labels(root / MASK, np.full((10, 12), 21)),
        MASK,
        "name the class in labels.txt",
    ),
    "labels.txt with duplicates": (
        write("labels.txt", "background\ncat\ncat\n"),
        "labels.txt has 'cat' twice",
        "take one out",
    ),
    "labels.txt empty": (write("labels.txt", ""), "labels.txt", "one class name a line"),
    "labels.txt too long": (
        write("labels.txt", "".join(f"class {k}\n" for k in range(256))),
        "labels.txt names 256 classes",
        "merge classes",
    ),
    "labels.txt is a folder": (make_folder("labels.txt"), "labels.txt", "move it away"),
}


def snapshot(folder: Path) -> dict:
    """Every name below a folder, with bytes and time of change."""
    return {
        path: (path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else None)
        for path in sorted(folder.rglob("*"))
    }


@pytest.mark.parametrize("fault", FAULTS)
def test_check_names_file_and_cure_and_touches_nothing(voc_folder, capsys, fault):
    spoil, named, cure = FAULTS[fault]
    spoil(voc_folder)
    before = snapshot(voc_folder.parent)
    assert main(["data", "check", str(voc_folder)]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1, said
    assert str(voc_folder.parent / "voc") in said[0]
    assert named in said[0]
    assert cure in said[0]
    assert said[0].startswith("fcn: ")
    assert said[0].endswith(".")
    assert snapshot(voc_folder.parent) == before


@pytest.mark.parametrize("fault", FAULTS)
def test_the_reader_says_the_same(voc_folder, capsys, fault):
    FAULTS[fault][0](voc_folder)
    main(["data", "check", str(voc_folder)])
    said = capsys.readouterr().err.strip()
    with pytest.raises(DataError) as raised:
        list(SegmentationFolder(voc_folder, "train"))
    assert f"fcn: {raised.value}" == said


def test_a_missing_split_names_those_that_are_there(voc_folder):
    with pytest.raises(DataError, match=r"test\.txt is missing: .*\(train, val\)"):
        SegmentationFolder(voc_folder, "test")


def test_no_split_at_all(voc_folder, capsys):
    for path in (voc_folder / "ImageSets" / "Segmentation").iterdir():
        path.unlink()
    assert main(["data", "check", str(voc_folder)]) == 1
    assert "holds no split: write the ids" in capsys.readouterr().err


def test_a_picture_in_both_splits(voc_folder, capsys):
    (voc_folder / "ImageSets/Segmentation/val.txt").write_text("b\nc\n")
    assert main(["data", "check", str(voc_folder)]) == 1
    said = capsys.readouterr().err
    assert "val.txt lists 1 of the pictures that train.txt lists too, such as 'b'" in said


def test_one_level_too_high(voc_folder, capsys):
    devkit = voc_folder.parent / "VOCdevkit"
    devkit.mkdir()
    voc_folder.rename(devkit / "VOC2012")
    assert main(["data", "check", str(devkit)]) == 1
    assert f"give {devkit / 'VOC2012'}." in capsys.readouterr().err


def test_every_problem_is_listed_file_by_file(voc_folder, capsys):
    for fault in ("picture truncated", "mask saved as RGB"):
        FAULTS[fault][0](voc_folder)
    (voc_folder / "JPEGImages/c.jpg").unlink()
    assert main(["data", "check", str(voc_folder)]) == 1
    captured = capsys.readouterr()
    assert [line.split()[1].rsplit("/", 1)[1] for line in captured.err.splitlines()] == [
        "a.jpg",
        "a.png",
        "c.jpg",
    ]
    assert "3 problems found." in captured.out


@pytest.mark.parametrize("fault", ["root missing", "picture truncated", "mask saved as RGB"])
def test_the_real_command_shows_no_traceback(voc_folder, fault):
    FAULTS[fault][0](voc_folder)
    command = [sys.executable, "-m", "fcnlib", "data", "check", str(voc_folder)]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr
