"""The scores that README and notebook 11 quote are those that benchmarks/results holds."""

import json
import re
from statistics import mean

import pytest
from notebook_tools import ROOT, read

RESULTS = json.loads((ROOT / "benchmarks" / "results" / "voc.json").read_text())
README = (ROOT / "README.md").read_text()
ROW = re.compile(
    r"^\|.*\| (?P<epochs>\d+) \| (?P<score>\.\d{3}) \((?P<seeds>\d)\) \|.*"
    r'`python benchmarks/voc\.py "(?P<name>[^"]+)"` \|$',
    re.MULTILINE,
)
QUARTER = ("FCN-32s", "FCN-16s", "FCN-8s", "decoder", "ResNet-18", "ResNet-50")
STEPS = {  # rows of notebook 11's table
    "FCN-8s over SqueezeNet, crops of 256 pixels, 12 epochs": "FCN-8s",
    "with fc6": "with fc6",
    "with fc6, 30 epochs": "30 epochs",
    "*beside the second row:* FCN-16s with fc6, 12 epochs": "FCN-16s",
    "FCN-32s with fc6, 12 epochs": "FCN-32s",
    "FCN-8s with fc6, 12 epochs, from random numbers": "random",
}


def scores(name: str) -> list[float]:
    """Return the mean IoU of a row's runs, one for each seed."""
    return [run["mean_iou"] for run in RESULTS[f"animals, {name}"].values()]


def quoted(said: str) -> list[float]:
    return [float(number) for number in re.findall(r"(?<![\d-])\.\d{3}", said)]


def same(numbers: list[float]) -> object:
    """Stored scores have four digits, quoted ones three."""
    return pytest.approx(numbers, abs=0.00055)


def test_the_rows_of_the_readme():
    rows = {row["name"]: row for row in ROW.finditer(README)}
    assert {f"animals, {name}" for name in STEPS.values()} == set(rows)
    for name, row in rows.items():
        found = scores(name.removeprefix("animals, "))
        assert [float(row["score"])] == same([mean(found)]), name
        assert int(row["seeds"]) == len(found), name
        commands = [run["command"] for run in RESULTS[name].values()]
        assert all(f"--epochs {row['epochs']} " in command for command in commands), name


def test_the_range_of_the_networks_a_quarter_as_wide():
    (line,) = (line for line in README.splitlines() if '"animals, quarter FCN-8s"' in line)
    found = [score for name in QUARTER for score in scores(f"quarter {name}")]
    assert quoted(line)[:2] == same([min(found), max(found)])
    assert len(found) == len(QUARTER)


def test_the_numbers_of_notebook_11():
    notebook = read(ROOT / "notebooks" / "11_pascal_voc.ipynb")
    (text,) = (cell.source for cell in notebook.cells if "| step | mIoU on the 454" in cell.source)
    cells = [line.strip("| ").split(" | ") for line in text.splitlines() if line.startswith("| ")]
    table = {step: quoted(numbers) for step, numbers in cells[1:]}
    assert set(table) == {*STEPS, "always background"}
    for step, name in STEPS.items():
        assert table[step] == same(scores(name)), step
    (line,) = (line for line in text.splitlines() if "begin with single shapes" in line)
    for name in QUARTER:
        (number,) = re.findall(rf"{name} (\.\d{{3}})", line)
        assert [float(number)] == same(scores(f"quarter {name}")), name
