"""Functions that a notebook builds are those of the library: they cannot drift apart."""

from pathlib import Path

import numpy as np
import torch
from notebook_tools import ROOT, functions_of

from fcnlib.data import SegmentationFolder, labels_from_colors, voc_colormap


def of(name: str) -> dict:
    return functions_of(ROOT / "notebooks" / name)


def test_01_builds_the_colour_map_of_the_library():
    built = of("01_pixels_with_labels.ipynb")["voc_colormap"]()
    assert built.dtype == np.uint8
    assert np.array_equal(built, voc_colormap())


def test_01_builds_the_reader_of_the_library(shapes_root: Path):
    built = of("01_pixels_with_labels.ipynb")["Scenes"](shapes_root, "train")
    library = SegmentationFolder(shapes_root, "train")
    assert built.ids == library.ids
    for index in range(0, len(library), 40):
        for ours, theirs in zip(built[index], library[index], strict=True):
            assert torch.equal(ours, theirs)


def test_01s_solution_agrees_with_the_library():
    solution = of("solutions/01_pixels_with_labels.ipynb")["numbers_from_colors"]
    numbers = np.arange(256).reshape(16, 16)
    painted = voc_colormap()[numbers]
    assert np.array_equal(solution(painted, voc_colormap()), numbers)
    assert np.array_equal(labels_from_colors(painted), numbers)
