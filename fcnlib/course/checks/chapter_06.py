"""Checks of the exercises in notebook 06."""

from collections.abc import Callable
from fractions import Fraction

import numpy as np
import torch
from torch import nn

from fcnlib.course.checks import exercise
from fcnlib.course.checks.answers import as_number


@exercise("06.1")
def check_convolutions_needed(convolutions_needed: Callable) -> None:
    """Compare with the gradient of real convolutions, tried with one number after the other."""
    cases = [(44, 8, 100), (44, 8, 108), (44, 8, 109), (5, 1, 5), (9, 2, 4), (1, 1, 2), (1, 1, 30)]
    random = np.random.default_rng(61)
    for _ in range(40):
        cases.append(tuple(random.integers([1, 1, 1], [30, 9, 120]).tolist()))
    for field, jump, wanted in cases:
        seen = [field]
        while seen[-1] < wanted:
            first, last = _rows_by_gradient([(field, jump), *[(3, 1)] * len(seen)])
            seen.append(last - first + 1)
        answer = len(seen) - 1
        result = convolutions_needed(field, jump, wanted)
        got = as_number(result, "the number of convolutions")
        assert got == answer, (
            f"A chain with field {field} and jump {jump} should see {wanted} pixels: with more and "
            f"more convolutions it sees {_listed(seen)}, so it takes {answer}, not {got:g}."
        )


@exercise("06.2")
def check_middle_pixel(middle_pixel: Callable) -> None:
    """Compare with a loop over the inputs of the inputs."""
    cases = [([(3, 1, 1), (2, 2, 0)], 3), ([(2, 2, 0), (2, 2, 0)], 0), ([], 4)]
    random = np.random.default_rng(62)
    for _ in range(60):
        numbers = random.integers([1, 1, 0], [6, 6, 5], (random.integers(1, 5), 3))
        cases.append(([(k, s, p) for k, s, p in numbers.tolist()], int(random.integers(0, 7))))
    for layers, m in cases:
        seen = {m}
        for kernel, stride, padding in reversed(layers):
            seen = {j * stride - padding + i for j in seen for i in range(kernel)}
        wanted = (min(seen) + max(seen)) / 2
        got = as_number(middle_pixel(list(layers), m), "the middle")
        assert abs(got - wanted) < 1e-5, (
            f"For the (kernel, stride, padding) of {layers} number {m} looks at pixels "
            f"{min(seen)} to {max(seen)}; their middle is {wanted}, not {got:g}."
        )


@exercise("06.3")
def check_first_row(first_row: Callable) -> None:
    """Put one bright cell through a real transposed convolution, and look for its middle."""
    cases = [(2, 0.5, 4, 2, 0), (2, 0.5, 3, 2, 0), (32, 12.5, 64, 32, 0), (32, -83.5, 64, 32, 0)]
    cases += [(32, 15.5, 64, 32, 16), (32, 12.5, 64, 16, 0), (1, -2.0, 1, 1, 0)]
    random = np.random.default_rng(63)
    for _ in range(80):
        stride, kernel = int(random.integers(1, 9)), int(random.integers(1, 18))
        padding = int(random.integers(0, max(1, kernel // 3)))
        offset = int(random.integers(-20, 10)) / 2
        up = stride if random.random() < 0.8 else int(random.integers(1, 9))
        cases.append((stride, offset, kernel, up, padding))
    for case in cases:
        row, reason = _first_row_by_impulse(*case)
        named = "stride {}, offset {}, kernel {}, up {}, padding {}".format(*case)
        try:
            result = first_row(*case)
        except AssertionError as error:
            cause = error.__cause__
            if not isinstance(cause, ValueError) and not reason:
                raise
            assert isinstance(cause, ValueError), (
                f"For {named} there is no crop, because {reason}: raise ValueError for that, "
                f"not {type(cause).__name__}."
            )
            assert reason, f"For {named} cut off {_rows(row)}; you raise ValueError."
            continue
        assert not reason, (
            f"For {named} there is no crop, because {reason}: raise ValueError, "
            f"do not return {result!r}."
        )
        got = as_number(result, "the crop")
        assert got == row, f"For {named} cut off {_rows(row)}, not {got:g}."


@exercise("06.4")
def check_smallest_padding(smallest_padding: Callable) -> None:
    """Ask real layers: enough rows must arrive, and with one padding less too few."""
    cases = [(1, 3, 1), (0, 1, 1), (0, 3, 9), (5, 7, 1), (5, 7, 193), (5, 7, 192), (2, 5, 60)]
    cases.append((6, 7, 1))
    random = np.random.default_rng(64)
    for _ in range(40):
        cases.append(tuple(random.integers([0, 1, 1], [5, 7, 40]).tolist()))
    for poolings, kernel, size in cases:
        of_case = f"for poolings {poolings}, kernel {kernel}, size {size}"
        got = as_number(smallest_padding(poolings, kernel, size), f"the padding {of_case}")
        assert got == int(got) >= 0, (
            f"A padding is a whole number, 0 or more; {of_case} you return {got:g}."
        )
        padding = int(got)
        rows = _rows_arriving(poolings, size, padding)
        assert rows >= kernel, (
            f"Your padding {padding} is too small {of_case}: with it, {_rows(rows)} arrive at the "
            f"last convolution, which needs {kernel}."
        )
        if padding > 0:
            fewer = _rows_arriving(poolings, size, padding - 1)
            assert fewer < kernel, (
                f"Your padding {padding} is not the smallest {of_case}: with {padding - 1}, too, "
                f"{_rows(fewer)} arrive at the last convolution, which needs {kernel}."
            )


def _rows_by_gradient(layers: list[tuple[int, int]]) -> tuple[int, int]:
    """Return the first and last pixel that number 0 of real convolutions depends on."""
    size = 1
    for kernel, stride in reversed(layers):
        size = (size - 1) * stride + kernel
    picture = torch.zeros(1, 1, size + 3, dtype=torch.double, requires_grad=True)
    answer = picture
    for kernel, stride in layers:
        weight = torch.ones(1, 1, kernel, dtype=torch.double)
        answer = nn.functional.conv1d(answer, weight, stride=stride)
    (gradient,) = torch.autograd.grad(answer[0, 0, 0], picture)
    rows = gradient[0, 0].nonzero().flatten().tolist()
    return rows[0], rows[-1]


def _first_row_by_impulse(
    stride: int, offset: float, kernel: int, up: int, padding: int
) -> tuple[int, str]:
    """Return the crop that brings the stamp of a bright cell over its pixel.

    Also returns why there is no such crop, in a few words that follow on "because", or "".
    """
    if up != stride:
        return 0, f"the map of stride {stride} is enlarged by {up}"
    cells, bright = 40, 20
    coarse = torch.zeros(1, 1, cells)
    coarse[0, 0, bright] = 1
    weight = torch.ones(1, 1, kernel)
    fine = nn.functional.conv_transpose1d(coarse, weight, stride=up, padding=padding)
    rows = fine[0, 0].nonzero().flatten().tolist()
    row = Fraction(rows[0] + rows[-1], 2) - (stride * bright + Fraction(offset))
    if row.denominator != 1:
        return 0, f"it would be {float(row):g} rows, no whole number"
    if row < 0:
        return 0, f"the output begins {_rows(-int(row))} inside the picture"
    return int(row), ""


def _rows_arriving(poolings: int, size: int, padding: int) -> int:
    """Return how many rows PyTorch's layers hand to the last convolution."""
    halvings = (nn.MaxPool1d(2, ceil_mode=True) for _ in range(poolings))
    first = nn.Conv1d(1, 1, 3, padding=padding)
    try:
        return nn.Sequential(first, *halvings)(torch.zeros(1, 1, size)).shape[2]
    except RuntimeError:  # the picture is smaller than the first convolution
        return 0


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"


def _listed(seen: list[int]) -> str:
    """Return the last few of the numbers, as "..., 76, 92, 108 pixels"."""
    before = "..., " if len(seen) > 4 else ""
    return f"{before}{', '.join(str(number) for number in seen[-4:])} pixels"
