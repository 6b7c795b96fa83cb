"""Read the notebooks of the course, and take functions and exercises out of them."""

import ast
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
from IPython.core.inputtransformer2 import TransformerManager
from nbformat import NotebookNode

ROOT = Path(__file__).parents[1]
CHAPTERS = sorted((ROOT / "notebooks").glob("*.ipynb"))
SOLUTIONS = sorted((ROOT / "notebooks" / "solutions").glob("*.ipynb"))


def name(path: Path) -> str:
    """Return a notebook's name for a test's id: "01_pixels" or "solutions/01_pixels"."""
    return f"solutions/{path.stem}" if path.parent.name == "solutions" else path.stem


def read(path: Path) -> NotebookNode:
    return nbformat.read(path, as_version=4)


def code_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def markdown_cells(notebook: NotebookNode) -> list[NotebookNode]:
    return [cell for cell in notebook.cells if cell.cell_type == "markdown"]


def tags(cell: NotebookNode) -> list[str]:
    return cell.metadata.get("tags", [])


def prose(source: str) -> str:
    """Return Markdown without its blocks of code."""
    return re.sub(r"^(```|~~~).*?^\1", "", source, flags=re.M | re.S)


def functions_of(path: Path) -> dict[str, Callable[..., Any]]:
    """Return the functions and classes that a notebook builds, without exercise stubs.

    Only imports, definitions and assignments of plain literals (``VOID = 255``) run,
    so a function that leans on anything else that the notebook computed will fail.
    """
    notebook = read(path)
    namespace = _definitions(notebook)
    return {
        node.name: namespace[node.name]
        for node in _statements(notebook)
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and not is_stub(node)
    }


def exercises_of(path: Path) -> dict[str, Callable[..., Any]]:
    """Map exercise numbers to what the notebook hands to ``check``."""
    notebook = read(path)
    namespace = _definitions(notebook)
    return {number: namespace[name] for number, name in check_calls(notebook)}


def check_calls(notebook: NotebookNode) -> list[tuple[str, str]]:
    """Return (number, function's name) of each ``check("01.2", name)`` in a notebook."""
    calls = []
    for node in _statements(notebook):
        match node:
            case ast.Expr(ast.Call(ast.Name("check"), [ast.Constant(number), ast.Name(name)])):
                calls.append((number, name))
    return calls


def is_stub(node: ast.stmt) -> bool:
    """Tell whether a definition is an exercise: it raises NotImplementedError."""
    return isinstance(node, ast.FunctionDef | ast.ClassDef) and any(
        isinstance(part, ast.Raise) and "NotImplementedError" in ast.unparse(part)
        for part in ast.walk(node)
    )


def _statements(notebook: NotebookNode) -> Iterator[ast.stmt]:
    for cell in code_cells(notebook):
        plain = TransformerManager().transform_cell(cell.source)  # no magics
        yield from ast.parse(plain).body


def _definitions(notebook: NotebookNode) -> dict[str, Any]:
    wanted = [node for node in _statements(notebook) if _is_definition(node)]
    namespace: dict[str, Any] = {"__name__": "notebook"}
    exec(compile(ast.Module(wanted, []), "notebook", "exec"), namespace)
    return namespace


def _is_definition(node: ast.stmt) -> bool:
    kinds = ast.Import | ast.ImportFrom | ast.FunctionDef | ast.ClassDef
    return isinstance(node, kinds) or _is_constant(node)


def _is_constant(node: ast.stmt) -> bool:
    if not isinstance(node, ast.Assign) or not isinstance(node.targets[0], ast.Name):
        return False  # also `x[0] = 1`, whose x may be computed
    try:
        ast.literal_eval(node.value)
    except ValueError:
        return False
    return True
