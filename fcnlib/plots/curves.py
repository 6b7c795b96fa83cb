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
    for number, (run, name) in enumerate(zip(runs, names, strict=True)):
        records = read_log(run)
        if not records:
            raise RunError(f"{run} holds no log of a run: give a folder that `fcn train` wrote.")
        color = COLORS[number % len(COLORS)]
        epochs = [record["epoch"] for record in records]
        loss.plot(epochs, [record["loss"] for record in records], ".-", color=color, label=name)
        scored = [record for record in records if record.get("mean_iou") is not None]
        epochs = [record["epoch"] for record in scored]
        score.plot(epochs, [r["mean_iou"] for r in scored], ".-", color=color, label=name)
        baselines |= {record["baseline"]["mean_iou"] for record in scored}
    for baseline in baselines:
        score.axhline(baseline, color="0.4", linestyle="--")
    loss.set(title="training", xlabel="epoch", ylabel="loss per pixel")
    score.set(title="validation (dashed: one answer for all)", xlabel="epoch", ylabel="mean IoU")
    score.set_ylim(0, 1)
    for axis in (loss, score):
        axis.xaxis.set_major_locator(MaxNLocator(integer=True))
        axis.legend()
    return figure
