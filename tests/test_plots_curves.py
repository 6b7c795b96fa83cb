"""Curves: what the log says, and one line per run."""

import json
import math
from pathlib import Path

import pytest
from matplotlib import pyplot as plt

from fcnlib.errors import RunError
from fcnlib.plots.curves import show_curves


def record(epoch: int, loss: float, score: float | None = None, baseline: float = 0.1) -> dict:
    scored = {"mean_iou": score, "baseline": {"always": "background", "mean_iou": baseline}}
    return {"epoch": epoch, "loss": loss} | (scored if score is not None else {})


def run(folder: Path, *records: dict) -> Path:
    folder.mkdir(parents=True)
    (folder / "log.jsonl").write_text("".join(json.dumps(record) + "\n" for record in records))
    return folder


def points(axis) -> dict[str, list[tuple[float, float]]]:
    """The lines that the legend names."""
    named = set(axis.get_legend_handles_labels()[1])
    return {
        line.get_label(): list(zip(*line.get_data(), strict=True))
        for line in axis.get_lines()
        if line.get_label() in named
    }


def test_two_runs(tmp_path):
    first = run(tmp_path / "coarse", record(1, 3.0), record(2, 2.0, 0.25), record(3, 1.5, 0.5))
    second = run(tmp_path / "fine", record(1, 2.5, 0.3))
    loss, score = show_curves([first, str(second)]).axes
    assert points(loss) == {"coarse": [(1, 3.0), (2, 2.0), (3, 1.5)], "fine": [(1, 2.5)]}
    assert points(score) == {"coarse": [(2, 0.25), (3, 0.5)], "fine": [(1, 0.3)]}
    assert len({line.get_color() for line in loss.get_lines()}) == 2
    for axis in (loss, score):
        assert [text.get_text() for text in axis.get_legend().get_texts()] == ["coarse", "fine"]
        assert axis.get_xlabel() == "epoch"


def test_the_score_to_beat_is_drawn_once(tmp_path):
    runs = [
        run(tmp_path / "a", record(1, 1.0, 0.5, 0.1), record(2, 1.0, 0.6, 0.1)),
        run(tmp_path / "b", record(1, 1.0, 0.5, 0.1)),
        run(tmp_path / "c", record(1, 1.0, 0.5, 0.04)),
    ]
    _, score = show_curves(runs).axes
    dashed = [line.get_ydata()[0] for line in score.get_lines() if line.get_linestyle() == "--"]
    assert sorted(dashed) == [0.04, 0.1]


def test_runs_of_one_name_are_told_apart(tmp_path):
    runs = [run(tmp_path / name, record(1, 1.0, 0.5)) for name in ("a/run", "b/run")]
    assert set(points(show_curves(runs).axes[0])) == {str(path) for path in runs}


def test_a_run_without_scores_and_one_in_this_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(run(tmp_path / "here", record(1, 1.0)))
    figure = show_curves(["."])
    assert points(figure.axes[0]) == {"here": [(1, 1.0)]}
    assert points(figure.axes[1]) == {"here": []}


def test_epochs_are_whole_numbers(tmp_path):
    figure = show_curves([run(tmp_path / "r", record(1, 1.0, 0.2), record(2, 0.9, 0.3))])
    figure.canvas.draw()
    for axis in figure.axes:
        assert all(float(tick).is_integer() for tick in axis.get_xticks())


def test_no_window_opens(tmp_path):
    """Figures of a library belong to the caller: pyplot knows nothing of them."""
    before = plt.get_fignums()
    show_curves([run(tmp_path / "r", record(1, 1.0, 0.2))])
    assert plt.get_fignums() == before


@pytest.mark.parametrize("name", ["gone", "empty"])
def test_what_is_no_run_is_one_sentence(tmp_path, name):
    run(tmp_path / "empty")
    with pytest.raises(RunError, match=rf"{name} holds no log of a run: .*\.$"):
        show_curves([tmp_path / name])


def test_a_name_with_an_underscore_is_in_the_legend(tmp_path):
    runs = [run(tmp_path / name, record(1, 3.0, 0.2)) for name in ("_first", "second")]
    for axis in show_curves(runs).axes:
        assert [text.get_text() for text in axis.get_legend().get_texts()] == ["_first", "second"]


@pytest.mark.parametrize(
    "line",
    [
        {"epoch": 1},
        {"epoch": 1, "loss": "small"},
        {"epoch": 1, "loss": 1.0, "mean_iou": 0.5},
        {"epoch": math.inf, "loss": 1.0},
    ],
)
def test_a_log_of_something_else_is_one_sentence(tmp_path, line):
    with pytest.raises(RunError, match="holds no log of a run: give a folder that `fcn train`"):
        show_curves([run(tmp_path / "run", line)])
