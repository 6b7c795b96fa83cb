"""One axis of a transposed convolution, drawn as cells."""

from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from fcnlib.plots.colors import COLORS
from fcnlib.plots.frames import tint
from fcnlib.transposed_conv import output_size

GREEN, PURPLE = COLORS[2], COLORS[3]
PIXELS = (*COLORS[:6], COLORS[7])  # for the input pixels in turn: all but black
WHITE, GREY, DARK = "#FFFFFF", "#E4E4E4", "#707070"

THIN, THICK = 0.5, 1.0  # the heights of a stamp and of all other rows of cells


def show_sizes(
    n: int,
    kernel_size: int,
    stride: int = 1,
    padding: int = 0,
    output_padding: int = 0,
    dilation: int = 1,
) -> Figure:
    """Show how one axis of ``n`` cells becomes the output of a transposed convolution.

    From top to bottom: the input, the input with zeros between, the stamp of each input
    pixel, and the cells that they cover, of which ``padding`` is cut off at both ends.
    Easy to read up to n = 8, kernel 5, stride 4 and dilation 3. Raises ValueError where
    ``output_size`` does.
    """
    size = output_size(n, kernel_size, stride, padding, output_padding, dilation)
    figure = plt.figure(figsize=(9.6, 3.3 + 0.13 * n), dpi=80, layout="constrained")
    axis = figure.add_subplot()
    axis.set_axis_off()
    _draw_input(axis, n, stride)
    bottom = _draw_stamps(axis, n, kernel_size, stride, dilation)
    bottom = _draw_output(
        axis, bottom + (1.5 if output_padding else 0.5), size, padding, output_padding
    )
    axis.set(xlim=(-0.1, max(n, size + 2 * padding) + 0.1), ylim=(bottom, -0.2))
    figure.suptitle(
        f"(n − 1)s − 2p + d(k − 1) + output_padding + 1 = ({n} − 1)·{stride} − 2·{padding}"
        f" + {dilation}·({kernel_size} − 1) + {output_padding} + 1 = {size}",
        fontsize=12,
    )
    figure.supxlabel(
        _way_back(n, kernel_size, stride, padding, output_padding, dilation), fontsize=11
    )
    return figure


def _draw_input(axis: Axes, n: int, stride: int) -> None:
    """Draw the input, and the same cells with ``stride`` - 1 zeros in between."""
    _name(axis, 0, THICK, "input")
    _name(axis, 2, THICK, "stretched")
    for column in range((n - 1) * stride + 1):
        if column % stride:
            _cell(axis, column, 2, THICK, WHITE, "0")
    for pixel in range(n):
        _cell(axis, pixel, 0, THICK, _color(pixel), _letter(pixel))
        _cell(axis, pixel * stride, 2, THICK, _color(pixel), _letter(pixel))
        axis.plot((pixel + 0.5, pixel * stride + 0.5), (1, 2), color=DARK, linewidth=0.8)


def _draw_stamps(axis: Axes, n: int, kernel_size: int, stride: int, dilation: int) -> float:
    """Draw where each pixel's kernel lands, a line for each; return where they end."""
    top = 3.5
    _name(axis, top, n * THIN, "stamps")
    for pixel in range(n):
        first, y = pixel * stride, top + pixel * THIN
        reach = dilation * (kernel_size - 1)
        axis.plot((first + 0.5, first + reach + 0.5), (y + THIN / 2,) * 2, color=DARK)
        for step in range(kernel_size):
            text = "" if step else _letter(pixel)
            _cell(axis, first + step * dilation, y, THIN, _color(pixel), text)
    return top + n * THIN


def _draw_output(axis: Axes, top: float, size: int, padding: int, output_padding: int) -> float:
    """Draw all cells and name what is added, cut off and left; return where this ends."""
    whole = size + 2 * padding
    _name(axis, top, THICK, "before\nthe cut")
    for column in range(whole):
        kept = padding <= column < padding + size
        if kept:
            _cell(axis, column, top, THICK, tint(GREEN, 0.3), str(column - padding))
        else:
            _cell(axis, column, top, THICK, GREY, hatch="////")
    below = top + THICK + 0.15
    _brace(axis, padding, size, below, 1, f"output: {size}")
    if padding:
        text = f"padding: cut {padding}"
        _brace(axis, 0, padding, below, 1, text, "left")
        _brace(axis, padding + size, padding, below, 1, text, "right")
    if output_padding:
        # The rows that the output gained: padding still cuts as many as before.
        first = whole - padding - output_padding
        added = Rectangle((first, top), output_padding, THICK, fill=False)
        added.set(edgecolor=PURPLE, linewidth=3, zorder=3)
        axis.add_patch(added)
        text = f"output_padding: {output_padding} more"
        _brace(axis, first, output_padding, top - 0.15, -1, text, "right")
    return below + 1.2


def _cell(
    axis: Axes,
    column: float,
    top: float,
    height: float,
    color: str,
    text: str = "",
    hatch: str = "",
) -> None:
    cell = Rectangle((column, top), 1, height, facecolor=color, edgecolor=DARK, hatch=hatch)
    cell.set(linewidth=0.8, zorder=2)
    axis.add_patch(cell)
    axis.text(column + 0.5, top + height / 2, text, ha="center", va="center", fontsize=8.5)


def _name(axis: Axes, top: float, height: float, text: str) -> None:
    axis.text(-0.3, top + height / 2, text, ha="right", va="center", fontsize=11, weight="bold")


def _brace(
    axis: Axes, column: int, width: int, edge: float, down: int, text: str, side: str = "center"
) -> None:
    """Name some cells, by a bracket along them and a text; ``down`` is 1 below, -1 above."""
    left, right = column + 0.1, column + width - 0.1
    far = edge + 0.15 * down
    axis.plot((left, left, right, right), (edge, far, far, edge), color="black", linewidth=1.2)
    place = {"left": left, "center": (left + right) / 2, "right": right}[side]
    va = "top" if down == 1 else "bottom"
    axis.text(place, edge + 0.3 * down, text, ha=side, va=va, fontsize=11)


def _letter(pixel: int) -> str:
    """Name an input pixel, by no number: these are the zeros and the output's places."""
    return chr(ord("a") + pixel % 26)


def _color(pixel: int) -> str:
    return tint(PIXELS[pixel % len(PIXELS)], 0.55)


def _way_back(
    n: int, kernel_size: int, stride: int, padding: int, output_padding: int, dilation: int
) -> str:
    """Say which sizes a convolution with the same numbers maps to ``n``."""
    sizes = _convolved_to(n, kernel_size, stride, padding, dilation)
    if not sizes:
        return f"A convolution with the same numbers maps no size to {n}."
    *first, last = map(str, sizes)
    listed = f"{', '.join(first)} and {last}" if first else last
    sentence = f"A convolution with the same numbers maps {listed} to {n}."
    if first:
        sentence += " output_padding chooses between them."
    size = output_size(n, kernel_size, stride, padding, output_padding, dilation)
    return sentence if size in sizes else f"{sentence} The output, {size}, is not among them."


def _convolved_to(n: int, kernel_size: int, stride: int, padding: int, dilation: int) -> list[int]:
    """Return all sizes that a convolution maps to ``n``, smallest first."""
    kernel = dilation * (kernel_size - 1) + 1
    smallest = (n - 1) * stride + kernel - 2 * padding
    return [size for size in range(smallest, smallest + stride) if size >= 1]
