"""Checks of the exercises in notebook 03."""

import random
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv2d, conv_transpose2d, pad

from fcnlib.course.checks import exercise


@exercise("03.1")
def check_repaired_a(repaired: Callable) -> None:
    """One pixel must leave an uneven kernel as it is; then all options at random."""
    kernel = torch.arange(1.0, 10).reshape(1, 1, 3, 3)
    result = _result(repaired, torch.ones(1, 1, 1, 1), kernel)
    assert torch.allclose(result, kernel, atol=1e-5), (
        f"One pixel must leave the kernel {kernel[0, 0].tolist()}, not {result[0, 0].tolist()}."
    )
    _compare(repaired, 31)


@exercise("03.2")
def check_test_for_b(test_for_b: Callable) -> None:
    """Run the test on the four versions."""
    answer = test_for_b()
    assert isinstance(answer, tuple) and len(answer) == 3, (
        "Return three things: x, weight and a dictionary of options."
    )
    x, weight, options = answer
    assert torch.is_tensor(x) and torch.is_tensor(weight), "x and weight must be tensors."
    assert isinstance(options, dict) and set(options) <= {"stride", "padding", "output_padding"}, (
        "The options must be a dictionary with no other keys than stride, padding and "
        "output_padding; {} is allowed."
    )
    try:
        truth = conv_transpose2d(x, weight, **options)
    except RuntimeError as error:
        reason = str(error).partition("\n")[0]
        raise AssertionError(f"PyTorch refuses your test ({reason}).") from error
    assert x.dim() == 4 and weight.shape[0] == weight.shape[1], (
        "Use x of shape (N, C, H, W) and a weight with as many channels in as out."
    )
    caught = {}
    for mistake in MISTAKES:
        result = _with_mistake(mistake)(x, weight, **options)
        caught[mistake] = result.shape != truth.shape or not torch.allclose(result, truth)
    assert caught.pop("channels"), "Version B passes your test: it gives the same as PyTorch."
    letters = {"flip": "A", "output_padding": "C", "padding": "D"}
    others = [letters[mistake] for mistake in caught if caught[mistake]]
    assert not others, f"Your test also catches version {' and '.join(others)}."


@exercise("03.3")
def check_repaired_stamps(repaired: Callable) -> None:
    """Look on which side the additional row is, and whether padding cuts."""
    result = _result(repaired, torch.ones(1, 1, 1, 1), torch.full((1, 1, 1, 1), 5.0), 2, 0, 1)
    assert result[0, 0].tolist() == [[5, 0], [0, 0]], (
        "One pixel with the value 1, the kernel 5, stride 2 and output_padding 1 give "
        f"[[5, 0], [0, 0]], not {result[0, 0].tolist()}."
    )
    result = _result(repaired, torch.ones(1, 1, 2, 2), torch.ones(1, 1, 3, 3), 1, 1, 0)
    assert result.shape == (1, 1, 2, 2), (
        "An input of 2 x 2 with a kernel of 3 x 3 and padding 1 gives 2 x 2, "
        f"not {' x '.join(map(str, result.shape[2:]))}."
    )
    _compare(repaired, 33)


@exercise("03.4")
def check_name_the_mistake(name_the_mistake: Callable) -> None:
    """Hand over the right function and those with a mistake, in changing order."""
    names = ["none", *MISTAKES]
    random.Random(34).shuffle(names)
    for mistake in ["none", "flip", *names]:
        result = name_the_mistake(_with_mistake(mistake))
        assert isinstance(result, str) and result in ("none", *MISTAKES), (
            f'Return "none", "flip", "channels", "output_padding" or "padding", not {result!r}.'
        )
        assert result == mistake, (
            f'For a version whose mistake is "{mistake}" you return "{result}".'
        )


@exercise("03.5")
def check_adjoint_gap(adjoint_gap: Callable) -> None:
    """Test right and wrong functions, and compare with the sums written out."""
    hand = adjoint_gap(
        conv_transpose2d,
        torch.tensor([[[[1.0, 2]]]]),
        torch.tensor([[[[10.0, 100]]]]),
        torch.full((1, 1, 1, 1), 3.0),
        1,
        0,
    )
    assert isinstance(hand, float), f"Return a Python float, not {type(hand).__name__}."
    assert abs(hand) < 1e-5, (
        f"Picture [[1, 2]], kernel 3 and answer [[10, 100]]: 630 - 630 is 0, not {hand}."
    )
    generator = torch.Generator().manual_seed(35)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    for case in range(30):
        n, channels, out, kernel = torch.randint(1, 4, (4,), generator=generator).tolist()
        stride, padding = 1 + case % 3, case % 2
        size = torch.randint(kernel + 2, kernel + 7, (2,), generator=generator).tolist()
        picture, weight = draw(n, channels, *size), draw(out, channels, kernel, kernel)
        convolved = conv2d(picture, weight, stride=stride, padding=padding)
        answer = draw(*convolved.shape)
        truth = float((convolved * answer).sum())
        back = _pulled_back(picture, answer, weight.flip(-2, -1), stride, padding)
        for name, factor, flip, wanted in (
            ("PyTorch's function", 1, False, 0.0),
            ("twice the right function", 2, False, -truth),
            ("a function with a turned kernel", 1, True, truth - float((picture * back).sum())),
        ):
            result = adjoint_gap(
                _watched(picture, factor, flip), picture, answer, weight, stride, padding
            )
            assert abs(result - wanted) < 1e-5 * max(1, abs(wanted)), (
                f"For {name}, a picture of {size[0]} x {size[1]}, kernel {kernel}, stride "
                f"{stride} and padding {padding} the difference is {wanted:.4f}, not {result:.4f}."
            )


def _watched(picture: Tensor, factor: int, flip: bool) -> Callable[..., Tensor]:
    """Return a transposed convolution that says so when the picture's size is not back."""

    def transposed(y: Tensor, weight: Tensor, **options: Any) -> Tensor:
        back = factor * conv_transpose2d(y, weight.flip(-2, -1) if flip else weight, **options)
        sizes = [" x ".join(map(str, each.shape[2:])) for each in (picture, back)]
        if sizes[0] != sizes[1]:
            raise ValueError(
                f"the picture is {sizes[0]}, but came back as {sizes[1]}: output_padding must be "
                "a pair, for the rows and for the columns"
            )
        return back

    return transposed


def _pulled_back(
    picture: Tensor, answer: Tensor, weight: Tensor, stride: int, padding: int
) -> Tensor:
    """Return the transpose of a convolution by autograd."""
    leaf = torch.zeros_like(picture).requires_grad_()
    (gradient,) = torch.autograd.grad(
        conv2d(leaf, weight, stride=stride, padding=padding), leaf, answer
    )
    return gradient


MISTAKES = ("flip", "channels", "output_padding", "padding")


def _with_mistake(mistake: str) -> Callable[..., Tensor]:
    """Return a transposed convolution with one mistake, or with "none"."""

    def version(
        x: Tensor, weight: Tensor, stride: int = 1, padding: int = 0, output_padding: int = 0
    ) -> Tensor:
        if mistake == "flip":
            weight = weight.flip(-2, -1)
        if mistake == "channels":
            weight = weight.transpose(0, 1)
        whole = conv_transpose2d(x, weight, stride=stride)
        before, behind = (-padding, output_padding - padding)
        if mistake == "output_padding":
            before, behind = behind, before
        if mistake == "padding":
            before, behind = padding, output_padding + padding
        return pad(whole, (before, behind, before, behind))

    return version


def _cases(seed: int) -> Iterator[tuple[Tensor, Tensor, int, int, int]]:
    """Yield random inputs, weights, strides, paddings and output_paddings."""
    dice, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    for _ in range(60):
        kernel, stride = dice.randint(1, 4), dice.randint(1, 3)
        padding, extra = dice.randint(0, kernel - 1), dice.randint(0, stride - 1)
        height, width = (
            dice.randint(2 + 2 * padding // stride, 5 + 2 * padding // stride) for _ in range(2)
        )
        n, channels, out = (dice.randint(1, 3) for _ in range(3))
        x = torch.randn(n, channels, height, width, generator=generator, dtype=torch.float64)
        weight = torch.randn(
            channels, out, kernel, kernel, generator=generator, dtype=torch.float64
        )
        yield x, weight, stride, padding, extra


def _compare(function: Callable, seed: int) -> None:
    """Compare with PyTorch on random cases."""
    for x, weight, stride, padding, extra in _cases(seed):
        wanted = conv_transpose2d(x, weight, None, stride, padding, extra)
        before = x.clone(), weight.clone()
        result = _result(function, x, weight, stride, padding, extra)
        named = (
            f"Input {tuple(x.shape)}, weight {tuple(weight.shape)}, stride {stride}, padding "
            f"{padding}, output_padding {extra}"
        )
        assert torch.equal(x, before[0]) and torch.equal(weight, before[1]), (
            "Your function changes its inputs."
        )
        assert result.shape == wanted.shape, (
            f"{named}: the shape is {tuple(wanted.shape)}, not {tuple(result.shape)}."
        )
        difference = (result - wanted).abs().max().item()
        assert difference < 1e-5, f"{named}: your numbers are up to {difference:.3g} off."


def _result(function: Callable, *args: Tensor | int) -> Tensor:
    result = function(*args)
    assert isinstance(result, torch.Tensor), f"Return a tensor, not {type(result).__name__}."
    return result
