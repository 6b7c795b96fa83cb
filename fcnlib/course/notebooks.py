"""Re-execute the notebooks of the course and store them in one fixed form.

Run it as ``python -m fcnlib.course.notebooks [FILE ...]``; without a file it takes
every notebook. Twice in a row gives the same bytes, unless an output really changed.
"""

import argparse
import hashlib
import math
import os
import re
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Event
from typing import NamedTuple

import nbformat
import psutil
from nbclient import NotebookClient
from nbclient.exceptions import (
    CellExecutionError,
    CellTimeoutError,
    DeadKernelError,
)
from nbformat import NotebookNode
from tqdm import tqdm

FOLDER = Path(__file__).parents[2] / "notebooks"

CELL_LIMIT = 600
"""Seconds that one cell may take."""

SETUP = """\
import importlib.util
import os
import sys

if importlib.util.find_spec("fcnlib") is None:  # Colab opens this file alone
    if not os.path.isdir("fcn-course/fcnlib"):
        address = os.environ.get("FCN_COURSE") or input("Address for git clone: ")
        !git clone --quiet --depth 1 "{address}" fcn-course
    assert os.path.isdir("fcn-course/fcnlib"), "That address has no course."
    %pip install --quiet --editable "./fcn-course[notebooks]"
    sys.path.insert(0, os.path.abspath("fcn-course"))

from fcnlib.course import check, setup

setup()"""
"""The first code cell of every notebook, tagged "setup"."""

KERNEL = {"display_name": "Python 3", "language": "python", "name": "python3"}


class NotebookError(Exception):
    """A notebook that cannot be read or run; the text is one sentence for the user."""


class Cost(NamedTuple):
    """What one run of a notebook took."""

    seconds: float
    gigabytes: float


def run(notebook: NotebookNode, folder: Path) -> Cost:
    """Execute all cells in ``folder``, storing outputs in ``notebook``; measure it.

    Real PASCAL VOC is hidden, so that outputs do not depend on what the machine has.
    Raises NotebookError when a cell raises, takes too long, or kills the kernel.
    """
    client = NotebookClient(
        notebook,
        kernel_name=KERNEL["name"],
        timeout=CELL_LIMIT,
        record_timing=False,
        extra_arguments=["--log-level=ERROR"],
        resources={"metadata": {"path": str(folder)}},
    )
    start, stop = time.perf_counter(), Event()
    with ThreadPoolExecutor(max_workers=1) as watcher:
        peak = watcher.submit(_peak_memory, stop)
        try:
            client.execute(env={**os.environ, "FCN_VOC": "none"})
        except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
            where = f"code cell {client.code_cells_executed}"
            raise NotebookError(f"{where} {_what_failed(error)}") from error
        finally:
            stop.set()
    return Cost(time.perf_counter() - start, peak.result())


def _what_failed(error: Exception) -> str:
    if isinstance(error, CellTimeoutError):
        return f"took more than {CELL_LIMIT} seconds."
    if isinstance(error, CellExecutionError):
        return f"raised {error.ename}: {error.evalue.strip().partition(chr(10))[0]}"
    return "killed the kernel, perhaps for lack of memory."


def _peak_memory(stop: Event) -> float:
    """Return the most memory, in GB, that our child processes held until ``stop``."""
    most = 0
    while not stop.wait(0.2):  # more often, looking would slow the kernel
        children = psutil.Process().children(recursive=True)
        most = max(most, sum(_memory(child) for child in children))
    return most / 1e9


def _memory(process: psutil.Process) -> int:
    """Return a process's bytes: all of a kernel's, but only the own ones of workers.

    A forked DataLoader worker shares most pages with its kernel; they count once.
    """
    try:
        if process.ppid() == os.getpid():
            return process.memory_info().rss
        return process.memory_full_info().uss
    except psutil.Error:  # it has just ended
        return 0


def normalise(notebook: NotebookNode) -> None:
    """Bring an executed notebook into the fixed form, in place.

    A cell keeps its tags and its slide type; without one it is skipped in a lecture.
    """
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    notebook.metadata = nbformat.from_dict(
        {
            "fcn": {"download": "nothing"} | notebook.metadata.get("fcn", {}),
            "kernelspec": KERNEL,
            "language_info": {"name": "python"},
        }
    )
    seen: set[str] = set()
    executed = 0
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        slide = cell.metadata.get("slideshow", {}).get("slide_type", "skip")
        metadata = {"slideshow": {"slide_type": slide}} | ({"tags": tags} if tags else {})
        cell.metadata = nbformat.from_dict(metadata)
        cell.id = _cell_id(cell.source, seen)
        if cell.cell_type == "code":
            executed += 1
            cell.execution_count = executed
            cell.outputs = _normalised_outputs(cell.outputs, executed)


def _cell_id(source: str, seen: set[str]) -> str:
    """Return an id made from the source, so that it outlives changes of other cells."""
    text = source
    while (name := hashlib.sha256(text.encode()).hexdigest()[:8]) in seen:
        text += "\nagain"  # the same source once more
    seen.add(name)
    return name


def _normalised_outputs(outputs: list[NotebookNode], count: int) -> list[NotebookNode]:
    """Merge neighbouring streams; drop what differs from run to run."""
    kept: list[NotebookNode] = []
    for output in outputs:
        if output.output_type == "stream":
            if kept and kept[-1].get("name") == output.name:
                kept[-1].text += output.text
                continue
        elif output.output_type == "execute_result":
            output.execution_count = count
        # A widget's id is random, and its view is dead in a stored notebook.
        output.get("data", {}).pop("application/vnd.jupyter.widget-view+json", None)
        kept.append(output)
    return kept


def cost_card(cost: Cost, download: str, before: str) -> str:
    """Return the text of a cost card.

    The numbers of the card ``before`` stay while they are right within 0.1 GB and a
    quarter of a minute: noise must not change a notebook.
    """
    minutes = max(1, math.ceil(cost.seconds / 60))
    gigabytes = round(cost.gigabytes, 1)
    if old := re.search(r"(under a|about \d+) minute.* ([\d.]+) GB", before):
        old_minutes = int("".join(re.findall(r"\d", old[1])) or 1)
        if old_minutes - 1.25 < cost.seconds / 60 <= old_minutes + 0.25:
            minutes = old_minutes
        if abs(float(old[2]) - cost.gigabytes) <= 0.1:
            gigabytes = float(old[2])
    duration = "under a minute" if minutes == 1 else f"about {minutes} minutes"
    return (
        f"**Cost:** {duration} on {os.cpu_count()} CPU cores · "
        f"{gigabytes:.1f} GB of memory · downloads {download}"
    )


def remake(path: Path) -> None:
    """Execute the notebook at ``path`` in its folder and store it in the fixed form.

    The file changes only at the end and at once; after a failure it is as it was.
    """
    try:
        before = path.read_text(encoding="utf-8")
        notebook = nbformat.reads(before, as_version=4)
        for cell in notebook.cells:
            if "setup" in cell.metadata.get("tags", []):
                cell.source = SETUP
        cost = run(notebook, path.parent)
    except OSError as error:
        raise NotebookError(f"{path} cannot be read: {error.strerror}.") from error
    except nbformat.reader.NotJSONError as error:
        raise NotebookError(f"{path} is not a notebook.") from error
    except NotebookError as error:
        raise NotebookError(f"{path}: {error}") from error
    for cell in notebook.cells:
        if "cost-card" in cell.metadata.get("tags", []):
            download = notebook.metadata.get("fcn", {}).get("download", "nothing")
            cell.source = cost_card(cost, download, cell.source)
    normalise(notebook)
    nbformat.validate(notebook)
    after = nbformat.writes(notebook) + "\n"
    if after != before:
        beside = path.with_name(f".{path.name}.{os.getpid()}")
        beside.write_text(after, encoding="utf-8")
        beside.replace(path)


def main() -> int:
    """Remake the notebooks given on the command line, or all; return the status."""
    parser = argparse.ArgumentParser(
        prog="python -m fcnlib.course.notebooks",
        description="Re-execute notebooks and store them in one fixed form.",
    )
    parser.add_argument("files", metavar="FILE", nargs="*", type=Path)
    files = parser.parse_args().files or [
        *sorted(FOLDER.glob("*.ipynb")),
        *sorted(FOLDER.glob("solutions/*.ipynb")),
    ]
    progress = tqdm(files, unit="notebook")
    for path in progress:
        progress.set_postfix_str(path.name)
        try:
            remake(path)
        except NotebookError as error:
            progress.close()
            print(error, file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
