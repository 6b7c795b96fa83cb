"""Make what a fresh clone holds, without what was built in this checkout."""

import shutil
import subprocess
from pathlib import Path

ROOT = Path(__file__).parents[1]


def clone_into(folder: Path) -> Path:
    """Copy every file that git tracks or would track; the path has spaces in it."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    clone = folder / "a fresh clone"
    for name in listed.stdout.split("\0"):
        if (ROOT / name).is_file():
            (clone / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, clone / name)
    return clone
