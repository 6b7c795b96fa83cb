"""What every notebook must keep to: each guard returns its complaints, in plain words.

A guard takes the notebook and the path that it has or would have. ``GUARDS`` are for
all notebooks, ``CHAPTER_GUARDS`` only for chapters, not for their solutions.
"""

import re
import statistics
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote

import nbformat
from nbformat import NotebookNode
from notebook_tools import (
    ROOT,
    check_calls,
    code_cells,
    markdown_cells,
    prose,
    tags,
)

from fcnlib.course.notebooks import KERNEL, SETUP

MACHINE_PATH = re.compile(rf"{re.escape(str(ROOT))}|/home/|/Users/|/root/|/tmp/|C:\\")
PICTURE = re.compile(r"!\[([^\]]*)\]\(\s*<?([^)\s>]+)")
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(\s*<?([^)\s>]+)")
WIDGET = re.compile(r"(\w*(Box|Slider|Button|Dropdown)|Output|Play|Tab|interactive)\(")


# --- how a notebook is stored


def execution_counts(notebook: NotebookNode, path: Path) -> list[str]:
    counts = [cell.execution_count for cell in code_cells(notebook)]
    if counts != list(range(1, len(counts) + 1)):
        return [f"execution counts are {counts}, not 1 to {len(counts)}: run it again"]
    return []


def errors_and_warnings(notebook: NotebookNode, path: Path) -> list[str]:
    return [
        f"code cell {number}: stored {output.get('ename', 'stderr')}"
        for number, output in _outputs(notebook)
        if output.output_type == "error" or output.get("name") == "stderr"
    ]


def machine_paths(notebook: NotebookNode, path: Path) -> list[str]:
    texts = [(f"cell {n}", cell.source) for n, cell in enumerate(notebook.cells, 1)]
    texts += [
        (f"the output of code cell {number}", text)
        for number, output in _outputs(notebook)
        for text in _texts(output)
    ]
    return [
        f"{where} holds the machine path {found[0]}"
        for where, text in texts
        if (found := MACHINE_PATH.search(text))
    ]


def file_size(notebook: NotebookNode, path: Path) -> list[str]:
    size = len(nbformat.writes(notebook).encode()) / 2**20
    return [f"{size:.1f} MB, more than 1 MB"] if size > 1 else []


def kernel(notebook: NotebookNode, path: Path) -> list[str]:
    if notebook.metadata.get("kernelspec") != KERNEL:
        return [f"the kernel is {notebook.metadata.get('kernelspec')}, not python3"]
    return []


def cell_ids(notebook: NotebookNode, path: Path) -> list[str]:
    ids = [cell.get("id") for cell in notebook.cells]
    if None in ids or len(set(ids)) < len(ids):
        return ["cell ids are missing or not unique"]
    return []


def setup_cell(notebook: NotebookNode, path: Path) -> list[str]:
    first = code_cells(notebook)[:1]
    if not first or "setup" not in tags(first[0]):
        return ['the first code cell has no tag "setup"']
    return [] if first[0].source == SETUP else ["the setup cell is not the usual one"]


def checked_by_nbval(notebook: NotebookNode, path: Path) -> list[str]:
    return [
        f"code cell {number} is hidden from nbval"
        for number, cell in enumerate(code_cells(notebook), 1)
        if "nbval-skip" in tags(cell) or "NBVAL_SKIP" in cell.source
    ]


# --- pacing


def code_length(notebook: NotebookNode, path: Path) -> list[str]:
    return [
        f"code cell {number} has {lines} lines, more than 25"
        for number, cell in enumerate(code_cells(notebook), 1)
        if (lines := len(cell.source.splitlines())) > 25
    ]


def code_rhythm(notebook: NotebookNode, path: Path) -> list[str]:
    lengths = [
        sum(1 for line in cell.source.splitlines() if line.strip()) for cell in code_cells(notebook)
    ]
    if len(lengths) > 20 and not 3 <= statistics.median(lengths) <= 9:
        return [f"half of the code cells pass {statistics.median(lengths)} lines"]
    return []


def output_length(notebook: NotebookNode, path: Path) -> list[str]:
    complaints = []
    for number, output in _outputs(notebook):
        text = output.get("text", "") + output.get("data", {}).get("text/plain", "")
        if (lines := len(text.splitlines())) > 30:
            complaints.append(f"code cell {number} prints {lines} lines, more than 30")
    return complaints


# --- pictures


def alt_texts(notebook: NotebookNode, path: Path) -> list[str]:
    """Every picture needs a description of 15 characters and a local file."""
    complaints = []
    for number, text in _pages(notebook):
        pictures = PICTURE.findall(text)
        for tag in re.findall(r"<img\b[^>]*>", text):
            pictures.append((_attribute(tag, "alt"), _attribute(tag, "src")))
        for alt, source in pictures:
            if len(alt.strip()) < 15:
                complaints.append(f"cell {number}: no alt text for {source[:60]}")
            if re.match("https?:|//", source) and "badge" not in source:
                complaints.append(f"cell {number}: hot-linked picture {source}")
    return complaints


def figures(notebook: NotebookNode, path: Path) -> list[str]:
    """A figure needs a sentence beside it, plt.show() at the end, an assert after."""
    complaints = []
    cells = code_cells(notebook)
    for number, cell in enumerate(cells, 1):
        if any("image/svg+xml" in output.get("data", {}) for output in cell.outputs):
            complaints.append(f"code cell {number}: SVG, which nbval compares; use PNG")
        shown = [output for output in cell.outputs if _is_picture(output)]
        if shown and not _described(cell):
            complaints.append(f"code cell {number}: no sentence describes the figure")
        if not any("<Figure" in _plain(output) for output in shown):
            continue
        if cell.source.rstrip().rpartition("\n")[2] != "plt.show()":
            complaints.append(f"code cell {number}: a plot must end in plt.show()")
        after = cells[number].source if number < len(cells) else ""
        if not re.search(r"^\s*assert\b", after, re.M):
            complaints.append(f"code cell {number}: no assert follows the figure")
    return complaints


def widgets(notebook: NotebookNode, path: Path) -> list[str]:
    return [
        f"code cell {number}: an output that only a live widget shows"
        for number, output in _outputs(notebook)
        if (kinds := set(output.get("data", {})))
        and (
            kinds <= {"application/vnd.jupyter.widget-view+json"}
            or (not _is_picture(output) and WIDGET.match(_plain(output)))
        )
    ]


def _is_picture(output: NotebookNode) -> bool:
    return any(kind.startswith("image/") for kind in output.get("data", {}))


def _described(cell: NotebookNode) -> bool:
    sentences = [output.text for output in cell.outputs if output.get("name") == "stdout"]
    alts = [_alt(output) for output in cell.outputs if _is_picture(output)]
    return any(len(text.strip()) >= 20 for text in sentences) or all(alts)


def _alt(output: NotebookNode) -> str:
    metadata = output.metadata
    return metadata.get("alt") or metadata.get("image/png", {}).get("alt", "")


# --- links


def links(notebook: NotebookNode, path: Path) -> list[str]:
    return broken_links("\n\n".join(_prose_cells(notebook)), path)


def broken_links(text: str, path: Path) -> list[str]:
    """Complain of local links and pictures in ``text``, Markdown that lies at ``path``."""
    complaints = []
    body = _without_formulas(text)
    pictures = [source for _, source in PICTURE.findall(body)]
    pictures += [_attribute(tag, "src") for tag in re.findall(r"<img\b[^>]*>", body)]
    for target in LINK.findall(body) + pictures:
        if re.match(r"[a-z]+:|//", target):  # an address, or attachment:picture.png
            continue
        address, _, fragment = unquote(target).partition("#")
        file = (path.parent / address) if address else path
        if address and not file.exists():
            complaints.append(f"the link to {target} leads nowhere")
        elif fragment and fragment not in _anchors(text if not address else file):
            complaints.append(f"the link to {target} finds no such heading")
    return complaints


def _anchors(page: str | Path) -> set[str]:
    """Return the anchors of a page, as JupyterLab and as GitHub spell them."""
    if isinstance(page, Path):
        if page.suffix == ".ipynb":
            notebook = nbformat.read(page, as_version=4)
            page = "\n\n".join(_prose_cells(notebook))
        else:
            page = prose(page.read_text(encoding="utf-8"))
    anchors = set(re.findall(r"""\b(?:id|name)=["']([^"']+)""", page))
    for heading in re.findall(r"^#{1,6} +(.+?) *$", page, re.M):
        anchors.add(heading.replace("`", "").replace(" ", "-"))
        anchors.add(re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-"))
    return anchors


def missing_from_table(text: str, names: list[str]) -> list[str]:
    """Complain of notebooks that no row of a Markdown table in ``text`` links to."""
    rows = "\n".join(line for line in text.splitlines() if line.startswith("|"))
    linked = {unquote(target).rpartition("/")[2] for target in LINK.findall(rows)}
    return [f"the table does not link to {name}" for name in names if name not in linked]


# --- what a chapter is made of


def cost_card(notebook: NotebookNode, path: Path) -> list[str]:
    cards = [c.source for c in markdown_cells(notebook) if "cost-card" in tags(c)]
    form = r"\*\*Cost:\*\* .* on \d+ CPU cores · [\d.]+ GB of memory · downloads .+"
    if len(cards) != 1 or not re.fullmatch(form, cards[0]):
        return ['there is no cost card: one Markdown cell tagged "cost-card", measured']
    return []


def slide_types(notebook: NotebookNode, path: Path) -> list[str]:
    kinds = [cell.metadata.get("slideshow", {}).get("slide_type") for cell in notebook.cells]
    known = {"slide", "subslide", "fragment", "skip", "notes", "-"}
    complaints = [
        f"cell {number} has the slide type {kind}"
        for number, kind in enumerate(kinds, 1)
        if kind not in known
    ]
    if "slide" not in kinds:
        complaints.append("no cell starts a slide")
    return complaints


def headings(notebook: NotebookNode, path: Path) -> list[str]:
    text = "\n\n".join(_prose_cells(notebook))
    return [
        f'there is no heading "{heading}"'
        for heading in ("Summary", "Sources")
        if not re.search(rf"^#+ {heading}\s*$", text, re.M)
    ]


def exercises(notebook: NotebookNode, path: Path) -> list[str]:
    """There are 3 to 6, each a text, a stub and a check, in cells that follow on."""
    cells, complaints, numbers = notebook.cells, [], []
    for index, cell in enumerate(cells):
        title = re.match(r"### Exercise (\d\d\.\d+): \S", cell.source)
        if cell.cell_type == "markdown" and title:
            numbers.append(title[1])
            complaints += _exercise(title[1], *cells[index : index + 3])
    chapter = path.name[:2]
    if not 3 <= len(numbers) <= 6:
        complaints.append(f"{len(numbers)} exercises, not 3 to 6")
    if numbers != [f"{chapter}.{count}" for count in range(1, len(numbers) + 1)]:
        complaints.append(f"the exercises are numbered {', '.join(numbers)}")
    if numbers != [number for number, _ in check_calls(notebook)]:
        complaints.append("exercises and calls of check do not match")
    return complaints


def _exercise(number: str, text: NotebookNode, *code: NotebookNode) -> list[str]:
    complaints = []
    if not re.search(r"^\*Difficulty: \w+ · \d+ minutes\*$", text.source, re.M):
        complaints.append("no line *Difficulty: easy · 5 minutes*")
    if not re.search(r"<details>\s*<summary>Hint</summary>.+</details>", text.source, re.S):
        complaints.append("no hint in <details>")
    if len(code) < 2 or {cell.cell_type for cell in code} != {"code"}:
        complaints.append("no stub cell and check cell behind the text")
    else:
        if "exercise" not in tags(code[0]):
            complaints.append('the stub cell has no tag "exercise"')
        if "raise NotImplementedError" not in code[0].source:
            complaints.append("the stub cell does not raise NotImplementedError")
        if f'check("{number}", ' not in code[1].source:
            complaints.append("the cell behind the stub does not check it")
    return [f"exercise {number}: {complaint}" for complaint in complaints]


# --- looking into cells


def _outputs(notebook: NotebookNode) -> Iterator[tuple[int, NotebookNode]]:
    for number, cell in enumerate(code_cells(notebook), 1):
        for output in cell.outputs:
            yield number, output


def _texts(output: NotebookNode) -> Iterator[str]:
    yield output.get("text", "")
    for kind, value in output.get("data", {}).items():
        if not kind.startswith("image/"):
            yield str(value)


def _plain(output: NotebookNode) -> str:
    return output.get("data", {}).get("text/plain", "")


def _prose_cells(notebook: NotebookNode) -> list[str]:
    return [prose(cell.source) for cell in markdown_cells(notebook)]


def _pages(notebook: NotebookNode) -> Iterator[tuple[int, str]]:
    """Yield what shows pictures by Markdown or HTML: text cells and HTML outputs."""
    for number, cell in enumerate(notebook.cells, 1):
        if cell.cell_type == "markdown":
            yield number, _without_formulas(prose(cell.source))
        for output in cell.get("outputs", []):
            yield number, output.get("data", {}).get("text/html", "")


def _without_formulas(text: str) -> str:
    """Drop inline code and formulas, where `[i](j)` is no link."""
    return re.sub(r"`[^`\n]*`|\$\$.*?\$\$|\$[^$\n]+\$", "", text, flags=re.S)


def _attribute(tag: str, name: str) -> str:
    found = re.search(rf"""\b{name}=["']([^"']*)""", tag)
    return found[1] if found else ""


GUARDS = (
    execution_counts,
    errors_and_warnings,
    machine_paths,
    file_size,
    kernel,
    cell_ids,
    setup_cell,
    checked_by_nbval,
    code_length,
    output_length,
    alt_texts,
    figures,
    widgets,
    links,
)
CHAPTER_GUARDS = (code_rhythm, cost_card, slide_types, headings, exercises)
