"""Two animations of the transposed convolution of one channel, as looping GIFs.

Their numbers come from plain loops, ``_stamps`` and ``_windows``, so that a reader can
hold them against what the course computes. ``_..._page`` says what a frame shows of them.
"""

from base64 import b64encode
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import NamedTuple

from torch import Tensor

from fcnlib.plots.frames import (
    BLUE,
    GREEN,
    ORANGE,
    PURPLE,
    VERMILLION,
    Cell,
    Look,
    Page,
    Panel,
    arrange,
    gif,
    tint,
)

Numbers = list[list[int]]
"""Rows of whole numbers."""

Places = list[list[Cell | str]]
"""What the stretched input is made of: an input pixel, a "zero", or the "border"."""

MOST_STEPS = 64

BLANK = Look("#FFFFFF")
INPUT = Look(tint(BLUE, 0.25))
NOW = Look(BLUE, ink="#FFFFFF")
KERNEL = Look(tint(ORANGE, 0.55))
IDLE = Look(tint(ORANGE, 0.15), ink="#777777")
OUTPUT = Look(tint(GREEN, 0.25))
OUTPUT_NOW = Look(tint(GREEN, 0.65))
ZERO = Look(tint(PURPLE, 0.45), share=0.3)
PADDING = Look("#E4E4E4", ink="#555555", hatched=True)


@dataclass(frozen=True)
class Animation:
    """A GIF as the last value of a notebook's cell, with ``alt``, its description in words.

    Shown as HTML, because pages made from notebooks leave plain GIF outputs out.
    """

    gif: bytes = field(repr=False)
    alt: str

    def _repr_html_(self) -> str:
        source = f"data:image/gif;base64,{b64encode(self.gif).decode()}"
        return f'<img alt="{escape(self.alt)}" src="{source}">'


def scatter_animation(image: Tensor, kernel: Tensor, stride: int = 1, padding: int = 0) -> bytes:
    """Animate how each input pixel adds its multiple of the kernel to the output.

    Takes an image (H, W) and a kernel (KH, KW) of whole numbers. Returns a GIF with one
    frame per input pixel, and a last one that shows what ``padding`` cuts off. Raises
    ValueError for arguments that leave no output, or that are too large to be drawn.
    """
    case = _checked(image, kernel, stride, padding)
    steps = list(_stamps(case))
    _check_number(len(steps))
    output = steps[-1].after
    panels = arrange(
        [
            {"input": case.image, "kernel": case.kernel},
            {"pixel × kernel": case.kernel},
            {"output": output},
        ]
    )
    pages = [_stamp_page(panels, case, step) for step in steps]
    pages.append(_cut_page(panels, case, output))
    return gif([page.image for page in pages])


def zero_insertion_animation(
    image: Tensor, kernel: Tensor, stride: int = 1, padding: int = 0
) -> bytes:
    """Animate the flipped kernel that slides over the input with zeros in between.

    Takes an image (H, W) and a kernel (KH, KW) of whole numbers. Returns a GIF with one
    frame per output cell. Raises ValueError for arguments that leave no output, that are
    too large to be drawn, or whose padding is more than kernel - 1: then the stretched
    input has no border, and even loses pixels.
    """
    case = _checked(image, kernel, stride, padding)
    most = min(kernel.shape) - 1
    _require(padding <= most, f"padding must be at most kernel - 1, here {most}, not {padding}.")
    steps = list(_windows(case))
    _check_number(len(steps))
    stretched = _stretched(case)
    panels = arrange(
        [
            {"input": case.image, "kernel, flipped": case.flipped},
            {"input, stretched": stretched},
            {"output": steps[-1].output},
        ]
    )
    return gif([_window_page(panels, case, stretched, step).image for step in steps])


# --- what happens: the numbers, step by step


class _Case(NamedTuple):
    """The arguments of an animation."""

    image: Numbers
    kernel: Numbers
    stride: int
    padding: int

    @property
    def flipped(self) -> Numbers:
        return [row[::-1] for row in self.kernel[::-1]]

    @property
    def note(self) -> str:
        return f"stride {self.stride}, padding {self.padding}"


class _Stamp(NamedTuple):
    """One input pixel, where its stamp begins, and the uncut output before and after."""

    pixel: Cell
    corner: Cell
    before: Numbers
    after: Numbers


class _Window(NamedTuple):
    """One output cell, the input pixels under the window, and the output so far.

    ``pairs`` leads from each of these pixels to the cell of the flipped kernel that lies
    over it. Output cells still to come are None.
    """

    cell: Cell
    pairs: dict[Cell, Cell]
    output: list[list[int | None]]


def _stamps(case: _Case) -> Iterator[_Stamp]:
    """Add the multiples of the kernel to the output, pixel by pixel."""
    image, kernel, stride, _ = case
    height = (len(image) - 1) * stride + len(kernel)
    width = (len(image[0]) - 1) * stride + len(kernel[0])
    output = [[0] * width for _ in range(height)]
    for i, j in _cells(image):
        before = [row.copy() for row in output]
        for a, b in _cells(kernel):
            output[i * stride + a][j * stride + b] += image[i][j] * kernel[a][b]
        after = [row.copy() for row in output]
        yield _Stamp((i, j), (i * stride, j * stride), before, after)


def _stretched(case: _Case) -> Places:
    """Put stride - 1 zeros between the pixels, and a border around them."""
    image, kernel, stride, padding = case
    top, left = len(kernel) - 1 - padding, len(kernel[0]) - 1 - padding
    height = (len(image) - 1) * stride + 1
    width = (len(image[0]) - 1) * stride + 1
    places: Places = [["border"] * (width + 2 * left) for _ in range(height + 2 * top)]
    for y in range(height):
        for x in range(width):
            (i, down), (j, right) = divmod(y, stride), divmod(x, stride)
            places[top + y][left + x] = "zero" if down or right else (i, j)
    return places


def _windows(case: _Case) -> Iterator[_Window]:
    """Slide the flipped kernel over the stretched input, one output cell at a time."""
    stretched, flipped = _stretched(case), case.flipped
    height = len(stretched) - len(flipped) + 1
    width = len(stretched[0]) - len(flipped[0]) + 1
    output: list[list[int | None]] = [[None] * width for _ in range(height)]
    for y, x in _cells(output):
        pairs = {}
        for a, b in _cells(flipped):
            place = stretched[y + a][x + b]
            if not isinstance(place, str):
                pairs[place] = (a, b)
        output[y][x] = sum(case.image[i][j] * flipped[a][b] for (i, j), (a, b) in pairs.items())
        yield _Window((y, x), pairs, [row.copy() for row in output])


def _cells(table: Sequence[Sequence[object]]) -> Iterator[Cell]:
    return ((row, column) for row, line in enumerate(table) for column in range(len(line)))


# --- what a frame shows


def _stamp_page(panels: Mapping[str, Panel], case: _Case, step: _Stamp) -> Page:
    """Show one input pixel, its multiple of the kernel, and where that is added."""
    (i, j), (top, left) = step.pixel, step.corner
    value = case.image[i][j]
    stamp = [[value * number for number in row] for row in case.kernel]
    rows, columns = len(stamp), len(stamp[0])
    # Where something was before, show the sum that is under way: "4+2".
    sums: list[list[object]] = [list(row) for row in step.before]
    for a, b in _cells(stamp):
        old = step.before[top + a][left + b]
        under_way = f"{old}{stamp[a][b]:+d}"
        if len(under_way) > 4:
            under_way = f"{old}\n{stamp[a][b]:+d}"
        sums[top + a][left + b] = under_way if old else stamp[a][b]

    def look(cell: Cell) -> Look:
        stamped = 0 <= cell[0] - top < rows and 0 <= cell[1] - left < columns
        in_rim = _in_rim(cell, step.after, case.padding)
        if stamped:
            return KERNEL._replace(hatched=in_rim)
        return PADDING if in_rim else OUTPUT

    page = Page(
        panels,
        f"Input pixel ({i}, {j}) is {value}: add {value} × kernel at row {top}, column {left}.",
        f"Pixel (i, j) puts its stamp at row {case.stride} · i, column {case.stride} · j: "
        "stamps lie the stride apart.",
        case.note,
    )
    page.table("input", case.image, lambda cell: NOW if cell == step.pixel else INPUT)
    page.table("kernel", case.kernel, lambda _: KERNEL)
    page.table("pixel × kernel", stamp, lambda _: KERNEL, f"{value} × kernel")
    page.table("output", sums, look)
    page.outline("pixel × kernel", (0, 0), rows, columns, VERMILLION)
    page.outline("output", step.corner, rows, columns, VERMILLION)
    page.legend({"added now": KERNEL} | _scatter_legend(case))
    return page


def _cut_page(panels: Mapping[str, Panel], case: _Case, output: Numbers) -> Page:
    """Show what remains of the output without the padding."""
    p = case.padding
    rows, columns = len(output) - 2 * p, len(output[0]) - 2 * p
    page = Page(
        panels,
        f"All {len(case.image) * len(case.image[0])} stamps are added.",
        f"Padding {p} cuts {p} off on all four sides: the output has {rows} × {columns} cells."
        if p
        else f"Padding 0 cuts nothing off: the output has {rows} × {columns} cells.",
        case.note,
    )
    blank = [[None] * len(row) for row in case.kernel]
    page.table("input", case.image, lambda _: INPUT)
    page.table("kernel", case.kernel, lambda _: KERNEL)
    page.table("pixel × kernel", blank, lambda _: BLANK)
    page.table("output", output, lambda c: PADDING if _in_rim(c, output, p) else OUTPUT)
    page.outline("output", (p, p), rows, columns, GREEN)
    page.legend({"output": OUTPUT} | _scatter_legend(case))
    return page


def _scatter_legend(case: _Case) -> dict[str, Look]:
    return {"padding: cut off at the end": PADDING} if case.padding else {}


def _in_rim(cell: Cell, output: Numbers, padding: int) -> bool:
    (row, column), height, width = cell, len(output), len(output[0])
    return not (padding <= row < height - padding and padding <= column < width - padding)


def _window_page(
    panels: Mapping[str, Panel], case: _Case, stretched: Places, step: _Window
) -> Page:
    """Show the window over the stretched input, and the output cell that it gives."""
    flipped, (row, column) = case.flipped, step.cell
    looks = {"zero": ZERO, "border": PADDING}

    def look(cell: Cell) -> Look:
        place = stretched[cell[0]][cell[1]]
        if isinstance(place, str):
            return looks[place]
        return NOW if place in step.pairs else INPUT

    entries = [
        [0 if isinstance(place, str) else case.image[place[0]][place[1]] for place in line]
        for line in stretched
    ]
    page = Page(
        panels,
        f"Output ({row}, {column}): multiply the window by the flipped kernel, add up.",
        _sum_in_words(case, step),
        case.note,
    )
    page.table("input", case.image, lambda cell: NOW if cell in step.pairs else INPUT)
    page.table("kernel, flipped", flipped, lambda c: KERNEL if c in step.pairs.values() else IDLE)
    page.table("input, stretched", entries, look)
    page.table("output", step.output, lambda cell: _output_look(cell, step))
    page.outline("kernel, flipped", (0, 0), len(flipped), len(flipped[0]), VERMILLION)
    page.outline("input, stretched", step.cell, len(flipped), len(flipped[0]), VERMILLION)
    used = {place for line in stretched for place in line}
    width = len(case.kernel) - 1 - case.padding
    names = {"zero": "inserted zeros", "border": f"border: kernel − 1 − padding = {width} wide"}
    page.legend({name: looks[key] for key, name in names.items() if key in used})
    return page


def _output_look(cell: Cell, step: _Window) -> Look:
    if cell == step.cell:
        return OUTPUT_NOW
    return BLANK if step.output[cell[0]][cell[1]] is None else OUTPUT


def _sum_in_words(case: _Case, step: _Window) -> str:
    """Write the products down, as long as they fit into the line."""
    total = step.output[step.cell[0]][step.cell[1]]
    products = [
        f"{case.image[i][j]} × {case.flipped[a][b]}" for (i, j), (a, b) in step.pairs.items()
    ]
    if not products:
        return "Under the window there are only zeros: 0."
    if len(" + ".join(products)) > 75:
        return f"The {len(products)} products add up to {total}."
    return f"{' + '.join(products)} = {total}"


# --- what cannot be shown


def _checked(image: Tensor, kernel: Tensor, stride: int, padding: int) -> _Case:
    case = _Case(_whole_numbers("image", image), _whole_numbers("kernel", kernel), stride, padding)
    _require(stride >= 1, f"stride must be at least 1, not {stride}.")
    _require(padding >= 0, f"padding must be at least 0, not {padding}.")
    for n, k in zip(image.shape, kernel.shape, strict=True):
        size = (n - 1) * stride + k
        _require(
            2 * padding < size,
            f"padding must leave something of an output of {size} rows or columns, "
            f"but {padding} cuts off {2 * padding}.",
        )
    return case


def _whole_numbers(name: str, values: Tensor) -> Numbers:
    _require(
        values.ndim == 2 and values.numel() > 0,
        f"{name} must have rows and columns, not the shape {tuple(values.shape)}.",
    )
    # Infinity and NaN leave no whole rest either.
    _require(bool((values % 1 == 0).all()), f"{name} must hold whole numbers, not {values}.")
    return [[int(value) for value in row] for row in values.tolist()]


def _check_number(steps: int) -> None:
    _require(
        steps <= MOST_STEPS,
        f"The animation would have {steps} steps, more than {MOST_STEPS}: "
        "take a smaller image, kernel or stride.",
    )


def _require(holds: bool, sentence: str) -> None:
    if not holds:
        raise ValueError(sentence)
