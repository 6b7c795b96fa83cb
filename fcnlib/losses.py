"""The loss of segmentation: the cross-entropy of every pixel, void left out."""

import torch
from torch import Tensor
from torch.nn import functional as F

AUXILIARY_WEIGHT = 0.4
"""What an auxiliary head's loss counts beside the main one (torchvision's, PSPNet's value)."""


def pixel_cross_entropy(
    logits: Tensor, labels: Tensor, reduction: str = "mean", ignore_index: int = 255
) -> Tensor:
    """Return the cross-entropy of logits (N, K, H, W) against labels (N, H, W), whole numbers.

    Pixels whose label is ``ignore_index`` count for nothing. ``reduction`` "sum" adds up the
    others, as the paper's release does; "mean" divides by their number (0 if there are none:
    such a batch teaches nothing). Raises ValueError for another reduction.
    """
    if reduction not in ("mean", "sum"):
        raise ValueError(f"reduction must be 'mean' or 'sum', not {reduction!r}.")
    logits = logits.to(torch.promote_types(logits.dtype, torch.float32))  # halves are too coarse
    total = F.cross_entropy(logits, labels.long(), ignore_index=ignore_index, reduction="sum")
    if reduction == "sum":
        return total
    return total / (labels != ignore_index).sum().clamp(min=1)


def segmentation_loss(
    outputs: Tensor | tuple[Tensor, Tensor],
    labels: Tensor,
    reduction: str = "mean",
    ignore_index: int = 255,
) -> Tensor:
    """Return the loss of what a network gives: logits, or (logits, auxiliary logits).

    The auxiliary head's cross-entropy is added, times 0.4.
    """
    if isinstance(outputs, Tensor):
        return pixel_cross_entropy(outputs, labels, reduction, ignore_index)
    main, auxiliary = (
        pixel_cross_entropy(logits, labels, reduction, ignore_index) for logits in outputs
    )
    return main + AUXILIARY_WEIGHT * auxiliary


def sum_to_mean(lr: float, weight_decay: float, pixels: float) -> tuple[float, float]:
    """Return (lr, weight_decay) for the mean loss that make the steps of these for the sum.

    The sum over ``pixels`` valid pixels has gradients that many times larger. A step is
    lr * (gradient + weight_decay * weight), so lr grows by that factor and weight_decay
    shrinks by it. Example: the paper's release, 1e-10 and 5e-4 for pictures of 375 x 500, is
    1.9e-5 and 2.7e-9. Raises ValueError unless pixels > 0.
    """
    if not pixels > 0:
        raise ValueError(f"pixels must be greater than 0, not {pixels}.")
    return lr * pixels, weight_decay / pixels


def mean_to_sum(lr: float, weight_decay: float, pixels: float) -> tuple[float, float]:
    """Return (lr, weight_decay) for the summed loss: :func:`sum_to_mean` backwards."""
    if not pixels > 0:
        raise ValueError(f"pixels must be greater than 0, not {pixels}.")
    return lr / pixels, weight_decay * pixels
