"""One frame of an animation: named tables of cells, a caption above, a legend below.

Drawn in pixels and with Pillow: that is quick, and neither opens a figure nor changes a
style. ``arrange`` finds the places, a ``Page`` draws one frame, ``gif`` joins them.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from io import BytesIO
from typing import NamedTuple, cast

from matplotlib.font_manager import FontProperties, findfont
from PIL import Image, ImageChops, ImageColor, ImageDraw, ImageFont

from fcnlib.plots.colors import COLORS

Table = Sequence[Sequence[object]]
"""Rows of what the cells show; None leaves a cell empty."""

Cell = tuple[int, int]
"""A row and a column, counted from 0."""

BLUE, VERMILLION, GREEN, PURPLE, ORANGE = COLORS[:5]
BLACK, DARK, GREY = "#000000", "#555555", "#8C8C8C"

WIDTH, MARGIN = 700, 12  # pixels, as all that follows
CAPTION = 64
NAME, STRIP = 26, 18  # above the cells: the panel's name, the numbers of the columns
GAP = 36  # between two panels, which is also where the numbers of the rows stand
LEGEND = 44
LARGEST_CELL, SMALLEST_CELL, TALLEST = 46, 24, 600

PALETTE = 24  # colours
STEP, PAUSE = 1200, 4000  # milliseconds that a frame stays: any, the last


class Look(NamedTuple):
    """The look of a cell: its colour; the number's colour and share of the height; lines."""

    fill: str
    ink: str = BLACK
    share: float = 0.44
    hatched: bool = False


def tint(color: str, amount: float) -> str:
    """Mix a colour with white, so that black numbers stand out on it."""
    mixed = (round(255 + (part - 255) * amount) for part in ImageColor.getrgb(color))
    return "#" + "".join(f"{part:02X}" for part in mixed)


class Panel(NamedTuple):
    """Where a table lies on the page, in pixels, and the side of its cells."""

    left: int
    top: int
    rows: int
    columns: int
    side: int

    def box(self, corner: Cell, rows: int = 1, columns: int = 1) -> tuple[int, int, int, int]:
        """Return left, top, right and bottom of some cells."""
        x, y = self.left + corner[1] * self.side, self.top + corner[0] * self.side
        return x, y, x + columns * self.side, y + rows * self.side


def arrange(columns: Sequence[Mapping[str, Table]]) -> dict[str, Panel]:
    """Find places for named tables, which stand in columns from left to right.

    Raises ValueError where the cells would be too small to read.
    """
    for side in range(LARGEST_CELL, SMALLEST_CELL - 1, -1):
        panels, right, bottom = _placed(columns, side)
        if right <= WIDTH - MARGIN and bottom <= TALLEST:
            return panels
    raise ValueError(
        "The animation would need cells too small to read: take a smaller image, kernel or stride."
    )


def _placed(columns: Sequence[Mapping[str, Table]], side: int) -> tuple[dict[str, Panel], int, int]:
    """Place the panels; return them, and where they end at the right and at the bottom."""
    panels, left, bottom = {}, MARGIN + STRIP, 0
    for column in columns:
        top, right = CAPTION, left
        for name, table in column.items():
            top += NAME + STRIP
            panels[name] = Panel(left, top, len(table), len(table[0]), side)
            top += len(table) * side + MARGIN
            right = max(right, left + len(table[0]) * side, left + _length(name, 16, bold=True))
        left, bottom = right + GAP, max(bottom, top)
    return panels, left - GAP, bottom


class Page:
    """One frame, on which the panels are drawn one after the other."""

    def __init__(self, panels: Mapping[str, Panel], first: str, second: str, note: str) -> None:
        """Begin a page that says in two lines what happens, and in a note with which settings."""
        self.panels = panels
        self.bottom = max(panel.top + panel.rows * panel.side for panel in panels.values())
        self.image = Image.new("RGB", (WIDTH, self.bottom + LEGEND), "white")
        self._draw = ImageDraw.Draw(self.image)
        self._text((MARGIN, 20), first, 16, "lm", bold=True)
        self._text((MARGIN, 46), second, 14, "lm")
        self._text((MARGIN, self.bottom + LEGEND // 2 + 4), note, 14, "lm", DARK)

    def table(
        self, panel: str, entries: Table, look: Callable[[Cell], Look], name: str = ""
    ) -> None:
        """Draw a panel: its name, the numbers of rows and columns, its cells."""
        place = self.panels[panel]
        above = place.top - STRIP // 2 - 1
        self._text((place.left, above - NAME + 5), name or panel, 16, "lm", bold=True)
        for row in range(place.rows):
            _, top, _, bottom = place.box((row, 0))
            self._text((place.left - 5, (top + bottom) // 2), str(row), 12, "rm", DARK)
        for column in range(place.columns):
            left, _, right, _ = place.box((0, column))
            self._text(((left + right) // 2, above), str(column), 12, "mm", DARK)
        for row, line in enumerate(entries):
            for column, entry in enumerate(line):
                text = "" if entry is None else str(entry)
                self._cell(place.box((row, column)), text, look((row, column)))

    def outline(self, panel: str, corner: Cell, rows: int, columns: int, color: str) -> None:
        """Draw a thick frame around some cells of a panel."""
        left, top, right, bottom = self.panels[panel].box(corner, rows, columns)
        self._draw.rectangle((left - 1, top - 1, right + 1, bottom + 1), outline=color, width=3)

    def legend(self, looks: Mapping[str, Look]) -> None:
        """Explain looks of cells, at the bottom on the right."""
        right, y = WIDTH - MARGIN, self.bottom + LEGEND // 2 + 4
        for name, look in reversed(list(looks.items())):
            self._text((right, y), name, 14, "rm")
            right -= _length(name, 14) + 26
            self._cell((right, y - 9, right + 18, y + 9), "", look)
            right -= 22

    def _cell(self, box: tuple[int, int, int, int], text: str, look: Look) -> None:
        left, top, right, bottom = box
        side = right - left
        self._draw.rectangle(box, look.fill)
        if look.hatched:
            for offset in range(10, 2 * side, 10):  # lines from lower left to upper right
                near, far = max(offset - side, 0), min(offset, side)
                self._draw.line((left + near, top + far, left + far, top + near), "#ABABAB")
        self._draw.rectangle(box, outline=GREY)
        size = int(side * look.share)
        while size > 8 and _length(text, size) > side - 5:
            size -= 1
        self._text(((left + right) // 2, (top + bottom) // 2), text, size, "mm", look.ink)

    def _text(
        self,
        place: tuple[float, float],
        text: str,
        size: int,
        anchor: str,
        ink: str = BLACK,
        bold: bool = False,
    ) -> None:
        font = _font(size, bold)
        self._draw.text(place, _typeset(text), ink, font, anchor, spacing=1, align="center")


@cache
def _font(size: int, bold: bool = False) -> ImageFont.FreeTypeFont:
    """Load the font that matplotlib brings along, so that it is there everywhere."""
    weight = "bold" if bold else "normal"
    file = findfont(FontProperties(family="DejaVu Sans", weight=weight))
    return ImageFont.truetype(file, size, layout_engine=ImageFont.Layout.BASIC)


def _length(text: str, size: int, bold: bool = False) -> int:
    """Return how wide the widest line is, in pixels."""
    return round(max(_font(size, bold).getlength(line) for line in _typeset(text).split("\n")))


def _typeset(text: str) -> str:
    """Give numbers a minus as wide as the plus; no word in a frame has a hyphen."""
    return text.replace("-", "−")


def gif(frames: Sequence[Image.Image]) -> bytes:
    """Join frames to a GIF that begins again after a pause on the last one.

    All frames share one small palette: that keeps the file small, and colours steady.
    """
    sample = Image.new("RGB", (WIDTH, 3 * frames[0].height))
    for place, number in enumerate((0, len(frames) // 2, -1)):
        sample.paste(frames[number], (0, place * frames[0].height))
    counts = sorted(sample.getcolors(sample.width * sample.height) or [], reverse=True)
    colors = [part for _, color in counts[:PALETTE] for part in cast("tuple[int, ...]", color)]
    palette = Image.new("P", (1, 1))
    palette.putpalette(colors)
    small = [frame.quantize(palette=palette, dither=Image.Dither.NONE) for frame in frames]
    # What does not change is stored as "transparent", the index after the colours.
    changes = [small[0].copy()]
    for before, after in itertools.pairwise(small):
        same = ImageChops.difference(before, after).point([255] + [0] * 255, "1")
        changes.append(after.copy())
        changes[-1].paste(PALETTE, mask=same)
    file = BytesIO()
    changes[0].save(
        file,
        "GIF",
        save_all=True,
        append_images=changes[1:],
        palette=bytes([*colors, 0, 0, 0]),
        transparency=PALETTE,
        disposal=1,  # a frame stays, and the next is laid over it
        duration=[STEP] * (len(frames) - 1) + [PAUSE],
        loop=0,
    )
    return file.getvalue()
