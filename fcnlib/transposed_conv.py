"""Transposed convolution of pictures, four ways that give the same numbers.

Each function takes the arguments of ``torch.nn.functional.conv_transpose2d``, in its
order, gives what it gives and refuses what it refuses, with a ValueError that names the
argument, its value and the rule. All are differentiable, as often as you like.

Shapes in the comments: N pictures, G groups, C input and D output channels per group,
kernel rows A and columns B. A weight is (G * C, D, A, B), the layout of
``nn.ConvTranspose2d``. Dumoulin and Visin, *A guide to convolution arithmetic for deep
learning* (arXiv 1603.07285), chapter 4, describe the matrix and zero-insertion views.
"""

from collections.abc import Callable, Sequence
from numbers import Integral
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d, pad

Pair = tuple[int, int]
IntOrPair = int | Sequence[int]


def conv_transpose2d_scatter(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    output_padding: IntOrPair = 0,
    groups: int = 1,
    dilation: IntOrPair = 1,
) -> Tensor:
    """Each input pixel adds its multiple of the kernel to the output.

    Maps (N, G * C, H, W) to (N, G * D, height, width), or the same without N; see
    ``output_size``. Where the stamps overlap, they add up. Padding cuts the rim off.
    Raises ValueError for what PyTorch refuses.
    """
    x, down, right = _checked(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )
    grouped = x.unflatten(1, (groups, -1))  # (N, G, C, H, W)
    w = weight.unflatten(0, (groups, -1))  # (G, C, D, A, B)
    # Each pixel (h, w) times each number (a, b) of the kernel, summed over C ...
    parts = torch.einsum("ngchw,gcdab->ngdhwab", grouped, w)
    # ... lands on a canvas that still has its rim.
    height, width = down.size + 2 * down.padding, right.size + 2 * right.padding
    rows = _landings(down, x.device)[:, None, :, None]  # (H, 1, A, 1)
    columns = _landings(right, x.device)[None, :, None, :]  # (1, W, 1, B)
    places = (rows * width + columns).flatten()
    canvas = x.new_zeros((*parts.shape[:3], height * width))
    canvas = canvas.index_add(-1, places, parts.flatten(3))
    canvas = canvas.unflatten(-1, (height, width)).flatten(1, 2)
    return _finished(canvas[..., down.kept, right.kept], bias, input)


def conv_transpose2d_matrix(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    output_padding: IntOrPair = 0,
    groups: int = 1,
    dilation: IntOrPair = 1,
) -> Tensor:
    """Multiply by the transpose of the matrix C of a convolution.

    Shapes and errors are those of ``conv_transpose2d_scatter``. ``convolution_matrix``
    gives C itself. It is a product of ``weight`` and two small tables of zeros and ones;
    multiplying by these in turn spares storing C, which for real layers is huge.
    """
    x, down, right = _checked(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )
    grouped = x.unflatten(1, (groups, -1))  # (N, G, C, Y, X): C has a row for each y, x
    w = weight.unflatten(0, (groups, -1))  # (G, C, D, A, B)
    rows = _meetings(down, x)  # (Y, A, height)
    columns = _meetings(right, x)  # (X, B, width)
    y = torch.einsum("ngcyx,gcdab,yai,xbj->ngdij", grouped, w, rows, columns)
    return _finished(y.flatten(1, 2), bias, input)


def conv_transpose2d_zero_insertion(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    output_padding: IntOrPair = 0,
    groups: int = 1,
    dilation: IntOrPair = 1,
) -> Tensor:
    """Insert zeros between the pixels, then convolve with the flipped kernel.

    Shapes and errors are those of ``conv_transpose2d_scatter``. The ordinary convolution
    has stride 1; ``stride`` - 1 zeros go between two pixels. Padding p becomes a border of
    dilation * (kernel - 1) - p zeros (less than none: pixels are cut off), and
    ``output_padding`` more zeros at the bottom and at the right.
    """
    x, down, right = _checked(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )
    high, wide = down.span, right.span  # from the first pixel to the last
    stretched = x.new_zeros((*x.shape[:2], high + down.output_padding, wide + right.output_padding))
    stretched[..., : high : down.stride, : wide : right.stride] = x
    above, left = down.rim - down.padding, right.rim - right.padding
    stretched = pad(stretched, (left, left, above, above))
    # From (G * C, D, A, B) to the layout of a convolution, (G * D, C, A, B).
    swapped = weight.unflatten(0, (groups, -1)).transpose(1, 2).flatten(0, 1)
    dilations = (down.dilation, right.dilation)
    y = conv2d(stretched, swapped.flip(-2, -1), None, 1, 0, dilations, groups)
    return _finished(y, bias, input)


def conv_transpose2d_gradient(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    output_padding: IntOrPair = 0,
    groups: int = 1,
    dilation: IntOrPair = 1,
) -> Tensor:
    """Take the gradient of an ordinary convolution with respect to its input.

    Shapes and errors are those of ``conv_transpose2d_scatter``. The convolution has the
    same weight and leads the other way, from the output's shape to that of ``input``,
    which here plays the gradient that comes back. Integers go through float64, because
    PyTorch has no gradients of integers: exact up to 2 ** 53.
    """
    x, down, right = _checked(
        input, weight, bias, stride, padding, output_padding, groups, dilation
    )
    w, dtype = weight, input.dtype
    if not (dtype.is_floating_point or dtype.is_complex):
        x, w = x.double(), w.double()

    def convolve(picture: Tensor) -> Tensor:
        # PyTorch conjugates in the gradient of complex numbers: conjugate twice.
        small = conv2d(picture, w.conj(), None, *_options(down, right), groups)
        return small[..., : down.n, : right.n]  # output_padding may make room for more

    # A convolution is linear, so its gradient is the same at every picture.
    anywhere = x.new_zeros((len(x), groups * w.shape[1], down.size, right.size))
    gradient = torch.func.vjp(convolve, anywhere)[1]
    (y,) = gradient(x)
    return _finished(y.to(dtype), bias, input)


def output_size(
    n: int,
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    dilation: int = 1,
) -> int:
    """Return how many rows (or columns) a transposed convolution makes of ``n``.

    They are (n - 1) * stride - 2 * padding + dilation * (kernel_size - 1) + output_padding + 1.
    Raises ValueError where PyTorch has no such transposed convolution.
    """
    for name, value, least in (
        ("n", n, 1),
        ("kernel_size", kernel_size, 1),
        ("stride", stride, 1),
        ("padding", padding, 0),
        ("output_padding", output_padding, 0),
        ("dilation", dilation, 1),
    ):
        _require(value >= least, f"{name} must be at least {least}, not {value}.")
    _require(
        output_padding < max(stride, dilation),
        f"output_padding must be smaller than the larger of stride and dilation, which is "
        f"{max(stride, dilation)}, but it is {output_padding}.",
    )
    size = _Axis(n, kernel_size, stride, padding, output_padding, dilation).size
    _require(
        size >= 1,
        f"padding {padding} cuts {2 * padding} rows or columns off {size + 2 * padding}: "
        "at least 1 must be left.",
    )
    return size


def convolution_matrix(
    weight: Tensor,
    size: Pair,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> Tensor:
    """Return the matrix C with ``conv2d(x, weight, ...).flatten(1) == x.flatten(1) @ C.T``.

    ``weight`` is (out, in / groups, A, B), ``size`` the (H, W) of x, and C has a row for
    each number of the answer, a column for each number of x. For real layers it is huge.
    Raises ValueError when the kernel does not fit into the padded picture.
    """
    _check_weight(tuple(weight.shape), "(out, in / groups, A, B)")
    axes = _convolution_axes(size, weight, stride, padding, dilation)
    _check_groups(groups, len(weight), "output")
    rows, columns = (_meetings(axis, weight) for axis in axes)
    blocks = [
        torch.einsum("ocab,yai,xbj->oyxcij", part, rows, columns).flatten(3).flatten(0, 2)
        for part in weight.chunk(groups)
    ]
    return torch.block_diag(*blocks)


def adjoint_products(
    conv_transpose2d: Callable[..., Tensor],
    picture: Tensor,
    answer: Tensor,
    weight: Tensor,
    stride: IntOrPair = 1,
    padding: IntOrPair = 0,
    dilation: IntOrPair = 1,
    groups: int = 1,
) -> tuple[Tensor, Tensor]:
    """Return <conv(picture), answer> and <picture, conv_transpose(answer)>: they are equal.

    That is what makes the transposed convolution the transpose of the convolution, whose
    options these are; both use the same ``weight`` (out, in / groups, A, B). ``picture``
    is (N, in, H, W), ``answer`` has the shape of the convolution's answer.
    """
    down, right = _convolution_axes(picture.shape[-2:], weight, stride, padding, dilation)
    convolved = conv2d(picture, weight, None, *_options(down, right), groups)
    options = {
        "stride": (down.stride, right.stride),
        "padding": (down.padding, right.padding),
        "output_padding": (down.output_padding, right.output_padding),
        "dilation": (down.dilation, right.dilation),
    }
    back = conv_transpose2d(answer, weight, groups=groups, **options)
    return (convolved * answer).sum(), (picture * back).sum()


# --- what they share


class _Axis(NamedTuple):
    """One axis of a transposed convolution, checked: of n rows it makes ``size`` rows."""

    n: int
    kernel: int
    stride: int
    padding: int
    output_padding: int
    dilation: int

    @property
    def span(self) -> int:
        """Rows from the first pixel to the last, once they are ``stride`` apart."""
        return (self.n - 1) * self.stride + 1

    @property
    def rim(self) -> int:
        """Rows that a stamp reaches beyond its pixel."""
        return self.dilation * (self.kernel - 1)

    @property
    def size(self) -> int:
        return self.span + self.rim + self.output_padding - 2 * self.padding

    @property
    def kept(self) -> slice:
        """What padding leaves of the canvas."""
        return slice(self.padding, self.padding + self.size)


def _checked(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: IntOrPair,
    padding: IntOrPair,
    output_padding: IntOrPair,
    groups: int,
    dilation: IntOrPair,
) -> tuple[Tensor, _Axis, _Axis]:
    """Return a batch (N, G * C, H, W), and what happens along its two axes."""
    _check_tensors(input, weight, bias, groups)
    options = [
        _pair("stride", stride, 1),
        _pair("padding", padding, 0),
        _pair("output_padding", output_padding, 0),
        _pair("dilation", dilation, 1),
    ]
    down, right = (
        _Axis(input.shape[axis], weight.shape[axis], *(pair[axis] for pair in options))
        for axis in (-2, -1)
    )
    for axis in (down, right):
        output_size(*axis)  # raises ValueError where there is none
    return (input if input.dim() == 4 else input[None]), down, right


def _check_tensors(input: Tensor, weight: Tensor, bias: Tensor | None, groups: int) -> None:
    shape, layout = tuple(input.shape), tuple(weight.shape)
    _require(len(shape) in (3, 4), f"input must be (N, C, H, W) or (C, H, W), not {shape}.")
    _require(min(shape[-2:]) >= 1, f"input must have rows and columns, but its shape is {shape}.")
    _check_weight(layout, "(in, out / groups, A, B)")
    _require(
        shape[-3] == layout[0],
        f"input has {shape[-3]} channels, but weight {layout} is for {layout[0]}: "
        "they must be equal.",
    )
    _check_groups(groups, layout[0], "input")
    tensors = {"weight": weight}
    if bias is not None:
        wanted, given = (groups * layout[1],), tuple(bias.shape)
        _require(given == wanted, f"bias must be {wanted}, one for each channel, not {given}.")
        tensors["bias"] = bias
    for name, tensor in tensors.items():
        for what in ("dtype", "device"):
            ours, theirs = getattr(tensor, what), getattr(input, what)
            _require(ours == theirs, f"{name} has the {what} {ours}, but input has {theirs}.")


def _check_weight(layout: tuple[int, ...], wanted: str) -> None:
    _require(len(layout) == 4, f"weight must be {wanted}, not {layout}.")
    _require(min(layout) >= 1, f"weight must hold at least one number, but its shape is {layout}.")


def _check_groups(groups: int, channels: int, which: str) -> None:
    _require(_is_whole(groups), f"groups must be a whole number, not {groups!r}.")
    _require(groups >= 1, f"groups must be at least 1, not {groups}.")
    _require(
        channels % groups == 0,
        f"groups must divide the number of {which} channels, but {groups} does not divide "
        f"{channels}.",
    )


def _pair(name: str, value: IntOrPair, least: int) -> Pair:
    """Return (rows, columns) of an option that may be one number for both."""
    numbers = list(value) if isinstance(value, Sequence) else [value]
    _require(
        all(map(_is_whole, numbers)) and len(numbers) in (1, 2),
        f"{name} must be a whole number or a pair of them, not {value!r}.",
    )
    _require(min(numbers) >= least, f"{name} must be at least {least}, not {value}.")
    return numbers[0], numbers[-1]


def _is_whole(value: object) -> bool:
    return isinstance(value, Integral) and not isinstance(value, bool)


def _convolution_axes(
    size: IntOrPair,
    weight: Tensor,
    stride: IntOrPair,
    padding: IntOrPair,
    dilation: IntOrPair,
) -> tuple[_Axis, _Axis]:
    """Return the axes of the transpose of a convolution of a picture of this size."""
    sizes = _pair("size", size, 1)
    strides = _pair("stride", stride, 1)
    paddings = _pair("padding", padding, 0)
    dilations = _pair("dilation", dilation, 1)
    axes = []
    for axis in (-2, -1):
        n, k, s, p, d = (each[axis] for each in (sizes, weight.shape, strides, paddings, dilations))
        room = n + 2 * p - d * (k - 1) - 1
        _require(room >= 0, f"size {n} with padding {p} has no room for a kernel of {k}.")
        # The rows that the stride jumps over at the end come back as output_padding.
        axes.append(_Axis(room // s + 1, k, s, p, room % s, d))
    return axes[0], axes[1]


def _options(down: _Axis, right: _Axis) -> tuple[Pair, Pair, Pair]:
    """Return stride, padding and dilation as ``conv2d`` takes them."""
    return (
        (down.stride, right.stride),
        (down.padding, right.padding),
        (down.dilation, right.dilation),
    )


def _landings(axis: _Axis, device: torch.device) -> Tensor:
    """Return the table (n, kernel) of the rows on which pixel h lands with kernel row a."""
    pixels = torch.arange(axis.n, device=device)[:, None]
    return pixels * axis.stride + torch.arange(axis.kernel, device=device) * axis.dilation


def _meetings(axis: _Axis, like: Tensor) -> Tensor:
    """Return the table (n, kernel, size) that is 1 where a convolution multiplies.

    Row y of its answer meets row i of its input at row a of the kernel if and only if
    i = y * stride + a * dilation - padding.
    """
    met = _landings(axis, like.device) - axis.padding
    return (met[..., None] == torch.arange(axis.size, device=like.device)).to(like.dtype)


def _finished(y: Tensor, bias: Tensor | None, input: Tensor) -> Tensor:
    """Add the bias to (N, D, height, width), and drop N if ``input`` had none."""
    if bias is not None:
        y = y + bias[:, None, None]
    return y if input.dim() == 4 else y[0]


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ValueError(sentence)
