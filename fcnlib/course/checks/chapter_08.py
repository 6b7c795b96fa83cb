"""Checks of the exercises in notebook 08."""

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from fcnlib.course.checks import exercise
from fcnlib.course.checks.answers import as_number, brief
from fcnlib.losses import mean_to_sum
from fcnlib.metrics import ConfusionMatrix

VOID = 255


@exercise("08.1")
def check_weighted_cross_entropy(weighted_cross_entropy: Callable) -> None:
    """Compare with PyTorch's weighted cross-entropy, on small maps with and without void."""
    random = torch.Generator().manual_seed(81)
    cases = [((1, 2, 1, 2), 0.0), ((1, 3, 2, 2), 0.5)]
    sizes = torch.randint(1, 6, (30, 4), generator=random).tolist()
    cases += [((n, k + 1, h, w), 0.3) for n, k, h, w in sizes]
    cases += [((2, 4, 3, 5), 0.9), ((2, 3, 2, 2), 1.0)]
    for case, ((n, k, h, w), void) in enumerate(cases):
        logits = 2 * torch.randn(n, k, h, w, generator=random, dtype=torch.double)
        labels = torch.randint(k, (n, h, w), generator=random)
        labels[torch.rand(n, h, w, generator=random) < void] = VOID
        weights = 0.2 + 5 * torch.rand(k, generator=random, dtype=torch.double)
        if case % 3 == 2:  # so small that their sum may be below 1
            weights /= 100
        valid = int((labels != VOID).sum())
        wanted = 0.0
        if valid:
            wanted = F.cross_entropy(logits, labels, weights, ignore_index=VOID).item()
        got = weighted_cross_entropy(logits.clone(), labels.clone(), weights.clone())
        assert isinstance(got, Tensor), f"Return a tensor, not {brief(got)}."
        assert got.ndim == 0, f"Return one number, not a tensor of shape {tuple(got.shape)}."
        assert abs(got.item() - wanted) < 1e-5 * max(1, wanted), (
            f"For logits {(n, k, h, w)}, of whose {n * h * w} pixels {n * h * w - valid} are void, "
            f"and weights {[round(x, 3) for x in weights.tolist()]} the loss is {wanted:.4f}, not "
            f"{got.item():.4f}."
        )


@exercise("08.2")
def check_rate_for_sum(rate_for_sum: Callable) -> None:
    """Compare with the library's conversion at the pixels of the reader's own picture."""
    cases = [(0.1, 0.001, 1, 20, 10, 20, 0.5), (0.01, 5e-4, 16, 320, 375, 500, 0.05)]
    random = np.random.default_rng(82)
    for _ in range(20):
        lr, decay = (float(x) for x in 10 ** random.uniform(-4, -1, 2))
        batch, size, height, width = (int(x) for x in random.integers(1, 400, 4))
        cases.append((lr, decay, batch, size, height, width, float(random.integers(0, 9)) / 10))
    for lr, decay, batch, size, height, width, void in cases:
        wanted = mean_to_sum(lr, decay, height * width * (1 - void))
        result = rate_for_sum(lr, decay, batch, size, height, width, void)
        if isinstance(result, Tensor | np.ndarray):
            result = result.tolist()
        assert isinstance(result, list | tuple) and len(result) == 2, (
            f"Return a pair (lr, weight_decay), not {brief(result)}."
        )
        for name, got, right in zip(("lr", "weight_decay"), result, wanted, strict=True):
            got = as_number(got, name)
            assert abs(got - right) <= 1e-5 * right, (
                f"For lr {lr:.3g}, weight_decay {decay:.3g}, batches of {batch} crops of {size} x "
                f"{size}, a picture of {height} x {width} and a share {void} of void, {name} is "
                f"{right:.4g}, not {got:.4g}."
            )


@exercise("08.3")
def check_mended_mean_iou(mended_mean_iou: Callable) -> None:
    """Compare with one confusion matrix, and first with cases that show one mistake each."""
    one = torch.tensor([[0, 1], [0, 1]])
    for what, targets, predictions, num_classes in (
        ("the prediction is the truth", [one], [one], 2),
        ("class 2 is nowhere", [one], [torch.tensor([[0, 1], [1, 1]])], 3),
        ("one pixel is void", [torch.tensor([[0, 0, 1, VOID]])], [torch.tensor([[0, 1, 1, 1]])], 3),
        ("two pictures have different sizes", [torch.zeros(1, 9).long(), torch.zeros(1, 1).long()],
         [torch.zeros(1, 9).long(), torch.ones(1, 1).long()], 2),
        ("a class is predicted but not there", [torch.zeros(1, 4).long()],
         [torch.tensor([[0, 0, 0, 2]])], 3),
    ):  # fmt: skip
        _compare_mean_iou(mended_mean_iou, targets, predictions, num_classes, f"where {what}")
    random = torch.Generator().manual_seed(83)
    for case in range(25):
        num_classes = int(torch.randint(2, 7, (), generator=random))
        targets, predictions = [], []
        for _ in range(int(torch.randint(1, 5, (), generator=random))):
            size = torch.randint(1, 8, (2,), generator=random).tolist()
            target = torch.randint(num_classes, size, generator=random)
            prediction = torch.randint(num_classes, size, generator=random)
            prediction = prediction.where(torch.rand(size, generator=random) < 0.4, target)
            target[torch.rand(size, generator=random) < 0.2] = VOID
            targets.append(target.to(torch.uint8 if case % 2 else torch.int64))
            predictions.append(prediction)
        if any((target != VOID).any() for target in targets):
            where = f"for {len(targets)} random pictures and {num_classes} classes"
            _compare_mean_iou(mended_mean_iou, targets, predictions, num_classes, where)


def _compare_mean_iou(
    function: Callable, targets: list, predictions: list, num_classes: int, where: str
) -> None:
    matrix = ConfusionMatrix(num_classes)
    for target, prediction in zip(targets, predictions, strict=True):
        matrix.update(target, prediction)
    copies = [[labels.clone() for labels in maps] for maps in (targets, predictions)]
    got = as_number(function(*copies, num_classes), "the mean IoU")
    assert abs(got - matrix.mean_iou()) < 1e-4, (
        f"The mean IoU {where} is {matrix.mean_iou():.4f}, not {got:.4f}."
    )


@exercise("08.4")
def check_best_blocks(best_blocks: Callable) -> None:
    """Hold each cell to one label, and count the pixels that are right."""
    row = torch.tensor([[0, VOID, VOID, 3, 5, 5, 1]])
    cases = [(row, 4), (torch.full((3, 3), VOID), 2), (torch.arange(6).reshape(2, 3), 1)]
    random = torch.Generator().manual_seed(84)
    for case in range(30):
        height, width, stride, classes = torch.randint(1, 12, (4,), generator=random).tolist()
        labels = torch.randint(classes, (height, width), generator=random)
        labels[torch.rand(height, width, generator=random) < (case % 4) / 4] = VOID
        cases.append((labels.to(torch.uint8 if case % 2 else torch.int64), stride))
    for labels, stride in cases:
        got = best_blocks(labels.clone(), stride)
        given = f"labels {labels.tolist()}" if labels.numel() < 8 else f"{tuple(labels.shape)}"
        where = f"For {given} and stride {stride}"
        assert isinstance(got, Tensor), f"Return a tensor, not {brief(got)}."
        assert got.shape == labels.shape, (
            f"{where} the map must be {tuple(labels.shape)}, not {tuple(got.shape)}."
        )
        assert torch.equal(got, got.round()), f"{where} your map holds numbers that are no labels."
        for i in range(0, labels.shape[0], stride):
            for j in range(0, labels.shape[1], stride):
                here = slice(i, i + stride), slice(j, j + stride)
                _check_cell(labels[here], got[here], f"{where}, in the cell at ({i}, {j}),")


def _check_cell(labels: Tensor, got: Tensor, where: str) -> None:
    answers = got.unique().tolist()
    assert len(answers) == 1, f"{where} your map has {len(answers)} different labels, not one."
    valid = labels[labels != VOID].long()
    most = int(torch.bincount(valid).max()) if len(valid) else 0
    right = int((valid == answers[0]).sum())
    assert right == most, (
        f"{where} {right} valid pixels are right with the label {answers[0]:g}; {most} can be."
    )
    if not len(valid):
        assert answers[0] == 0, f"{where} all is void: say 0, not {answers[0]:g}."
