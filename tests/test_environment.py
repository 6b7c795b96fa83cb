"""The three descriptions of the environment agree, and each of them works."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from clone import clone_into
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
LOCK = (ROOT / "requirements.lock").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return clone_into(tmp_path_factory.mktemp("environment"))


def declared() -> list[str]:
    """Return what pyproject.toml asks for: dependencies, then extras."""
    project = PROJECT["project"]
    extras = project["optional-dependencies"].values()
    return project["dependencies"] + [name for extra in extras for name in extra]


def conda_pip_list() -> list[str]:
    environment = yaml.safe_load((ROOT / "environment.yml").read_text())
    return next(d["pip"] for d in environment["dependencies"] if isinstance(d, dict))


def test_environment_yml_lists_what_pyproject_declares() -> None:
    assert sorted(conda_pip_list()) == sorted(["-e .", *declared()])


def test_lock_satisfies_pyproject() -> None:
    locked: dict[str, list[Version]] = {}
    for name, version in re.findall(r"^([\w.-]+)==([\w.!+-]+)", LOCK, re.MULTILINE):
        locked.setdefault(canonicalize_name(name), []).append(Version(version))
    for text in declared() + PROJECT["dependency-groups"]["setup"]:
        requirement = Requirement(text)
        versions = locked.get(canonicalize_name(requirement.name), [])
        assert versions, f"{text} is not in requirements.lock: run `make lock`"
        for version in versions:
            assert requirement.specifier.contains(version, prereleases=True), text


def test_lock_has_hashes_and_names_no_place() -> None:
    entries = [e for e in re.split(r"\n(?=\S)", LOCK) if not e.startswith("#")]
    assert len(entries) > 100
    for entry in entries:
        assert re.search(r"--hash=sha256:[0-9a-f]{64}\b", entry), entry
    assert not re.search(r"://|[ =]/|@|index-url|find-links", LOCK)


def make(clone: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    # Without MAKEFLAGS and MAKELEVEL: these tests may run under a `make` themselves.
    environment = {k: v for k, v in os.environ.items() if not k.startswith("MAKE")}
    return subprocess.run(
        ["make", *arguments], cwd=clone, env=environment, capture_output=True, text=True
    )


def test_setup_runs_once_and_again_after_a_change(clone: Path) -> None:
    stamp = clone / ".venv" / "ready"
    stamp.parent.mkdir()
    assert "venv --clear" in make(clone, "-n", "lab").stdout
    stamp.touch()
    assert make(clone, "-q", ".venv/ready").returncode == 0
    assert "pip" not in make(clone, "-n", "lab").stdout
    os.utime(stamp, (0, 0))  # older than the lock
    assert "uv pip sync" in make(clone, "-n", "lab").stdout


@pytest.mark.parametrize(
    ("script", "sentence"),
    [
        ("exit 127", "does not run here"),
        (
            """exec "$PYTHON" -c "import sys; sys.version_info = (3, 8, 1)
if sys.argv[1] == '-c': exec(sys.argv[2])" "$@" """,
            "is Python 3.8, which is too old",
        ),
        ('case "$*" in *venv*) exit 1; esac', "apt install python3-venv"),
    ],
    ids=["missing", "old", "without-venv"],
)
def test_unusable_python_is_named_in_one_sentence(
    clone: Path, tmp_path: Path, script: str, sentence: str
) -> None:
    fake = tmp_path / "python"
    fake.write_text(f"#!/bin/sh\nPYTHON={sys.executable}\n{script}\n")
    fake.chmod(0o755)
    (clone / ".venv" / "ready").unlink(missing_ok=True)
    result = make(clone, "lab", f"PYTHON={fake}")
    first, last = result.stderr.splitlines()
    assert sentence in first
    assert last.startswith("make: ***")
    assert "Setting up" not in result.stdout


@pytest.mark.slow
def test_environment_yml_installs_with_pip(clone: Path, tmp_path: Path) -> None:
    # As conda does it, the list as a file beside environment.yml; but not compiled,
    # which takes a quarter of the time and proves nothing.
    (clone / "conda-list.txt").write_text("\n".join(conda_pip_list()))
    subprocess.run([sys.executable, "-m", "venv", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv" / "bin" / "python")
    install = [python, "-m", "pip", "install", "-q", "--no-compile", "-U", "-r", "conda-list.txt"]
    subprocess.run(install, cwd=clone, check=True)
    subprocess.run([python, "-m", "pip", "check"], check=True)
    imports = (
        "import torch, torchvision, jupyterlab, matplotlib, nbval, PIL, fcnlib\n"
        "from d2l import torch as d2l\n"
        "print(fcnlib.__file__)"
    )
    result = subprocess.run(
        [python, "-c", imports],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert Path(result.stdout.strip()).is_relative_to(clone.resolve())
