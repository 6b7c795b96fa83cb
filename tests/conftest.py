"""What several tests need: small folders in VOC layout, the embedded set, real data."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fcnlib.data import save_labels, shapes

CHECKOUT = Path(__file__).parents[1]


@pytest.fixture
def voc_folder(tmp_path: Path) -> Path:
    """A folder in VOC layout: two pictures for training, one for validation, 12 x 10."""
    root = tmp_path / "voc"
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for id_ in ("a", "b", "c"):
        picture = random.integers(0, 256, (10, 12, 3), dtype=np.uint8)
        Image.fromarray(picture).save(root / "JPEGImages" / f"{id_}.jpg")
        labels = random.choice(np.array([0, 8, 20, 255], np.uint8), (10, 12))
        save_labels(root / "SegmentationClass" / f"{id_}.png", labels)
    lists = root / "ImageSets" / "Segmentation"
    (lists / "train.txt").write_text("a\nb\n")
    (lists / "val.txt").write_text("c\n")
    return root


@pytest.fixture(scope="session")
def shapes_root() -> Path:
    """The embedded set, drawn if need be."""
    return shapes()


@pytest.fixture
def real_data() -> Path:
    """The folder of real PASCAL VOC pictures for development, or a skip that says so."""
    folder = Path(os.environ.get("FCN_REAL_DATA", CHECKOUT.parent / "shared" / "data"))
    if not (folder / "voc2012-animals").is_dir():
        pytest.skip(f"no real VOC pictures in {folder}; FCN_REAL_DATA can name their folder")
    return folder
