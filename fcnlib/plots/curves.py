"""The curves of training: loss and score after each epoch, several runs in one figure."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from fcnlib.errors import RunError
from fcnlib.plots.colors import COLORS
from fcnlib.run import read_log


def show_curves(runs: Sequence[str | Path]) -> Figure:
    """Draw the logs of runs: loss per pixel and mean IoU over the epochs.

    A dashed line shows what one answer for every pixel scores. Raises RunError for a folder
    that holds no log.
    """
    names = [Path(run).resolve().name for run in runs]
    if len(set(names)) < len(names):
        names = list(map(str, runs))
    baselines: set[float] = set()
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    loss, score = figure.subplots(1, 2)
    curves = []
    for number, (run, name) in enumerate(zip(runs, names, strict=True)):
        losses, scores, lines = _numbers(run)
        color = COLORS[number % len(COLORS)]
        loss.plot(losses.keys(), losses.values(), ".-", color=color, label=name)
        curves += score.plot(scores.keys(), scores.values(), ".-", color=color, label=name)
        baselines |= lines
    for baseline in baselines:
        score.axhline(baseline, color="0.4", linestyle="--")
    loss.set(title="training", xlabel="epoch", ylabel="loss per pixel")
    score.set(title="validation (dashed: one answer for all)", xlabel="epoch", ylabel="mean IoU")
    score.set_ylim(0, 1)
    for axis in (loss, score):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend(curves, names)  # else names that begin with _ are left out
    return figure


def _numbers(run: str | Path) -> tuple[dict[int, float], dict[int, float], set[float]]:
    """Return a run's loss and its score by epoch, and what one answer for all pixels scores."""
    try:
        if records := read_log(run):
            scored = [record for record in records if record.get("mean_iou") is not None]
            return (
                {record["epoch"]: float(record["loss"]) for record in records},
                {record["epoch"]: float(record["mean_iou"]) for record in scored},
                {float(record["baseline"]["mean_iou"]) for record in scored},
            )
    except (KeyError, TypeError, ValueError):
        pass  # lines of something else
    raise RunError(f"{run} holds no log of a run: give a folder that `fcn train` wrote.")
