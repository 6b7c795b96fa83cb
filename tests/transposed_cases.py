"""Any transposed convolution that PyTorch allows, and what it must equal."""

from collections.abc import Callable
from typing import NamedTuple

import torch
from hypothesis import settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import conv_transpose2d

# The same cases on every machine, in every run.
SAME_CASES = settings(deadline=None, derandomize=True, database=None)


class Case(NamedTuple):
    """The arguments of one call; ``seed`` stands for the numbers in the tensors."""

    input_shape: tuple[int, ...]
    weight_shape: tuple[int, int, int, int]
    has_bias: bool
    stride: int | tuple[int, int]
    padding: int | tuple[int, int]
    output_padding: int | tuple[int, int]
    groups: int
    dilation: int | tuple[int, int]
    seed: int

    @property
    def options(self) -> dict:
        names = ("stride", "padding", "output_padding", "groups", "dilation")
        return {name: getattr(self, name) for name in names}

    def tensors(self) -> list[Tensor]:
        """Return input, weight and, where there is one, bias."""
        shapes = [self.input_shape, self.weight_shape]
        if self.has_bias:
            shapes.append((self.weight_shape[1] * self.groups,))
        generator = torch.Generator().manual_seed(self.seed)
        return [torch.randn(shape, dtype=torch.float64, generator=generator) for shape in shapes]


def pair(option: int | tuple[int, int]) -> tuple[int, int]:
    return (option, option) if isinstance(option, int) else option


@st.composite
def cases(
    draw: st.DrawFn, batches: tuple[int | None, ...] = (None, 0, 1, 2), pairs: bool = True
) -> Case:
    """Draw a legal call: every option as one number or as a pair, up to its limits."""

    def option(least: int, limits: tuple[int, int]) -> int | tuple[int, int]:
        if not pairs or draw(st.booleans()):
            return draw(st.integers(least, min(limits)))
        return draw(st.integers(least, limits[0])), draw(st.integers(least, limits[1]))

    kernel = draw(st.integers(1, 4)), draw(st.integers(1, 4))
    stride, dilation = option(1, (4, 4)), option(1, (3, 3))
    padding = option(0, kernel)
    steps = [max(both) for both in zip(pair(stride), pair(dilation), strict=True)]
    output_padding = option(0, (steps[0] - 1, steps[1] - 1))

    def size(axis: int) -> int:
        k, s, p, extra, d = (
            pair(each)[axis] for each in (kernel, stride, padding, output_padding, dilation)
        )
        least = 1  # row of input, but enough that padding leaves a row of output
        while (least - 1) * s + d * (k - 1) + extra - 2 * p < 0:
            least += 1
        return draw(st.integers(least, least + 2))

    groups, inner, outer = (draw(st.integers(1, 3)) for _ in range(3))
    batch = draw(st.sampled_from(batches))
    shape = (groups * inner, size(0), size(1))
    return Case(
        input_shape=shape if batch is None else (batch, *shape),
        weight_shape=(groups * inner, outer, *kernel),
        has_bias=draw(st.booleans()),
        stride=stride,
        padding=padding,
        output_padding=output_padding,
        groups=groups,
        dilation=dilation,
        seed=draw(st.integers(0, 2**32 - 1)),
    )


def answer_and_gradients(function: Callable[..., Tensor], case: Case) -> list[Tensor]:
    """Return the answer, and the gradients of input, weight and bias for a random cotangent."""
    tensors = [tensor.requires_grad_() for tensor in case.tensors()]
    bias = tensors[2] if case.has_bias else None
    answer = function(tensors[0], tensors[1], bias, **case.options)
    generator = torch.Generator().manual_seed(case.seed + 1)
    cotangent = torch.randn(answer.shape, dtype=answer.dtype, generator=generator)
    # Of no picture, the gradient may be missing instead of zero.
    empty = case.input_shape[0] == 0
    gradients = torch.autograd.grad(answer, tensors, cotangent, materialize_grads=empty)
    return [answer.detach(), *gradients]


def assert_same_as_pytorch(case: Case, *functions: Callable[..., Tensor]) -> None:
    """Answers and gradients must be those of PyTorch, up to the rounding of float64."""
    expected = answer_and_gradients(conv_transpose2d, case)
    names = ("answer", "gradient of input", "gradient of weight", "gradient of bias")
    for function in functions:
        ours = answer_and_gradients(function, case)
        for what, one, other in zip(names, ours, expected, strict=False):
            who = f"{what} of {function.__name__}"
            torch.testing.assert_close(
                one, other, rtol=1e-10, atol=1e-10, msg=lambda text, who=who: f"{who}: {text}"
            )
