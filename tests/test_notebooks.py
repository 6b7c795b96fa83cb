"""The guards hold for every notebook, and complain of bad ones."""

import copy
import os
import re
import shlex
import subprocess
import sys
from collections import Counter

import nbformat
import notebook_guards as guards
import pytest
from nbformat.v4 import (
    new_code_cell,
    new_markdown_cell,
    new_notebook,
    new_output,
)
from notebook_tools import (
    CHAPTERS,
    ROOT,
    SOLUTIONS,
    code_cells,
    exercises_of,
    functions_of,
    name,
    prose,
    read,
    tags,
)
from training_cases import few_pictures

from fcnlib.course.notebooks import KERNEL, SETUP, run

every_notebook = pytest.mark.parametrize("path", CHAPTERS + SOLUTIONS, ids=name)
every_chapter = pytest.mark.parametrize("path", CHAPTERS, ids=name)


def guard_name(guard):
    return guard.__name__


# --- the notebooks of the course


@every_notebook
@pytest.mark.parametrize("guard", guards.GUARDS, ids=guard_name)
def test_notebook(guard, path):
    complaints = guard(read(path), path)
    assert not complaints, f"{path.name}: {'; '.join(complaints)}"


@every_chapter
@pytest.mark.parametrize("guard", guards.CHAPTER_GUARDS, ids=guard_name)
def test_chapter(guard, path):
    complaints = guard(read(path), path)
    assert not complaints, f"{path.name}: {'; '.join(complaints)}"


@pytest.mark.parametrize("page", ["README.md", "data/README.md"])
def test_links_of_readme(page):
    path = ROOT / page
    assert not guards.broken_links(prose(path.read_text(encoding="utf-8")), path)


def test_readme_lists_every_chapter():
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    assert not guards.missing_from_table(text, [path.name for path in CHAPTERS])


def test_first_chapter_lists_every_other():
    first, *others = CHAPTERS
    text = "\n\n".join(cell.source for cell in read(first).cells)
    assert not guards.missing_from_table(text, [path.name for path in others])


def test_every_chapter_has_solutions():
    assert [path.name for path in SOLUTIONS] == [path.name for path in CHAPTERS]


def test_make_test_checks_every_cell():
    """`make test` gives each code cell of each notebook in the checkout to nbval."""
    listing = ["git", "ls-files", "-co", "--exclude-standard", "*.ipynb"]
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: which notebooks belong to it is unknown")
    notebooks = _output(listing).splitlines()
    expected = {path: len(code_cells(read(ROOT / path))) for path in notebooks}
    collected = _output(
        [sys.executable, "-m", "pytest", *_nbval_arguments(), "--collect-only", "-q"]
    )
    items = re.findall(r"^(\S+\.ipynb)::.*Cell \d+$", collected, re.M)
    assert Counter(items) == expected


def _nbval_arguments() -> list[str]:
    """Return what `make test` passes to pytest where it runs nbval."""
    recipe = _output(["make", "-n", "test"]).replace("\\\n", " ")
    lines = [line for line in recipe.splitlines() if "--nbval" in line]
    assert len(lines) == 1, "`make test` must run pytest with --nbval exactly once"
    words = shlex.split(lines[0])
    quieter = {"-q", "--quiet", "-v", "--verbose"}  # they change how the list looks
    return [w for w in words[words.index("pytest") + 1 :] if w not in quieter]


def _output(command: list[str]) -> str:
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, f"{shlex.join(command)} failed: {done.stderr}"
    return done.stdout


@every_chapter
def test_readme_says_how_long_it_runs(path):
    """As the notebook's cost card does, which is measured."""
    cards = [cell.source for cell in read(path).cells if "cost-card" in tags(cell)]
    minutes = re.search(r"(?:about (\d+) minutes?|under a minute) on", cards[0])
    assert minutes is not None
    table = (ROOT / "README.md").read_text(encoding="utf-8")
    rows = [line for line in table.splitlines() if line.startswith("| [")]
    (row,) = (row for row in rows if f"](notebooks/{path.name}) |" in row)
    assert row.endswith(f" | {minutes[1] or '< 1'} |")


@pytest.mark.slow
@every_chapter
def test_runs_twice_in_one_kernel(path):
    """A reader who runs all cells again, with the exercises unsolved, meets no error.

    Cells tagged "training" take many minutes, or need what those trained; nbval alone runs them.
    """
    notebook = read(path)
    cells = [cell for cell in notebook.cells if "training" not in tags(cell)]
    notebook.cells = cells + copy.deepcopy(cells)
    run(notebook, path.parent)


@pytest.mark.slow
@pytest.mark.real_data
def test_outputs_of_01_hold_where_real_voc_is_found(real_data):
    """The chapter that reads VOC where it is there stores the same text either way."""
    arguments = [*_nbval_arguments(), "notebooks/01_pixels_with_labels.ipynb", "-n", "0"]
    arguments.remove("notebooks")
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *arguments],
        cwd=ROOT,
        env={**os.environ, "FCN_VOC": str(real_data / "voc2012-animals")},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout


SHORT = """
CONFIG["stages"] = dict.fromkeys(CONFIG["stages"], 2)
CONFIG["train"] += " --crop 64 --batch-size 4 --workers 0"
CONFIG["start"] = [{weights!r} if word == "imagenet" else word for word in CONFIG["start"]]
"""
NARROW = """
CONFIG["start"] = CONFIGS["shapes"]["start"]
"""


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize("mode", ["animals", "gpu"])
def test_11_runs_in_every_mode_and_its_outputs_hold(mode, real_data, tmp_path):
    """On a few photographs, with short stages, and for the GPU's mode with a narrow network.

    Too few to be better than always background: the cell that asks for it is left out.
    """
    few_pictures(real_data / "voc2012-animals", tmp_path / "VOC")
    (path,) = (path for path in CHAPTERS if path.name.startswith("11"))
    notebook = read(path)
    notebook.cells = [cell for cell in notebook.cells if "lazy.mean_iou() +" not in cell.source]
    stored = [_printed(cell) for cell in notebook.cells]
    (find,) = (cell for cell in code_cells(notebook) if "voc = find_voc()" in cell.source)
    find.source = f"import os\nos.environ['FCN_VOC'] = {str(tmp_path / 'VOC')!r}\n" + find.source
    (config,) = (cell for cell in code_cells(notebook) if "CONFIGS = {" in cell.source)
    before = {"animals": "", "gpu": 'MODE = "gpu"\n'}[mode]
    weights = str(real_data / "weights" / "squeezenet1_1_caffe_notop.pth")
    short = SHORT.format(weights=weights) + {"animals": "", "gpu": NARROW}[mode]
    config.source = before + config.source + short
    run(notebook, tmp_path)
    strict = [place for place, cell in enumerate(notebook.cells) if not _ignored(cell)]
    assert [_printed(notebook.cells[place]) for place in strict] == [stored[n] for n in strict]


def _printed(cell: nbformat.NotebookNode) -> str:
    return "".join(output.get("text", "") for output in cell.get("outputs", []))


def _ignored(cell: nbformat.NotebookNode) -> bool:
    return "nbval-ignore-output" in tags(cell)


# --- the guards complain of bad notebooks

FIGURE = {"image/png": "iVBOR", "text/plain": "<Figure size 640x360 with 1 Axes>"}
HINT = "<details>\n<summary>Hint</summary>\n\nThink.\n\n</details>"


def stream(text, stream_name="stdout"):
    return new_output("stream", name=stream_name, text=text)


def exercise(number, level="easy · 5 minutes", hint=HINT):
    """Return the three cells of an exercise."""
    text = f"### Exercise {number}: add\n\n*Difficulty: {level}*\n\nAdd.\n\n{hint}"
    stub = "def add(a, b):\n    raise NotImplementedError"
    return [
        new_markdown_cell(text),
        new_code_cell(stub, metadata={"tags": ["exercise"]}),
        new_code_cell(f'check("{number}", add)'),
    ]


def good_notebook():
    """Return a small chapter of which no guard complains."""
    card = "**Cost:** under a minute on 2 CPU cores · 0.7 GB of memory · downloads nothing"
    plot = new_code_cell("plt.plot([0, 1])\nplt.show()")
    plot.outputs = [stream("A line from 0 up to 1.\n"), new_output("display_data", FIGURE)]
    notebook = new_notebook(metadata={"kernelspec": KERNEL})
    notebook.cells = [
        new_markdown_cell("# A title", metadata={"slideshow": {"slide_type": "slide"}}),
        new_markdown_cell(card, metadata={"tags": ["cost-card"]}),
        new_code_cell(SETUP, metadata={"tags": ["setup"]}),
        new_markdown_cell("See [the title](#A-title) and `[no](link)` and $x[i](j)$."),
        plot,
        new_code_cell("assert 1 < 2"),
        *exercise("01.1"),
        *exercise("01.2"),
        *exercise("01.3"),
        new_markdown_cell("## Summary\n\nGood.\n\n## Sources\n\nNone."),
    ]
    return numbered(notebook)


def numbered(notebook):
    """Give cells what the normaliser would: execution counts and slide types."""
    for count, cell in enumerate(code_cells(notebook), 1):
        cell.execution_count = count
    for cell in notebook.cells:
        cell.metadata.setdefault("slideshow", {"slide_type": "-"})
    return notebook


def insert(*cells):
    """Return a change that puts ``cells`` behind the setup cell."""

    def change(notebook):
        notebook.cells[3:3] = cells
        numbered(notebook)

    return change


def insert_output(*outputs, source="print()"):
    return insert(new_code_cell(source, outputs=list(outputs)))


def at(index, **values):
    """Return a change that sets attributes of one cell."""
    return lambda notebook: notebook.cells[index].update(values)


def metadata_at(index, **values):
    return lambda notebook: notebook.cells[index].metadata.update(values)


def replace_exercise(**kwargs):
    def change(notebook):
        notebook.cells[6:9] = exercise("01.1", **kwargs)
        numbered(notebook)

    return change


def delete(index):
    def change(notebook):
        del notebook.cells[index]
        numbered(notebook)

    return change


def widget(plain, **data):
    return new_output("display_data", {"text/plain": plain} | data)


BAD = [
    (guards.execution_counts, at(5, execution_count=None), "not 1 to"),
    (guards.execution_counts, at(5, execution_count=9), "not 1 to"),
    (
        guards.errors_and_warnings,
        insert_output(new_output("error", ename="KeyError", evalue="", traceback=[])),
        "stored KeyError",
    ),
    (
        guards.errors_and_warnings,
        insert_output(stream("a warning", "stderr")),
        "stored stderr",
    ),
    (guards.machine_paths, insert_output(stream("in /home/me/x")), "/home/"),
    (guards.machine_paths, insert_output(stream(f"in {ROOT}/x")), str(ROOT)),
    (guards.machine_paths, insert(new_code_cell("open('/tmp/x')")), "/tmp/"),
    (guards.machine_paths, insert(new_markdown_cell("In C:\\data.")), "C:\\"),
    (
        guards.machine_paths,
        insert_output(new_output("display_data", {"text/html": "/root/x"})),
        "/root/",
    ),
    (guards.file_size, insert_output(stream("x" * 2**20)), "more than 1 MB"),
    (
        guards.kernel,
        lambda notebook: notebook.metadata.kernelspec.update(name="mine"),
        "not python3",
    ),
    (guards.cell_ids, lambda n: n.cells[1].update(id=n.cells[2].id), "not unique"),
    (guards.cell_ids, lambda n: n.cells[1].pop("id"), "missing"),
    (guards.setup_cell, at(2, source=SETUP + "\n"), "not the usual one"),
    (guards.setup_cell, delete(2), "no tag"),
    (guards.checked_by_nbval, metadata_at(5, tags=["nbval-skip"]), "hidden"),
    (guards.checked_by_nbval, at(5, source="# NBVAL_SKIP\n1"), "hidden"),
    (guards.code_length, insert(new_code_cell("\n" * 25 + "1")), "26 lines"),
    (
        guards.code_rhythm,
        insert(*[new_code_cell("1")] * 30),
        "pass 1",
    ),
    (guards.output_length, insert_output(stream("1\n" * 31)), "31 lines"),
    (
        guards.alt_texts,
        insert(new_markdown_cell("![short](figures/x.png)")),
        "no alt text for figures/x.png",
    ),
    (
        guards.alt_texts,
        insert(new_markdown_cell('<img src="figures/x.png">')),
        "no alt text for figures/x.png",
    ),
    (
        guards.alt_texts,
        insert_output(new_output("display_data", {"text/html": '<img src="x.png">'})),
        "no alt text for x.png",
    ),
    (
        guards.alt_texts,
        insert(new_markdown_cell("![a cat on a long sofa](https://a.org/x.png)")),
        "hot-linked",
    ),
    (guards.figures, lambda n: n.cells[4].outputs.pop(0), "no sentence"),
    (guards.figures, at(4, source="plt.show()\nax"), "must end in plt.show()"),
    (guards.figures, delete(5), "no assert"),
    (
        guards.figures,
        insert_output(new_output("display_data", {"image/svg+xml": "<svg/>"})),
        "SVG",
    ),
    (guards.widgets, insert_output(widget("HBox(children=())")), "live widget"),
    (
        guards.widgets,
        insert_output(new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}})),
        "live widget",
    ),
    (guards.links, insert(new_markdown_cell("[x](99_none.ipynb)")), "leads nowhere"),
    (guards.links, insert(new_markdown_cell("[x](#nothing)")), "no such heading"),
    (
        guards.links,
        insert(new_markdown_cell("[x](other.ipynb#Nothing)")),
        "no such heading",
    ),
    (
        guards.links,
        insert(new_markdown_cell("![a picture that is not there](none.png)")),
        "leads nowhere",
    ),
    (guards.cost_card, delete(1), "no cost card"),
    (guards.cost_card, at(1, source="**Cost:** little"), "no cost card"),
    (guards.slide_types, metadata_at(3, slideshow={}), "slide type None"),
    (
        guards.slide_types,
        metadata_at(0, slideshow={"slide_type": "skip"}),
        "no cell starts a slide",
    ),
    (guards.headings, delete(-1), '"Summary"'),
    (guards.headings, at(-1, source="## Summary\n\n```\n## Sources\n```"), '"Sources"'),
    (guards.exercises, lambda n: n.cells.__delitem__(slice(6, 9)), "not 3 to 6"),
    (guards.exercises, lambda n: n.cells.__delitem__(slice(6, 9)), "numbered 01.2"),
    (guards.exercises, replace_exercise(level="easy"), "*Difficulty"),
    (guards.exercises, replace_exercise(hint=""), "no hint"),
    (guards.exercises, metadata_at(7, tags=[]), 'no tag "exercise"'),
    (guards.exercises, at(7, source="add = None"), "does not raise"),
    (guards.exercises, at(8, source='check("01.2", add)'), "does not check it"),
    (guards.exercises, at(8, source="pass"), "do not match"),
    (guards.exercises, delete(8), "no stub cell and check cell"),
]


@pytest.fixture
def folder(tmp_path):
    """Return the folder of a notebook that has another one beside it."""
    nbformat.write(good_notebook(), tmp_path / "other.ipynb")
    return tmp_path


@pytest.mark.parametrize("guard", guards.GUARDS + guards.CHAPTER_GUARDS, ids=guard_name)
def test_guard_accepts_a_good_notebook(guard, folder):
    assert guard(good_notebook(), folder / "01_good.ipynb") == []


@pytest.mark.parametrize(("guard", "change", "complaint"), BAD)
def test_guard_complains(guard, change, complaint, folder):
    notebook = good_notebook()
    change(notebook)
    assert complaint in "\n".join(guard(notebook, folder / "01_bad.ipynb"))


def test_every_guard_is_seen_complaining():
    assert {guard for guard, *_ in BAD} == {*guards.GUARDS, *guards.CHAPTER_GUARDS}


def test_links_to_headings_of_other_files(folder):
    text = "[a](other.ipynb#A-title) [b](other.ipynb#a-title) [c](https://a.org/#x)"
    assert guards.broken_links(text, folder / "README.md") == []


def test_table_without_a_chapter():
    table = "| [01](notebooks/01_a.ipynb) |\n\n[02](notebooks/02_b.ipynb)"
    assert guards.missing_from_table(table, ["01_a.ipynb", "02_b.ipynb"]) == [
        "the table does not link to 02_b.ipynb"
    ]


# --- functions out of notebooks


def test_functions_and_exercises_come_without_running_the_rest(tmp_path):
    cells = [
        "import math\n%matplotlib inline\nFACTOR = 2",
        "raise RuntimeError",
        "def double(x):\n    return FACTOR * x",
        "def root(x):\n    return math.sqrt(double(x))\n\nroot(1)",
        "def stub(x):\n    if x:\n        raise NotImplementedError",
        'check("01.1", stub)\nassert check',
        'check("01.2", double)',
    ]
    path = tmp_path / "01_x.ipynb"
    nbformat.write(new_notebook(cells=[new_code_cell(cell) for cell in cells]), path)
    functions = functions_of(path)
    assert set(functions) == {"double", "root"}
    assert functions["root"](8) == 4
    exercises = exercises_of(path)
    assert {number: f.__name__ for number, f in exercises.items()} == {
        "01.1": "stub",
        "01.2": "double",
    }
