"""The course's tools: setup, exercise checks, and the normaliser of notebooks."""

import os
import random
import subprocess
import sys
import venv
from pathlib import Path

import matplotlib.pyplot as plt
import nbformat
import numpy as np
import pytest
import torch
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook, new_output
from notebook_tools import ROOT

from fcnlib.course import check, checks, notebooks, setup
from fcnlib.course.notebooks import SETUP, Cost, cost_card, normalise

# --- setup


def draw():
    return random.random(), np.random.rand(), torch.rand(1).item()


def test_setup_seeds_everything_and_is_silent(capsys):
    setup()
    first = draw()
    assert draw() != first
    setup(1)
    assert draw() != first
    setup()
    assert draw() == first
    assert capsys.readouterr() == ("", "")


def test_setup_sets_the_figure_style():
    with plt.rc_context():
        setup()
        assert plt.rcParams["image.interpolation"] == "nearest"
        assert plt.rcParams["figure.constrained_layout.use"]
        assert plt.rcParams["axes.prop_cycle"].by_key()["color"][0] == "#0072B2"


# --- checks


@pytest.fixture
def double(monkeypatch):
    """Register the only exercise, 99.1: return twice a 1-d tensor."""
    monkeypatch.setattr(checks, "_CHECKS", {})

    @checks.exercise("99.1")
    def check_double(student):
        # Not by `assert`, to which pytest would add an explanation of its own.
        result = student(torch.ones(3), 2)
        if result.shape != (3,):
            raise AssertionError("The result has\nanother shape.")
        if (result != 2).any():
            raise AssertionError


def unsolved(x, times):
    raise NotImplementedError


def failing(x, times):
    raise ValueError("no such thing\nand more")


def failing_in_torch(x, times):
    raise NotImplementedError("Could not run 'aten::view'")


VERDICTS = [
    (lambda x, times: times * x, "correct."),
    (
        unsolved,
        "not solved yet. Replace the line with NotImplementedError, then run both cells again.",
    ),
    (lambda x, times: x[:2], "not yet. The result has another shape."),
    (lambda x, times: x, "not yet. The result is wrong."),
    (
        lambda x, times: None,
        "not yet. Your answer could not be examined "
        "(AttributeError: 'NoneType' object has no attribute 'shape').",
    ),
    (
        failing,
        "not yet. Your function raised ValueError: no such thing, for the arguments "
        "(Tensor of shape (3,), 2).",
    ),
    (
        failing_in_torch,
        "not yet. Your function raised NotImplementedError: Could not run 'aten::view', "
        "for the arguments (Tensor of shape (3,), 2).",
    ),
    (3, "not yet. Hand over the function itself, without parentheses after its name."),
]


@pytest.mark.parametrize(("answer", "verdict"), VERDICTS)
def test_check_prints_one_line(answer, verdict, double, capsys):
    check("99.1", answer)
    assert capsys.readouterr() == (f"Exercise 99.1: {verdict}\n", "")


def test_run_check_keeps_the_cause(double):
    with pytest.raises(AssertionError) as caught:
        checks.run_check("99.1", failing)
    assert isinstance(caught.value.__cause__, ValueError)


@pytest.mark.parametrize("number", ["99.2", "98.1", "nothing", ""])
def test_unknown_exercise(number, double):
    with pytest.raises(ValueError, match=f"There is no exercise {number};"):
        check(number, unsolved)


def test_exercises_are_in_order(monkeypatch):
    monkeypatch.setattr(checks, "_CHECKS", dict.fromkeys(["99.10", "99.2", "98.1"]))
    assert checks.exercises("99") == ["99.2", "99.10"]


# --- the fixed form of a notebook


def test_normalise_merges_streams_and_strips_metadata():
    cell = new_code_cell("1", metadata={"tags": ["keep"], "execution": {"a": "b"}})
    view = {"application/vnd.jupyter.widget-view+json": {"model_id": "random"}}
    cell.outputs = [
        new_output("stream", name="stdout", text="one\n"),
        new_output("stream", name="stdout", text="two\n"),
        new_output("stream", name="stderr", text="three\n"),
        new_output("stream", name="stdout", text="four\n"),
        new_output("execute_result", {"text/plain": "Box()"} | view, execution_count=9),
    ]
    notebook = new_notebook(cells=[cell], metadata={"mine": 1})
    notebook.metadata.fcn = {"download": "2 GB"}
    normalise(notebook)
    assert [output.get("text") for output in cell.outputs[:3]] == [
        "one\ntwo\n",
        "three\n",
        "four\n",
    ]
    assert cell.outputs[3].data == {"text/plain": "Box()"}
    assert cell.outputs[3].execution_count == cell.execution_count == 1
    assert cell.metadata == {"tags": ["keep"], "slideshow": {"slide_type": "skip"}}
    assert notebook.metadata == {
        "fcn": {"download": "2 GB"},
        "kernelspec": {
            "display_name": "Python 3",
            "language": "python",
            "name": "python3",
        },
        "language_info": {"name": "python"},
    }


def test_cell_ids_survive_an_insertion():
    def ids(*sources):
        notebook = new_notebook(cells=[new_code_cell(source) for source in sources])
        normalise(notebook)
        return [cell.id for cell in notebook.cells]

    before = ids("a", "b", "b")
    assert len(set(before)) == 3
    assert ids("a", "new", "b", "b") == [before[0], ids("new")[0], *before[1:]]


@pytest.mark.parametrize(
    ("seconds", "gigabytes", "before", "numbers"),
    [
        (59, 0.72, "", ("under a minute", "0.7 GB")),
        (61, 0.72, "", ("about 2 minutes", "0.7 GB")),
        (179, 0.72, "about 4 minutes · 0.8 GB", ("about 4 minutes", "0.8 GB")),
        (250, 0.72, "about 4 minutes · 0.8 GB", ("about 4 minutes", "0.8 GB")),
        (260, 0.72, "about 4 minutes · 0.9 GB", ("about 5 minutes", "0.7 GB")),
        (160, 0.72, "about 4 minutes · 0.6 GB", ("about 3 minutes", "0.7 GB")),
        (70, 0.72, "under a minute · 0.7 GB", ("under a minute", "0.7 GB")),
    ],
)
def test_cost_card_changes_only_when_wrong(seconds, gigabytes, before, numbers):
    card = cost_card(Cost(seconds, gigabytes), "2 GB", before)
    duration, memory = numbers
    assert card == (
        f"**Cost:** {duration} on {os.cpu_count()} CPU cores · {memory} of memory · downloads 2 GB"
    )


# --- the normaliser as a command


def remake(*paths: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fcnlib.course.notebooks", *map(str, paths)],
        capture_output=True,
        text=True,
    )


def save(path: Path, *cells: nbformat.NotebookNode) -> Path:
    nbformat.write(new_notebook(cells=cells), path)
    return path


@pytest.mark.slow
def test_remake_runs_measures_and_repeats_itself(tmp_path):
    path = save(
        tmp_path / "tiny.ipynb",
        new_markdown_cell("To be measured.", metadata={"tags": ["cost-card"]}),
        new_code_cell("To be replaced.", metadata={"tags": ["setup"]}),
        new_code_cell("import os\nprint(os.environ['FCN_VOC'], os.listdir())"),
        # For as long as it takes to be seen: the watcher looks five times a second.
        new_code_cell("import time\nmemory = bytearray(2_000_000_000)\ntime.sleep(1)"),
        new_code_cell("memory = None\ntime.sleep(0.2)"),
        new_code_cell("import matplotlib.pyplot as plt\nplt.plot([0, 1])\nplt.show()"),
    )
    done = remake(path)
    assert done.returncode == 0, done.stderr
    first = path.read_bytes()
    card, setup_cell, shown, *_, plot = nbformat.reads(first, as_version=4).cells
    assert card.source.startswith("**Cost:** under a minute on ")
    assert 2.0 <= float(card.source.split(" · ")[1].split()[0]) < 4
    assert setup_cell.source == SETUP
    assert shown.outputs[0].text == "none ['tiny.ipynb']\n"
    # The style that the setup cell asked for holds: 6.4 x 3.6 inches of 80 dots.
    assert plot.outputs[0].data["text/plain"] == "<Figure size 512x288 with 1 Axes>"
    assert first.endswith(b"}\n")
    assert [file.name for file in tmp_path.iterdir()] == ["tiny.ipynb"]

    assert remake(path).returncode == 0
    assert path.read_bytes() == first


@pytest.mark.slow
def test_failing_cell_leaves_the_file(tmp_path):
    path = save(tmp_path / "bad.ipynb", new_code_cell("1"), new_code_cell("1 / 0"), new_code_cell())
    before = path.read_bytes()
    done = remake(path)
    assert done.returncode == 1
    sentence = f"{path}: code cell 2 raised ZeroDivisionError: division by zero"
    assert done.stderr.splitlines()[-1] == sentence
    assert "Traceback" not in done.stderr
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.slow
def test_cell_that_takes_too_long_or_kills_the_kernel(tmp_path, monkeypatch):
    monkeypatch.setattr(notebooks, "CELL_LIMIT", 1)
    for source, failure in (
        ("import time\ntime.sleep(60)", "code cell 1 took more than 1 seconds"),
        ("import os\nos._exit(1)", "code cell 1 killed the kernel"),
    ):
        with pytest.raises(notebooks.NotebookError, match=failure):
            notebooks.remake(save(tmp_path / "bad.ipynb", new_code_cell(source)))


@pytest.mark.parametrize(
    ("text", "failure"),
    [(None, "cannot be read: No such file or directory."), ("no", "is not a notebook.")],
)
def test_file_that_is_no_notebook(text, failure, tmp_path):
    path = tmp_path / "x.ipynb"
    if text:
        path.write_text(text)
    with pytest.raises(notebooks.NotebookError, match=f"^{path} {failure}$"):
        notebooks.remake(path)


# --- the setup cell on Colab, where the notebook is alone

RUN_CELL = """
from IPython.core.interactiveshell import InteractiveShell
InteractiveShell.instance().run_cell({source!r}).raise_error()
import fcnlib
print("fcnlib is", fcnlib.__file__)
"""


@pytest.fixture(scope="module")
def colab(tmp_path_factory) -> Path:
    """Return the Python of an environment with all that we have, except fcnlib."""
    folder = tmp_path_factory.mktemp("colab")
    venv.create(folder / "env", with_pip=True)
    packages = folder / "packages"
    packages.mkdir()
    for entry in Path(torch.__file__).parents[1].iterdir():
        if "fcnlib" not in entry.name:
            (packages / entry.name).symlink_to(entry)
    [site] = (folder / "env").glob("lib/python*/site-packages")
    (site / "packages.pth").write_text(f"{packages}\n")
    python = folder / "env" / "bin" / "python"
    # Python 3.11 brings an old setuptools, which would stand before ours.
    subprocess.run([python, "-m", "pip", "uninstall", "-qy", "setuptools"], check=True)
    return python


@pytest.fixture(scope="module")
def repository(tmp_path_factory) -> str:
    """Return the address of a repository that holds the checkout as it lies here."""
    folder = tmp_path_factory.mktemp("repository")
    git = ["git", f"--git-dir={folder}", f"--work-tree={ROOT}"]
    git += ["-c", "user.name=a", "-c", "user.email=a@b.c"]
    for command in (["init", "-q"], ["add", "."], ["commit", "-qm", "all"]):
        subprocess.run([*git, *command], cwd=ROOT, check=True)
    return folder.as_uri()


def run_setup_cell(python: Path, folder: Path, address: str):
    # pip's flag is inverted: 0 switches the isolation off, which needs the internet.
    environment = os.environ | {"FCN_COURSE": address, "PIP_NO_BUILD_ISOLATION": "0"}
    return subprocess.run(
        [python, "-c", RUN_CELL.format(source=SETUP)],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_setup_cell_fetches_the_course(colab, repository, tmp_path):
    first = run_setup_cell(colab, tmp_path, repository)
    course = tmp_path / "fcn-course"
    assert first.stdout.splitlines()[-1] == f"fcnlib is {course}/fcnlib/__init__.py", first
    # After a restart of the kernel it is installed, wherever the kernel starts.
    again = run_setup_cell(colab, tmp_path.parent, "nowhere")
    assert again.stdout == f"fcnlib is {course}/fcnlib/__init__.py\n", again


@pytest.mark.slow
def test_setup_cell_with_a_wrong_address(colab, tmp_path):
    subprocess.run([colab, "-m", "pip", "uninstall", "-qy", "fcnlib"], check=True)
    done = run_setup_cell(colab, tmp_path, (tmp_path / "none").as_uri())
    assert done.stderr.splitlines()[-1] == "AssertionError: That address has no course."
