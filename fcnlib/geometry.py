"""Where a network looks: receptive field, stride and offset, and the crops they lead to.

Each layer moves, spreads or thins out the pixels that one number depends on, in the same
way at every place. So a whole chain is described by three numbers along one axis:

    number m of the answer depends only on pixels in a window of ``receptive_field``
    pixels, which has its middle at the pixel stride * m + offset

which :func:`geometry` works out layer by layer, exactly, in fractions. Convolutions and
poolings fill this window. Behind a transposed convolution numbers lie between the pixels
they look at: the middle is their place, to which a symmetric kernel weights its inputs,
and of the window's pixels some may count for one number and not for the next.

Two branches can be added where they look at the same pixels; :func:`crop` says what to cut
off to get there. The paper has receptive fields and strides in section 3 and leaves the
offsets to the crop layers of its reference release.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from torch import nn

POINTWISE = (
    nn.BatchNorm2d,
    nn.Dropout,
    nn.Dropout2d,
    nn.ELU,
    nn.GELU,
    nn.Hardswish,
    nn.Identity,
    nn.LeakyReLU,
    nn.ReLU,
    nn.ReLU6,
    nn.Sigmoid,
    nn.SiLU,
    nn.Tanh,
)
"""Modules that look at one pixel at a time, and so change nothing here."""


class Layer(NamedTuple):
    """A convolution, pooling or transposed convolution along one axis.

    What only adds at the end (output_padding, ceil_mode) does not move any pixel.
    """

    kernel_size: int
    stride: int = 1
    padding: int = 0
    dilation: int = 1
    transposed: bool = False


@dataclass(frozen=True)
class Geometry:
    """Number m looks at a window of ``receptive_field`` pixels around stride * m + offset."""

    receptive_field: Fraction
    stride: Fraction
    offset: Fraction

    def __str__(self) -> str:
        return (
            f"receptive field {self.receptive_field}, stride {self.stride}, "
            f"offset {float(self.offset):g}"
        )

    def centre(self, m: int) -> Fraction:
        """Return the pixel in the middle of number m's window; x.5 is between two pixels."""
        return self.stride * m + self.offset

    def after(self, layer: Layer) -> "Geometry":
        """Return the geometry with one more layer behind."""
        kernel, stride, padding, dilation, transposed = layer
        # The middle of the kernel, counted from the first pixel that is not padding.
        middle = Fraction(dilation * (kernel - 1), 2) - padding
        if not transposed:
            return Geometry(
                self.receptive_field + dilation * (kernel - 1) * self.stride,
                self.stride * stride,
                self.offset + middle * self.stride,
            )
        # Stamps start ``stride`` apart, so number m lies in the middle of the stamp of
        # input (m - middle) / stride, and half a kernel to either side reaches it.
        finer = self.stride / stride
        return Geometry(
            self.receptive_field + dilation * (kernel - 1) * finer,
            finer,
            self.offset - middle * finer,
        )


PICTURE = Geometry(Fraction(1), Fraction(1), Fraction(0))
"""The picture itself: pixel m looks at pixel m."""


def geometry(
    chain: nn.Module | Iterable[Layer | nn.Module], start: Geometry = PICTURE, axis: int = 0
) -> Geometry:
    """Return the geometry of a chain of layers that begins at ``start``.

    The chain is a module (nn.Sequential may nest) or a list of modules and Layers, in the
    order in which they run. ``axis`` is 0 for rows, 1 for columns; they differ only where
    a layer is not square. Raises ValueError for a module that is none of those in
    ``Layer`` and not pointwise, such as one whose own ``forward`` decides what runs.
    """
    for layer in _layers(chain, axis):
        start = start.after(layer)
    return start


def crop(branch: Geometry, reference: Geometry) -> int:
    """Return how many rows to cut off before ``branch``, so that it lies on ``reference``.

    Then number m of the rest looks at the same middle as number m of the reference; cut it
    to the reference's size at the end. The reference of a network's output is PICTURE.
    Raises ValueError when no crop by whole rows aligns the two.
    """
    if branch.stride != reference.stride:
        raise ValueError(
            f"The strides must be equal to be aligned by a crop, not {branch.stride} (branch) "
            f"and {reference.stride} (reference)."
        )
    rows = (reference.offset - branch.offset) / branch.stride
    if rows.denominator != 1:
        raise ValueError(
            f"The branch would have to be cropped by {rows} rows, which is not a whole number: "
            "change a padding."
        )
    if rows < 0:
        raise ValueError(
            f"The branch begins {-rows} rows inside the reference: crop the reference, or pad "
            "the branch more."
        )
    return int(rows)


def _layers(chain: nn.Module | Iterable[Layer | nn.Module], axis: int) -> Iterator[Layer]:
    """Yield the layers of a chain in order, without the pointwise ones."""
    if isinstance(chain, nn.Module) and not isinstance(chain, nn.Sequential):
        chain = [chain]
    for part in chain:
        if isinstance(part, Layer):
            yield part
        elif isinstance(part, nn.Sequential):
            yield from _layers(part, axis)
        elif not isinstance(part, POINTWISE):
            yield _read(part, axis)


def _read(module: nn.Module, axis: int) -> Layer:
    def number(name: str) -> int:
        value = getattr(module, name, 1)  # AvgPool2d has no dilation
        return value if isinstance(value, int) else value[axis]

    kernel, stride, dilation = number("kernel_size"), number("stride"), number("dilation")
    match module:
        case nn.Conv2d(padding="valid"):
            return Layer(kernel, stride, 0, dilation)
        case nn.Conv2d(padding="same"):  # of an odd number, the larger half goes to the end
            return Layer(kernel, stride, dilation * (kernel - 1) // 2, dilation)
        case nn.Conv2d() | nn.MaxPool2d() | nn.AvgPool2d():
            return Layer(kernel, stride, number("padding"), dilation)
        case nn.ConvTranspose2d():
            return Layer(kernel, stride, number("padding"), dilation, transposed=True)
    raise ValueError(
        f"{type(module).__name__} is not a convolution, a pooling or a transposed convolution, "
        "nor pointwise: give the layers inside it as a list, in the order in which they run."
    )
