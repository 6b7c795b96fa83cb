"""Sliders over the sizes of a transposed convolution.

Only this module of fcnlib needs ipywidgets, and so nothing else of fcnlib imports it.
"""

import html
from base64 import b64encode
from io import BytesIO
from typing import Any

import ipywidgets  # type: ignore[import-untyped]
from IPython.display import display
from matplotlib import pyplot as plt

from fcnlib.plots.sizes import show_sizes

# Name in show_sizes: label, smallest, largest, start.
SLIDERS = {
    "n": ("input n", 1, 8, 6),
    "kernel_size": ("kernel k", 1, 5, 5),
    "stride": ("stride s", 1, 4, 3),
    "padding": ("padding p", 0, 4, 2),
    "output_padding": ("output_padding", 0, 3, 1),
    "dilation": ("dilation d", 1, 3, 1),
}
ALT = "Cells of input, stretched input, stamps and output, for the numbers that sliders set."


def explore_sizes() -> None:
    """Show ``show_sizes`` with a slider for each of its numbers.

    A refused combination shows its sentence in place of the picture. Where no widget can
    live, on a static page, the first picture stands as a still.
    """
    box = _explorer()
    # One display with both forms: each page picks the richest that it can show. Written
    # out, because ipywidgets 7 and 8 have different methods for it.
    view = {"version_major": 2, "version_minor": 0, "model_id": box.model_id}
    bundle = {
        "application/vnd.jupyter.widget-view+json": view,
        "image/png": b64encode(box.children[-1].value).decode(),
        "text/plain": "Sliders over the sizes of a transposed convolution",
    }
    display(bundle, metadata={"image/png": {"alt": ALT}}, raw=True)


def _explorer() -> Any:
    """Build the sliders, and below them the sentence and the picture that they change."""
    sliders = {
        name: ipywidgets.IntSlider(
            value=start,
            min=smallest,
            max=largest,
            description=label,
            style={"description_width": "110px"},
        )
        for name, (label, smallest, largest, start) in SLIDERS.items()
    }
    sentence = ipywidgets.HTML()
    # At its own size: stretched to the width of the page, it would blur.
    picture = ipywidgets.Image(format="png", layout={"align_self": "flex-start"})

    def update(_: object = None) -> None:
        try:
            picture.value = _png(**{name: slider.value for name, slider in sliders.items()})
        except ValueError as error:
            sentence.value = html.escape(str(error))
            picture.layout.display = "none"
        else:
            sentence.value = ""
            picture.layout.display = None

    for slider in sliders.values():
        slider.observe(update, "value")
    update()
    grid = ipywidgets.GridBox(
        list(sliders.values()), layout={"grid_template_columns": "repeat(2, 340px)"}
    )
    return ipywidgets.VBox([grid, sentence, picture])


def _png(**numbers: int) -> bytes:
    file = BytesIO()
    with plt.ioff():  # no figure of its own beside the picture
        figure = show_sizes(**numbers)
    figure.savefig(file, format="png")
    plt.close(figure)
    return file.getvalue()
