"""The explorer of sizes: live widget and still in one display."""

import base64
import io
import subprocess
import sys

import nbformat
import pytest
from IPython.utils.capture import capture_output
from matplotlib import pyplot as plt
from nbformat import from_dict
from nbformat.v4 import new_code_cell, new_notebook, new_output
from notebook_guards import figures, widgets
from PIL import Image

from fcnlib.course import explorer
from fcnlib.course.explorer import SLIDERS, _explorer, explore_sizes
from fcnlib.course.notebooks import normalise

VIEW = "application/vnd.jupyter.widget-view+json"


def parts():
    """Return the sliders by the names of their numbers, the sentence and the picture."""
    grid, sentence, picture = _explorer().children
    return dict(zip(SLIDERS, grid.children, strict=True)), sentence, picture


def test_sliders_start_at_the_example_of_the_course():
    sliders, sentence, picture = parts()
    values = {name: slider.value for name, slider in sliders.items()}
    assert values == {
        "n": 6,
        "kernel_size": 5,
        "stride": 3,
        "padding": 2,
        "output_padding": 1,
        "dilation": 1,
    }
    assert Image.open(io.BytesIO(picture.value)).format == "PNG"
    assert sentence.value == ""


def test_every_slider_reaches_its_number(monkeypatch):
    asked = []
    monkeypatch.setattr(explorer, "_png", lambda **numbers: asked.append(numbers) or b"")
    sliders, _, _ = parts()
    for name, slider in sliders.items():
        slider.value += 1 if slider.value < slider.max else -1
        assert asked[-1] == asked[-2] | {name: slider.value}


def test_a_slider_changes_the_picture_and_opens_no_figure():
    sliders, _, picture = parts()
    before = picture.value
    sliders["n"].value = 4
    assert picture.value != before
    sliders["n"].value = 6
    assert picture.value == before
    assert plt.get_fignums() == []


def test_a_refused_combination_shows_its_sentence_instead_of_the_picture(capsys):
    sliders, sentence, picture = parts()
    sliders["output_padding"].value = 3
    assert sentence.value.startswith("output_padding must be smaller")
    assert picture.layout.display == "none"
    sliders["output_padding"].value = 2
    assert sentence.value == ""
    assert picture.layout.display is None
    assert capsys.readouterr() == ("", "")


@pytest.fixture
def shown(monkeypatch):
    """Return the one output that explore_sizes displays, as a notebook stores it."""
    calls = []
    monkeypatch.setattr(explorer, "display", lambda *args, **kwargs: calls.append((args, kwargs)))
    with capture_output() as printed:
        assert explore_sizes() is None
    assert (printed.stdout, printed.stderr, printed.outputs) == ("", "", [])
    [((bundle,), options)] = calls
    assert options["raw"]
    return from_dict(new_output("display_data", bundle, metadata=options["metadata"]))


def test_one_display_holds_the_live_widget_and_the_still(shown):
    assert set(shown.data) == {VIEW, "image/png", "text/plain"}
    assert shown.data[VIEW].version_major == 2
    assert len(shown.data[VIEW].model_id) == 32
    still = base64.b64decode(shown.data["image/png"])
    assert still == bytes(parts()[2].value)
    assert shown.data["text/plain"] == "Sliders over the sizes of a transposed convolution"


def test_the_stored_notebook_keeps_the_still_and_satisfies_the_guards(shown, tmp_path):
    notebook = new_notebook(cells=[new_code_cell("explore_sizes()", outputs=[shown])])
    normalise(notebook)
    nbformat.validate(notebook)
    assert set(notebook.cells[0].outputs[0].data) == {"image/png", "text/plain"}
    assert figures(notebook, tmp_path) == widgets(notebook, tmp_path) == []


def test_the_course_itself_needs_no_ipywidgets():
    program = "import fcnlib.course, sys; sys.exit('ipywidgets' in sys.modules)"
    subprocess.run([sys.executable, "-c", program], check=True)
