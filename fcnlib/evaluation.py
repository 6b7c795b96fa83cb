"""Scores of a network on a split: native size, void left out, one matrix for all pictures."""

import math
from collections.abc import Sequence
from typing import Any

from accelerate.utils import reduce
from torch import nn
from tqdm import tqdm

from fcnlib.data.folder import SegmentationFolder
from fcnlib.data.loader import evaluation_loader, unpacked
from fcnlib.metrics import ConfusionMatrix
from fcnlib.prediction import evaluating, predict
from fcnlib.processes import this_process


def evaluate(
    network: nn.Module,
    folder: SegmentationFolder,
    positions: Sequence[int] | None = None,
    workers: int = 0,
    progress: bool = False,
) -> ConfusionMatrix:
    """Return the confusion matrix of all pictures of a folder, each at its own size.

    Pictures are segmented as by ``fcnlib.prediction.predict``, large ones in tiles. ``positions``
    has the places of the folder's classes among the network's, where it knows more: only these
    can be predicted. The processes of a distributed run share the pictures, and each of them gets
    the whole matrix. The network stays in the mode that it was in.
    """
    state = this_process()
    matrix = ConfusionMatrix(len(folder.classes))
    loader = evaluation_loader(folder, workers, state.process_index, state.num_processes)
    with (
        evaluating(network),
        tqdm(
            total=len(loader), desc="evaluating", leave=False, disable=None if progress else True
        ) as bar,
    ):
        for images, labels in unpacked(loader):
            matrix.update(labels[0], predict(network, images[0], positions))
            bar.update()
    matrix.counts = reduce(matrix.counts.to(state.device), "sum").cpu()
    return matrix


def scores(matrix: ConfusionMatrix, names: Sequence[str]) -> dict[str, Any]:
    """Return the metrics as numbers for JSON, and those of the one answer for every pixel.

    That answer is "background", or the first class where no class bears this name.
    """
    same = names.index("background") if "background" in names else 0
    return {
        **_four_metrics(matrix),
        "iou_per_class": {
            name: _number(iou)
            for name, iou in zip(names, matrix.iou_per_class().tolist(), strict=True)
        },
        "baseline": {"always": names[same], **_four_metrics(matrix.always(same))},
    }


def table(matrix: ConfusionMatrix, names: Sequence[str]) -> str:
    """Return the scores as text: IoU and share of the pixels per class, then the means."""
    known = scores(matrix, names)
    shares = matrix.counts.sum(dim=1) / matrix.counts.sum().clamp(min=1)
    width = max(map(len, (*names, "frequency weighted IoU")))
    lines = [f"{'class':{width}}     IoU  pixels"]
    for (name, iou), share in zip(known["iou_per_class"].items(), shares.tolist(), strict=True):
        lines.append(f"{name:{width}}  {_shown(iou)}  {share:6.1%}")
    baseline = known["baseline"]
    lines.append(f"{'':{width}}          always {baseline['always']}")
    for metric, title in METRICS.items():
        lines.append(f"{title:{width}}  {_shown(known[metric])}  {_shown(baseline[metric])}")
    return "\n".join(lines)


METRICS = {
    "pixel_accuracy": "pixel accuracy",
    "mean_accuracy": "mean accuracy",
    "mean_iou": "mean IoU",
    "frequency_weighted_iou": "frequency weighted IoU",
}


def _four_metrics(matrix: ConfusionMatrix) -> dict[str, float | None]:
    return {metric: _number(getattr(matrix, metric)()) for metric in METRICS}


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value  # JSON knows no nan


def _shown(value: float | None) -> str:
    return "     -" if value is None else f"{value:6.3f}"
