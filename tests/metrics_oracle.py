"""Random label maps, and the metrics of the paper in plain Python: loops and divisions."""

import math
from typing import NamedTuple, Self

import torch
from torch import Tensor


class Maps(NamedTuple):
    """Maps (N, H, W) of true and of predicted labels, int64; 255 is void."""

    num_classes: int
    target: Tensor
    prediction: Tensor

    @classmethod
    def drawn(
        cls, seed: int, num_classes: int, shape: tuple[int, int, int], void: float, right: float
    ) -> Self:
        """Draw maps. Some classes may be absent; shares ``void`` and ``right`` are about so."""
        random = torch.Generator().manual_seed(seed)
        here = torch.rand(2, num_classes, generator=random) < 0.7
        here[:, 0] = True
        labels = [torch.nonzero(classes)[:, 0] for classes in here]
        target, prediction = (
            some[torch.randint(len(some), shape, generator=random)] for some in labels
        )
        prediction = prediction.where(torch.rand(shape, generator=random) >= right, target)
        target = target.masked_fill(torch.rand(shape, generator=random) < void, 255)
        return cls(num_classes, target, prediction)


def counts_by_loops(target: list, prediction: list, num_classes: int) -> list[list[int]]:
    """Count pairs of labels of nested lists, one by one."""
    counts = [[0] * num_classes for _ in range(num_classes)]
    for map_, answers in zip(target, prediction, strict=True):
        for row, answer in zip(map_, answers, strict=True):
            for label, answered in zip(row, answer, strict=True):
                if label != 255:
                    counts[label][answered] += 1
    return counts


def scores_by_loops(counts: list[list[int]]) -> dict:
    """Return what section 5 of the paper defines; nan where it would divide by zero."""
    classes = range(len(counts))
    targets = [sum(counts[i]) for i in classes]
    answers = [sum(counts[i][j] for i in classes) for j in classes]
    unions = [targets[i] + answers[i] - counts[i][i] for i in classes]
    ious = [counts[i][i] / unions[i] if unions[i] else math.nan for i in classes]
    accuracies = [counts[i][i] / targets[i] for i in classes if targets[i]]
    present = [i for i in classes if targets[i]]
    return {
        "pixel_accuracy": _share(sum(counts[i][i] for i in classes), sum(targets)),
        "mean_accuracy": _share(sum(accuracies), len(accuracies)),
        "iou_per_class": ious,
        "mean_iou": _share(sum(ious[i] for i in classes if unions[i]), sum(map(bool, unions))),
        "frequency_weighted_iou": _share(sum(targets[i] * ious[i] for i in present), sum(targets)),
    }


def _share(part: float, whole: float) -> float:
    return part / whole if whole else math.nan
