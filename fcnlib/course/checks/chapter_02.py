"""Checks of the exercises in notebook 02."""

import random
from collections.abc import Callable

import torch
from torch.nn.functional import conv1d, conv_transpose1d, conv_transpose2d, pad

from fcnlib.course.checks import exercise


@exercise("02.1")
def check_rows_that_reach(rows_that_reach: Callable) -> None:
    """Ask PyTorch which rows the stamp of a single 1 among zeros covers."""
    dice = random.Random(21)
    cases = [(3, 3, 2, 0), (3, 3, 2, 1), (4, 1, 3, 0)]
    cases += [
        (dice.randint(1, 6), kernel, dice.randint(1, 4), dice.randint(0, (kernel - 1) // 2))
        for kernel in dice.choices(range(1, 7), k=25)
    ]
    for n, kernel, stride, padding in cases:
        stamps = conv_transpose1d(
            torch.eye(n)[:, None], torch.ones(1, 1, kernel), stride=stride, padding=padding
        )[:, 0]  # (n, output rows)
        for u in range(stamps.shape[1]):
            wanted = stamps[:, u].nonzero().flatten().tolist()
            result = rows_that_reach(u, n, kernel, stride, padding)
            assert isinstance(result, list), f"Return a list, not {type(result).__name__}."
            assert result == wanted, (
                f"n = {n}, kernel_size = {kernel}, stride = {stride}, padding = {padding}: output "
                f"row {u} is reached by {wanted}, not by {result}."
            )


@exercise("02.2")
def check_transposed_1d(transposed_1d: Callable) -> None:
    """Compare with PyTorch on whole numbers."""
    dice = random.Random(22)
    cases = [([1, 2], [1, 10, 100], 2, 0, 1), ([1, 2], [1, 10, 100], 2, 1, 1)]
    for _ in range(60):
        kernel = [dice.randint(-4, 4) for _ in range(dice.randint(1, 4))]
        x = [dice.randint(-4, 4) for _ in range(dice.randint(1, 5))]
        stride, dilation = dice.randint(1, 3), dice.randint(1, 3)
        size = (len(x) - 1) * stride + dilation * (len(kernel) - 1) + 1
        cases.append((x, kernel, stride, dice.randint(0, (size - 1) // 2), dilation))
    for x, kernel, stride, padding, dilation in cases:
        wanted = conv_transpose1d(
            torch.tensor([[x]]),
            torch.tensor([[kernel]]),
            stride=stride,
            padding=padding,
            dilation=dilation,
        )
        before = list(x), list(kernel)
        result = transposed_1d(x, kernel, stride, padding, dilation)
        assert (x, kernel) == before, "Your function changes its inputs."
        assert isinstance(result, list), f"Return a list, not {type(result).__name__}."
        assert result == wanted.flatten().tolist(), (
            f"x = {x}, kernel = {kernel}, stride = {stride}, padding = {padding}, dilation = "
            f"{dilation} give {wanted.flatten().tolist()}, not {result}."
        )


@exercise("02.3")
def check_output_padding_for(output_padding_for: Callable) -> None:
    """Let PyTorch convolve n rows and bring them back."""
    dice = random.Random(23)
    cases = [(n, 5, 3, 2, 1) for n in (16, 17, 18)]
    for _ in range(60):
        kernel, dilation = dice.randint(1, 5), dice.randint(1, 3)
        padding = dice.randint(0, kernel - 1)
        least = max(1, dilation * (kernel - 1) + 1 - 2 * padding)
        cases.append((least + dice.randint(0, 12), kernel, dice.randint(1, 5), padding, dilation))
    for n, kernel, stride, padding, dilation in cases:
        weight = torch.ones(1, 1, kernel)
        small = conv1d(torch.ones(1, 1, n), weight, None, stride, padding, dilation)
        made = (small.shape[2] - 1) * stride - 2 * padding + dilation * (kernel - 1) + 1
        if made < 1:  # without output_padding nothing is left, which PyTorch refuses
            continue
        result = output_padding_for(n, kernel, stride, padding, dilation)
        named = (
            f"n = {n}, kernel_size = {kernel}, stride = {stride}, padding = {padding}, "
            f"dilation = {dilation}"
        )
        assert isinstance(result, int), f"Return a whole number, not {type(result).__name__}."
        assert made + result == n, (
            f"{named}: the convolution leaves {small.shape[2]} rows, and output_padding {result} "
            f"makes {made + result} of them, not {n}."
        )


@exercise("02.4")
def check_matrix_1d(matrix_1d: Callable) -> None:
    """Compare with what PyTorch's convolution does to random numbers."""
    hand = matrix_1d(torch.tensor([1, 10]), 3)
    assert torch.is_tensor(hand), f"Return a tensor, not {type(hand).__name__}."
    assert hand.tolist() == [[1, 10, 0], [0, 1, 10]], (
        f"The kernel [1, 10] and n = 3 give [[1, 10, 0], [0, 1, 10]], not {hand.tolist()}."
    )
    dice = random.Random(24)
    for _ in range(60):
        kernel = torch.tensor([dice.randint(-9, 9) for _ in range(dice.randint(1, 4))])
        stride, padding = dice.randint(1, 3), dice.randint(0, len(kernel) - 1)
        n = max(1, len(kernel) - 2 * padding) + dice.randint(0, 5)
        pixels = torch.eye(n, dtype=kernel.dtype)[:, None]
        wanted = conv1d(pixels, kernel[None, None], None, stride, padding)[:, 0].T
        result = matrix_1d(kernel.clone(), n, stride, padding)
        named = f"kernel = {kernel.tolist()}, n = {n}, stride = {stride}, padding = {padding}"
        assert result.shape == wanted.shape, (
            f"{named}: C has the shape {tuple(wanted.shape)}, not {tuple(result.shape)}."
        )
        assert result.dtype == kernel.dtype, (
            f"Keep the kernel's dtype, {kernel.dtype}; you return {result.dtype}."
        )
        wrong = result != wanted
        row = int(wrong.any(dim=1).long().argmax())
        assert not wrong.any(), (
            f"{named}: row {row} of C is {wanted[row].tolist()}, not {result[row].tolist()}."
        )


@exercise("02.5")
def check_stretch(stretch: Callable) -> None:
    """Compare with a transposed convolution by the kernel 1, and PyTorch's padding."""
    generator = torch.Generator().manual_seed(25)
    cases = [(1, 2, 3, 1), (1, 1, 2, 0)]
    cases += [tuple(torch.randint(1, 5, (4,), generator=generator).tolist()) for _ in range(30)]
    cases += [(2, 3, 1, 0), (3, 2, 2, 1)]
    for number, (height, width, stride, border) in enumerate(cases):
        x = torch.randint(1, 10, (height, width), generator=generator)
        x = x.double() if number % 2 else x
        one = torch.ones(1, 1, 1, 1, dtype=x.dtype)
        wanted = pad(conv_transpose2d(x[None, None], one, stride=stride)[0, 0], (border,) * 4)
        before = x.clone()
        result = stretch(x, stride, border)
        assert torch.is_tensor(result), f"Return a tensor, not {type(result).__name__}."
        assert torch.equal(x, before), "Your function changes its input."
        assert result is not x, "With stride 1 and border 0 too, return a new map, not the input."
        assert result.shape == wanted.shape, (
            f"{height} x {width} pixels with stride {stride} and border {border} become "
            f"{tuple(wanted.shape)}, not {tuple(result.shape)}."
        )
        assert result.dtype == x.dtype, f"Keep the dtype {x.dtype}; you return {result.dtype}."
        assert torch.equal(result, wanted), (
            f"{x.tolist()} with stride {stride} and border {border} becomes {wanted.tolist()}, "
            f"not {result.tolist()}."
        )
