"""Checks of the exercises in notebook 10."""

import math
from collections.abc import Callable, Sequence
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from fcnlib.course.checks import exercise
from fcnlib.course.checks.answers import as_number, brief
from fcnlib.metrics import ConfusionMatrix, near_boundary

VOID = 255


@exercise("10.1")
def check_looks_at(looks_at: Callable) -> None:
    """Compare with the sum of all layers' reach, on short and long lists."""
    cases: list[list[tuple[int, int, int]]] = [
        [],
        [(3, 1, 1)],
        [(3, 1, 2)],
        [(3, 2, 1), (3, 1, 1)],
        [(3, 1, 1), (3, 1, 2)],
        [(1, 2, 1), (1, 1, 3), (2, 1, 1)],
    ]
    random = np.random.default_rng(101)
    for _ in range(40):
        drawn = random.integers([1, 1, 1], [6, 4, 5], size=(random.integers(2, 8), 3))
        cases.append([(int(k), int(s), int(d)) for k, s, d in drawn])
    for layers in cases:
        wanted, apart = 1, 1
        for kernel, stride, dilation in layers:
            wanted += (kernel - 1) * dilation * apart
            apart *= stride
        got = as_number(looks_at(list(layers)), "the receptive field")
        assert got == wanted, (
            f"For the layers {layers} the receptive field is {wanted}, not {got:g}."
        )


@exercise("10.2")
def check_dilate(dilate: Callable) -> None:
    """Compare with the definition, on lists with strides before, at and behind the limit."""
    cases: list[tuple[list[tuple[int, int]], int]] = [
        ([(3, 1)], 1),
        ([(3, 2), (3, 2), (3, 1)], 2),
        ([(3, 2), (3, 2), (3, 1)], 4),
        ([(3, 2), (3, 1)], 1),
        ([(3, 2), (3, 2), (3, 2), (3, 1)], 2),
        ([(3, 4), (3, 2), (3, 1)], 2),
        ([], 8),
    ]
    random = np.random.default_rng(102)
    for _ in range(40):
        length = int(random.integers(2, 9))
        kernels = random.choice([1, 2, 3, 5, 7], length)
        strides = random.choice([1, 2, 4], length, p=[0.5, 0.4, 0.1])
        layers = [(int(k), int(s)) for k, s in zip(kernels, strides, strict=True)]
        cases.append((layers, int(2 ** random.integers(0, 5))))
    for layers, most in cases:
        given = list(layers)
        got = dilate(given, most)
        where = f"For the layers {layers} and most = {most}"
        assert given == layers, f"{where}, your function changes the list that it is given."
        assert isinstance(got, list | tuple), f"{where}, return a list, not {brief(got)}."
        assert len(got) == len(layers), (
            f"{where}, the list must have {len(layers)} layers, not {len(got)}."
        )
        for number, (layer, right) in enumerate(zip(got, _dilated(layers, most), strict=True)):
            assert isinstance(layer, list | tuple) and len(layer) == 3, (
                f"{where}, layer {number} must be (kernel, stride, dilation), not {layer!r}."
            )
            assert all(isinstance(value, Integral) for value in layer), (
                f"{where}, layer {number} must hold whole numbers, not {tuple(layer)}."
            )
            assert tuple(layer) == right, (
                f"{where}, layer {number} (counted from 0) is {right}, not {tuple(layer)}."
            )


def _dilated(layers: list[tuple[int, int]], most: int) -> list[tuple[int, int, int]]:
    result, reached, dropped = [], 1, 1
    for kernel, stride in layers:
        if dropped == 1 and reached * stride <= most:
            reached *= stride
            result.append((kernel, stride, 1))
        else:
            result.append((kernel, 1, dropped))
            dropped *= stride
    return result


@exercise("10.3")
def check_outline_iou(outline_iou: Callable) -> None:
    """Compare with one matrix over the pixels near outlines, on blocks of labels."""
    random = torch.Generator().manual_seed(103)
    row, drawn = torch.tensor([[0, 0, 0, 0, 1, 1]]), torch.tensor([[0, 0, 0, 1, 1, 0]])
    cases = [([row], [drawn], 2, 1, "the picture of one row")]
    for case in range(25):
        classes, distance = 2 + case % 4, 1 + case % 3
        targets = [_blocks(classes, random) for _ in range(1 + case % 3)]
        predictions = [
            torch.where(
                torch.rand(target.shape, generator=random) < 0.3,
                torch.randint(classes, target.shape, generator=random),
                target % VOID,  # right, but for void
            )
            for target in targets
        ]
        sizes = ", ".join(f"{target.shape[0]} x {target.shape[1]}" for target in targets)
        where = f"{len(targets)} picture{'s' * (len(targets) > 1)} of {sizes} pixels"
        cases.append((targets, predictions, classes, distance, where))
    for targets, predictions, classes, distance, where in cases:
        matrix = ConfusionMatrix(classes)
        for target, prediction in zip(targets, predictions, strict=True):
            near = near_boundary(target, distance)
            matrix.update(target.where(near, VOID), prediction)
        if math.isnan(matrix.mean_iou()):
            continue
        copies = [[x.clone() for x in maps] for maps in (targets, predictions)]
        got = as_number(outline_iou(*copies, classes, distance), "the mean IoU")
        assert all(map(torch.equal, copies[0], targets)), (
            "Your function changes the labels that it is given: work on a copy."
        )
        assert abs(got - matrix.mean_iou()) < 1e-6, (
            f"For {where}, {classes} classes and distance {distance} the mean IoU near outlines "
            f"is {matrix.mean_iou():.4f}, not {got:.4f}."
        )


def _blocks(classes: int, random: torch.Generator) -> Tensor:
    """Return labels (H, W) of rectangles, with a seam of void here and there."""
    height, width = torch.randint(6, 15, (2,), generator=random).tolist()
    labels = torch.zeros(height, width, dtype=torch.long)
    for label in [*range(1, classes), VOID]:
        top, left = torch.randint(0, 8, (2,), generator=random).tolist()
        down, along = torch.randint(1, 5, (2,), generator=random).tolist()
        labels[top : top + down, left : left + along] = label
    return labels


@exercise("10.4")
def check_with_names(with_names: Callable) -> None:
    """Compare keys and tensors, for numbers of one and two digits, and names that stay."""
    keys = ["0.weight", "2.0.bias", "head.bias"]
    _same_names(with_names, keys, ["conv1", "bn1", "layer1"])
    names = ["conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4"]
    keys = ["0.weight", "1.running_mean", "4.0.conv1.weight", "4.1.bn2.bias", "7.0.weight"]
    keys += ["final_conv.weight", "transpose_conv.bias"]
    _same_names(with_names, keys, names)
    _same_names(with_names, [f"module.{key}" for key in keys], names)
    many = [f"layer_{number}" for number in range(12)]
    _same_names(with_names, ["10.weight", "1.weight", "11.0.1.weight", "0.10.weight"], many)
    _same_names(with_names, ["module.0.module.weight", "module.submodule.bias"], ["body"])
    _same_names(with_names, ["block3.weight", "3d.bias"], ["conv1"])
    for keys in (["2.weight"], ["0.bias", "module.5.weight"]):
        try:
            with_names({key: torch.zeros(1) for key in keys}, ["conv1", "bn1"])
        except AssertionError as error:  # how the check reports what your function raised
            assert isinstance(error.__cause__, KeyError), (
                f"For the keys {keys} and 2 names raise KeyError, not "
                f"{type(error.__cause__).__name__}."
            )
        else:
            raise AssertionError(f"For the keys {keys} and 2 names raise KeyError.")


def _same_names(with_names: Callable, keys: Sequence[str], names: list[str]) -> None:
    state = {key: torch.full((2,), float(place)) for place, key in enumerate(keys)}
    given = dict(state)
    got = with_names(given, list(names))
    assert given.keys() == state.keys(), "Your function changes the state_dict that it is given."
    assert isinstance(got, dict), f"Return a dictionary, not {brief(got)}."
    wanted = {}
    for key, numbers in state.items():
        short = key.removeprefix("module.")
        number, _, rest = short.partition(".")
        wanted[f"{names[int(number)]}.{rest}" if number.isdecimal() else short] = numbers
    missing, surplus = wanted.keys() - got.keys(), got.keys() - wanted.keys()
    assert not missing and not surplus, (
        f"For the keys {keys[:4]} and the names {names[:8]}, "
        + (f"{sorted(missing)[0]!r} is missing" if missing else "there is one key too many")
        + (f"; yours has {sorted(map(str, surplus))[0]!r}." if surplus else ".")
    )
    for key, numbers in wanted.items():
        assert isinstance(got[key], Tensor) and torch.equal(got[key], numbers), (
            f"For the keys {keys[:4]}, {key!r} has the numbers of another layer."
        )
