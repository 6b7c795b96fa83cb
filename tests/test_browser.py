"""A reader's first minutes: clone, `make lab`, run the notebook in a browser."""

import os
import shutil
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from clone import clone_into
from playwright.sync_api import Page, sync_playwright

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
NOTEBOOKS = [
    "00_start_here.ipynb",
    "01_pixels_with_labels.ipynb",
    "02_transposed_convolution.ipynb",  # it has sliders
]
TOKEN = "reader"
# The first lets root run Chromium, the others keep it off the network.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="chromium is missing"),
]


def forget_outputs(path: Path) -> None:
    """Clear the stored results, so that what is saved later comes from this run."""
    notebook = nbformat.read(path, as_version=4)
    for cell in notebook.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
    nbformat.write(notebook, path)


def wait_until_up(server: subprocess.Popen[bytes], url: str, log: Path) -> None:
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # it is this machine
    for _ in range(1200):  # seconds: the first installation may be a slow download
        try:
            direct.open(url, timeout=10).close()
            return
        except urllib.error.URLError:
            assert server.poll() is None, log.read_text()
            time.sleep(1)
    pytest.fail(f"JupyterLab did not start:\n{log.read_text()}")


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone_into(tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def lab(clone: Path) -> Iterator[str]:
    """Run the real `make lab` in a fresh clone; give the address of the server."""
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    flags = (
        f"--no-browser --ServerApp.port={port} --IdentityProvider.token={TOKEN}"
        " --expose-app-in-browser"
    )
    log = clone.parent / "lab.log"
    # A configuration of its own: neither read nor write the settings of this user.
    settings = {"JUPYTER_CONFIG_DIR": str(clone.parent / "jupyter")}
    with log.open("wb") as output:
        server = subprocess.Popen(
            ["make", "lab", f"LAB_FLAGS={flags}"],
            cwd=clone,
            env=os.environ | settings,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
        )
    try:
        url = f"http://localhost:{port}"
        wait_until_up(server, f"{url}/api/status?token={TOKEN}", log)
        yield url
    finally:
        os.killpg(server.pid, signal.SIGTERM)  # JupyterLab then stops its kernels
        try:
            server.wait(timeout=60)
        finally:
            if server.poll() is None:
                os.killpg(server.pid, signal.SIGKILL)


def run_all_cells(page: Page) -> list[dict[str, Any]]:
    """Do what the course asks for in its first lines; return the code cells."""
    # The kernel must be there: without one, the menu asks for it instead.
    page.get_by_text("Python 3 (ipykernel) | Idle").wait_for(timeout=120_000)
    page.get_by_role("menuitem", name="Run", exact=True).click()
    page.get_by_role("menuitem", name="Restart Kernel and Run All Cells").click()
    page.locator("button.jp-mod-accept").click()
    # The page draws only the cells in view, so ask the document behind it.
    cells = """jupyterapp.shell.currentWidget.content.model.toJSON().cells.filter(
        cell => cell.cell_type == "code" && cell.source.length)"""
    page.wait_for_function(
        f"""() => {cells}.at(-1).execution_count ||
        {cells}.some(cell => cell.outputs.some(o => o.output_type == "error"))""",
        polling=1000,
        timeout=600_000,
    )
    return page.evaluate(cells)


@pytest.mark.parametrize("name", NOTEBOOKS)
def test_notebook_runs_in_the_browser(lab: str, clone: Path, tmp_path: Path, name: str) -> None:
    forget_outputs(clone / "notebooks" / name)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        try:
            page.goto(f"{lab}/lab/tree/notebooks/{name}?reset&token={TOKEN}")
            cells = run_all_cells(page)
        finally:
            page.screenshot(path=tmp_path / "last.png")
            browser.close()
    outputs = [output for cell in cells for output in cell["outputs"]]
    assert [o for o in outputs if o["output_type"] == "error"] == []
    assert [cell["execution_count"] for cell in cells] == list(range(1, len(cells) + 1))
