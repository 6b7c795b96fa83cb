"""Functions that a notebook builds are those of the library: they cannot drift apart."""

import random
from pathlib import Path

import numpy as np
import pytest
import torch
from convolutionalize_cases import check_linear_to_conv, check_wrong_number_of_inputs
from convolutionalize_cases import shapes as map_shapes
from hypothesis import given, settings
from hypothesis import strategies as st
from notebook_tools import ROOT, functions_of
from transposed_cases import SAME_CASES, Case, assert_same_as_pytorch, cases

from fcnlib import transposed_conv
from fcnlib.bilinear import bilinear_kernel
from fcnlib.data import SegmentationFolder, labels_from_colors, voc_colormap
from fcnlib.geometry import PICTURE, Layer
from fcnlib.models.vgg import CHANNELS, CONVOLUTIONS, VGGFeatures


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


BUILT_IN_02 = of("02_transposed_convolution.ipynb")


# What 02 builds takes a batch, and whole numbers as options.
@pytest.mark.parametrize("view", ["scatter", "zero_insertion"])
@settings(SAME_CASES, max_examples=150)
@given(case=cases(batches=(1, 2), pairs=False))
def test_02_builds_the_transposed_convolution_of_the_library(view: str, case: Case):
    assert_same_as_pytorch(case, BUILT_IN_02[f"conv_transpose2d_{view}"])


# Two of its views leave out an output_padding that reaches the stride.
@pytest.mark.parametrize("view", ["matrix", "gradient"])
@settings(SAME_CASES, max_examples=150)
@given(case=cases(batches=(1, 2), pairs=False).filter(lambda c: c.output_padding < c.stride))
def test_02_builds_two_more_for_an_output_padding_below_the_stride(view: str, case: Case):
    assert_same_as_pytorch(case, BUILT_IN_02[f"conv_transpose2d_{view}"])


def test_02_builds_the_matrix_and_the_sizes_of_the_library():
    torch.manual_seed(0)
    for stride, padding, dilation, groups in [(1, 0, 1, 1), (2, 1, 2, 2), (3, 2, 1, 2)]:
        weight = torch.randn(4, 4 // groups, 3, 2, dtype=torch.float64)
        arguments = weight, (6, 7), stride, padding, dilation, groups
        built = BUILT_IN_02["convolution_matrix"](*arguments)
        assert torch.equal(built, transposed_conv.convolution_matrix(*arguments))
        for extra in range(stride):
            numbers = 6, 3, stride, padding, extra, dilation
            assert BUILT_IN_02["output_size"](*numbers) == transposed_conv.output_size(*numbers)


def test_04_builds_the_bilinear_kernel_of_the_library():
    built = of("04_upsampling.ipynb")["bilinear_kernel"]
    for size in range(1, 66):
        torch.testing.assert_close(built(size).double(), bilinear_kernel(size).double())


BUILT_IN_05 = of("05_from_classifier_to_fcn.ipynb")


@settings(SAME_CASES, max_examples=100)
@given(shape=map_shapes, bias=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_05_builds_the_convolution_of_a_layer(shape: tuple, bias: bool, seed: int):
    check_linear_to_conv(BUILT_IN_05["linear_to_conv"], shape, bias, seed)


def test_05_refuses_a_wrong_number_of_inputs():
    check_wrong_number_of_inputs(BUILT_IN_05["linear_to_conv"])


@pytest.mark.parametrize("name", CONVOLUTIONS)
def test_05_builds_the_vgg_of_the_library(name: str):
    with torch.device("meta"):
        built = BUILT_IN_05["vgg_features"](CONVOLUTIONS[name], CHANNELS)
        library = VGGFeatures(name).features
    assert [str(layer) for layer in built] == [str(layer) for layer in library]


def test_06_builds_the_rules_of_the_library():
    built = of("06_geometry.ipynb")
    dice = random.Random(0)
    for _ in range(200):
        view, library = (1, 1, 0), PICTURE
        for _ in range(3):
            kernel, stride, padding = dice.randint(1, 5), dice.choice((1, 2, 4)), dice.randint(0, 3)
            transposed = dice.random() < 0.4
            rule = built["after_transposed" if transposed else "after"]
            view = rule(view, kernel, stride, padding)
            library = library.after(Layer(kernel, stride, padding, transposed=transposed))
            assert view == (library.receptive_field, library.stride, library.offset)
