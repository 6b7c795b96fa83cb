import numpy as np
import pytest
import torch
from d2l import torch as d2l
from PIL import Image

from fcnlib.data import VOC_CLASSES, colorize, labels_from_colors, save_labels, voc_colormap


def test_the_colours_are_those_that_d2l_lists():
    assert voc_colormap()[:21].tolist() == d2l.VOC_COLORMAP
    names = [name.replace(" ", "").replace("/", "") for name in d2l.VOC_CLASSES]
    assert list(VOC_CLASSES) == names


def test_all_256_colours_differ_and_void_is_nearly_white():
    assert len({tuple(color) for color in voc_colormap().tolist()}) == 256
    assert voc_colormap()[255].tolist() == [224, 224, 192]


@pytest.mark.real_data
def test_the_colours_are_the_palette_of_real_masks(real_data):
    for path in sorted((real_data / "voc2012-animals" / "SegmentationClass").iterdir())[:20]:
        assert bytes(Image.open(path).getpalette()) == voc_colormap().tobytes()


def test_colours_and_labels_are_inverse():
    labels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    assert np.array_equal(labels_from_colors(colorize(labels)), labels)
    assert np.array_equal(colorize(torch.from_numpy(labels)), colorize(labels))


def test_a_blended_colour_is_refused_and_named():
    picture = colorize(np.array([[0, 1], [1, 0]]))
    picture[0, 1] = (64, 0, 1)
    with pytest.raises(ValueError, match=r"\(64, 0, 1\)"):
        labels_from_colors(picture)


def test_saved_labels_read_back_with_pillow_as_indices_and_colours(tmp_path):
    labels = np.arange(256, dtype=np.uint8).reshape(8, 32)
    save_labels(tmp_path / "mask.png", labels)
    with Image.open(tmp_path / "mask.png") as mask:
        assert mask.mode == "P"
        assert np.array_equal(np.array(mask), labels)
        assert np.array_equal(np.array(mask.convert("RGB")), colorize(labels))
    assert [p.name for p in tmp_path.iterdir()] == ["mask.png"]
