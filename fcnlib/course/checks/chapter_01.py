"""Checks of the exercises in notebook 01."""

import math
from collections.abc import Callable

import numpy as np
import torch

from fcnlib.course.checks import exercise


@exercise("01.1")
def check_numbers_from_colors(numbers_from_colors: Callable) -> None:
    """Paint random numbers with random colours, and ask for the numbers."""
    random = np.random.default_rng(11)
    for _ in range(20):
        codes = random.choice(256**3, size=random.integers(2, 12), replace=False)
        colormap = np.stack([codes >> 16, codes >> 8 & 255, codes & 255], 1).astype(np.uint8)
        known = len(colormap) - 1  # the last colour is in the picture, not in the map
        height, width = random.integers(1, 8, 2).tolist()
        painted = random.integers(0, known + 1, (height, width))
        wanted = np.where(painted == known, 255, painted)
        result = np.asarray(numbers_from_colors(colormap[painted].copy(), colormap[:known].copy()))
        assert result.shape == (height, width), (
            f"For a picture of {height} x {width} pixels return {(height, width)}, "
            f"not {result.shape}."
        )
        row, column = np.argwhere(result != wanted)[0] if (result != wanted).any() else (0, 0)
        assert np.array_equal(result, wanted), (
            f"The colour {colormap[painted][row, column].tolist()} is "
            + (f"row {wanted[row, column]}" if wanted[row, column] != 255 else "in no row")
            + f" of the colormap; you return {result[row, column]}."
        )


@exercise("01.2")
def check_class_frequencies(class_frequencies: Callable) -> None:
    """Compare with counts made in plain Python."""
    large, small = torch.zeros(9, 10), torch.ones(2, 5)
    result = class_frequencies([large.to(torch.uint8), small.to(torch.uint8)], 3)
    assert len(result) == 3, f"For 3 classes return 3 shares, not {len(result)}."
    assert math.isclose(float(result[0]), 0.9, abs_tol=1e-5), (
        "90 pixels of class 0 in a large map and 10 of class 1 in a small one: "
        f"the share of class 0 is 0.9, not {float(result[0]):.3f}."
    )
    generator = torch.Generator().manual_seed(12)
    for _ in range(20):
        maps = []
        for _ in range(3):
            height, width = torch.randint(1, 9, (2,), generator=generator).tolist()
            labels = torch.randint(0, 6, (height, width), generator=generator)
            maps.append(torch.where(labels == 5, 255, labels).to(torch.uint8))
        pixels = [value for labels in maps for value in labels.flatten().tolist()]
        valid = len(pixels) - pixels.count(255)
        if not valid:
            continue
        result = class_frequencies([labels.clone() for labels in maps], 5)
        for label in range(5):
            wanted, got = pixels.count(label) / valid, float(result[label])
            assert math.isclose(got, wanted, abs_tol=1e-5), (
                f"Class {label} has {pixels.count(label)} of {valid} pixels that are not void, "
                f"a share of {wanted:.3f}, not {got:.3f}."
            )


@exercise("01.3")
def check_constant_prediction_scores(constant_prediction_scores: Callable) -> None:
    """Compare with scores counted on a real pair of maps."""
    generator = torch.Generator().manual_seed(13)
    for _ in range(20):
        classes = int(torch.randint(2, 7, (1,), generator=generator))
        truth = torch.randint(0, classes, (40,), generator=generator)
        truth[:classes] = torch.arange(classes)  # every class occurs
        frequencies = torch.bincount(truth, minlength=classes) / len(truth)
        for label in range(classes):
            ious = []
            for other in range(classes):
                said, is_there = torch.full_like(truth, label) == other, truth == other
                ious.append(int((said & is_there).sum()) / int((said | is_there).sum()))
            wanted = float((truth == label).float().mean()), sum(ious) / classes
            result = constant_prediction_scores(frequencies.clone(), label)
            assert isinstance(result, tuple) and len(result) == 2, (
                "Return two floats: return pixel_accuracy, mean_iou."
            )
            accuracy, mean_iou = result
            shares = [round(share, 3) for share in frequencies.tolist()]
            for name, got, right in (
                ("pixel accuracy", accuracy, wanted[0]),
                ("mean IoU", mean_iou, wanted[1]),
            ):
                assert isinstance(got, float), f"Return floats, not {type(got).__name__}."
                assert math.isclose(got, right, abs_tol=1e-5), (
                    f"For the shares {shares} and always class {label} the {name} is "
                    f"{right:.3f}, not {got:.3f}."
                )


@exercise("01.4")
def check_crop_with_void(crop_with_void: Callable) -> None:
    """Compare with a loop over every pixel of the crop."""
    generator = torch.Generator().manual_seed(14)
    windows = [(2, 2, 2, 2, -1, -1), (2, 2, 2, 2, 5, 0)]  # by hand; nothing shared
    for _ in range(60):
        sizes = torch.randint(1, 7, (4,), generator=generator).tolist()
        windows.append((*sizes, *torch.randint(-7, 8, (2,), generator=generator).tolist()))
    for high, wide, height, width, top, left in windows:
        labels = torch.randint(0, 21, (high, wide), generator=generator).to(torch.uint8)
        image = torch.rand(3, high, wide, generator=generator) + 0.1
        _compare_crops(crop_with_void, image, labels, (top, left, height, width))


def _compare_crops(
    crop_with_void: Callable,
    image: torch.Tensor,
    labels: torch.Tensor,
    window: tuple[int, int, int, int],
) -> None:
    """Ask for one window, and look at every pixel of the answer."""
    (top, left, height, width), (high, wide) = window, labels.shape
    before = image.clone(), labels.clone()
    named = f"({top}, {left}) of size ({height}, {width}) in a picture of ({high}, {wide})"
    result, result_labels = crop_with_void(image, labels, *window)
    for name, given, got, shape in (
        ("picture", image, result, (3, height, width)),
        ("labels", labels, result_labels, (height, width)),
    ):
        assert isinstance(got, torch.Tensor), f"Return tensors, not {type(got).__name__}."
        assert got.shape == shape, (
            f"For the window {named} the {name} must be {shape}, not {tuple(got.shape)}."
        )
        assert got.dtype == given.dtype, (
            f"Keep the dtype of the {name}, {given.dtype}; you return {got.dtype}."
        )
    assert torch.equal(image, before[0]) and torch.equal(labels, before[1]), (
        "Your function changes its inputs."
    )
    for row in range(height):
        for column in range(width):
            y, x = top + row, left + column
            inside = 0 <= y < high and 0 <= x < wide
            wanted = int(labels[y, x]) if inside else 255
            color = image[:, y, x] if inside else torch.zeros(3)
            right = int(result_labels[row, column]) == wanted
            assert right and torch.equal(result[:, row, column], color), (
                f"For the window {named} the pixel at ({row}, {column}) of the crop "
                f"should be {f'pixel ({y}, {x}) of the picture' if inside else 'void'}."
            )
