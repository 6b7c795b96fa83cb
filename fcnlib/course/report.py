"""The environment report: what is here, and what to do where something is missing."""

import os
import platform
import sys
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

from fcnlib.errors import DataError


@dataclass
class Finding:
    """One line of the report. ``ok`` is False where the course cannot run as it is."""

    name: str
    value: str
    ok: bool = True
    advice: str = ""

    def __str__(self) -> str:
        line = f"{'OK ' if self.ok else 'NO '} {self.name:<12} {self.value}"
        return f"{line}: {self.advice}" if self.advice else line


def environment_report() -> list[Finding]:
    """Return the findings on Python, packages, cores, memory, GPU, bf16 and data.

    While Python or a package is not as it should be, the report ends there: the rest is
    found out with the packages.
    """
    findings = [_python(), *_packages()]
    if all(finding.ok for finding in findings):
        findings += _machine()
    return findings


def _machine() -> list[Finding]:
    try:
        import torch  # noqa: F401
        import torchvision  # noqa: F401
    except (ImportError, OSError, RuntimeError) as error:  # a library that is missing, or another's
        return [
            Finding(
                "torch",
                f"does not import ({error})",
                False,
                "install both again: pip install --force-reinstall torch torchvision",
            )
        ]
    return [_cores(), _memory(), _gpu(), _bf16(), *_data()]


def _python() -> Finding:
    ok = sys.version_info >= (3, 11)
    advice = "" if ok else "install Python 3.11 or newer, then set the course up again"
    return Finding("Python", platform.python_version(), ok, advice)


def _packages() -> list[Finding]:
    """Compare what fcnlib and the notebooks ask for with what is here.

    Colab has its own server, so JupyterLab is not asked for there.
    """
    on_colab = "COLAB_RELEASE_TAG" in os.environ
    extras = ("", "notebooks") if on_colab else ("", "notebooks", "lab")
    try:
        needs = metadata.requires("fcnlib") or []
    except metadata.PackageNotFoundError:
        return [Finding("fcnlib", "not installed", False, "in its folder: pip install -e .")]
    findings = []
    for line in needs:
        need = Requirement(line)
        if need.marker and not any(need.marker.evaluate({"extra": extra}) for extra in extras):
            continue
        try:
            version = metadata.version(need.name)
        except metadata.PackageNotFoundError:
            version = "missing"
        ok = version != "missing" and need.specifier.contains(version, prereleases=True)
        advice = "" if ok else f'needs {need.specifier}: pip install "{need.name}{need.specifier}"'
        findings.append(Finding(need.name, version, ok, advice))
    return findings


def _cores() -> Finding:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    advice = "" if (cores or 1) > 1 else "the times on the cost cards are for 2; expect twice"
    return Finding("cores", str(cores), advice=advice)


def _memory() -> Finding:
    import psutil

    gigabytes = psutil.virtual_memory().total / 2**30
    advice = "" if gigabytes > 3.5 else "close other programs; the course wants 4 GB"
    return Finding("memory", f"{gigabytes:.1f} GB", advice=advice)


def _gpu() -> Finding:
    import torch

    if torch.cuda.is_available():
        gigabytes = torch.cuda.get_device_properties(0).total_memory / 2**30
        return Finding("GPU", f"{torch.cuda.get_device_name(0)}, {gigabytes:.0f} GB")
    if torch.backends.mps.is_available():
        return Finding("GPU", "Apple (MPS)")
    return Finding("GPU", "none", advice="fine for the course; for full VOC training use Colab")


def _bf16() -> Finding:
    import torch

    from fcnlib.precision import auto_dtype

    kind = torch.accelerator.current_accelerator(check_available=True) or "cpu"
    fast = auto_dtype(kind) == torch.bfloat16
    advice = "" if fast else "fine; training uses float32 here"
    return Finding("bf16", "in hardware" if fast else "not in hardware", advice=advice)


def _data() -> list[Finding]:
    from fcnlib.data import data_dir, find_voc

    drawn = (data_dir() / "shapes-0").is_dir()
    shapes = Finding(
        "shapes",
        "drawn" if drawn else "not drawn yet",
        advice="" if drawn else "the first notebook draws them, or: fcn data shapes",
    )
    try:
        root = find_voc()
    except DataError as error:
        return [shapes, Finding("VOC 2012", "not found", ok=False, advice=str(error))]
    if root is None:
        advice = "fine; for real pictures: fcn data voc"
        return [shapes, Finding("VOC 2012", "not found", advice=advice)]
    return [shapes, Finding("VOC 2012", f"found in {_short(root)}")]


def _short(path: Path) -> str:
    """Name a path without the reader's home folder."""
    path = path.resolve()
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
