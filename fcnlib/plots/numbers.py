"""Small tables of numbers, drawn cell by cell."""

from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.patches import Rectangle
from torch import Tensor

from fcnlib.plots.colors import COLORS


def show_numbers(axis: Axes, values: Tensor, title: str = "", color: str = COLORS[5]) -> None:
    """Write the numbers of ``values`` (H, W) into cells; those that are not 0 are coloured."""
    height, width = values.shape
    for row, numbers in enumerate(values.tolist()):
        for column, number in enumerate(numbers):
            face = to_rgba(color, 0.45) if number else "white"
            corner = (column - 0.5, row - 0.5)
            axis.add_patch(Rectangle(corner, 1, 1, facecolor=face, edgecolor="0.6"))
            axis.text(column, row, f"{number:g}", ha="center", va="center")
    axis.set(title=title, xticks=[], yticks=[], aspect="equal", frame_on=False)
    axis.set(xlim=(-0.52, width - 0.48), ylim=(height - 0.48, -0.52))
