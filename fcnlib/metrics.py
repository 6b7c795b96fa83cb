"""How good a segmentation is: one confusion matrix, and what follows from it.

The four metrics are those of the paper, section 5. With n[i, j] the pixels of class i that
were predicted as class j, and t[i] the sum of row i, all pixels of class i:

    pixel accuracy          sum_i n[i, i] / sum_i t[i]
    mean accuracy           mean over i of n[i, i] / t[i]
    IoU of class i          n[i, i] / (t[i] + sum_j n[j, i] - n[i, i])
    frequency weighted IoU  sum_i t[i] IoU[i] / sum_i t[i]
"""

import torch
from torch import Tensor
from torch.nn import functional as F


class ConfusionMatrix:
    """Counts of pixels (num_classes, num_classes), int64: row target, column prediction.

    One matrix counts a whole set of pictures: a mean over pictures' own scores is another
    number, and not the published one. Pixels whose *target* is ``ignore_index`` are left out
    of rows and columns. A class that is neither in the targets nor in the predictions has the
    IoU nan, and means leave it out.
    """

    def __init__(self, num_classes: int, ignore_index: int = 255) -> None:
        if num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, not {num_classes}.")
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        self.counts = torch.zeros(num_classes, num_classes, dtype=torch.int64)

    def update(self, target: Tensor, prediction: Tensor) -> None:
        """Count the pixels of label maps of one shape, any integer type, on any device.

        Raises ValueError, and counts nothing, for other shapes, for numbers that are no labels
        of this many classes, and for floats: the argmax of logits has to be taken first.
        """
        if target.shape != prediction.shape:
            raise ValueError(
                f"target {tuple(target.shape)} and prediction {tuple(prediction.shape)} must "
                "have the same shape."
            )
        for name, labels in (("target", target), ("prediction", prediction)):
            if labels.is_floating_point() or labels.is_complex() or labels.dtype == torch.bool:
                raise ValueError(f"{name} must hold integer labels, not {labels.dtype}.")
        target, prediction = target.long(), prediction.long()  # in int8, 255 would be -1
        valid = target != self.ignore_index
        target, prediction = target[valid], prediction[valid]
        for name, labels in (("target", target), ("prediction", prediction)):
            if labels.numel() and not 0 <= labels.min() <= labels.max() < self.num_classes:
                wrong = labels[(labels < 0) | (labels >= self.num_classes)][0]
                raise ValueError(
                    f"{name} holds the label {wrong}, but there are {self.num_classes} classes."
                )
        pairs = target * self.num_classes + prediction
        counts = torch.bincount(pairs, minlength=self.num_classes**2)
        self.counts += counts.reshape(self.num_classes, self.num_classes).cpu()

    def merge(self, other: "ConfusionMatrix") -> None:
        """Add the counts of another matrix, as of other pictures or another process."""
        if other.num_classes != self.num_classes:
            raise ValueError(
                f"A matrix of {other.num_classes} classes cannot be added to one of "
                f"{self.num_classes}."
            )
        self.counts += other.counts

    def always(self, label: int = 0) -> "ConfusionMatrix":
        """Return the matrix of who answers ``label`` for every pixel: the score to beat."""
        same = ConfusionMatrix(self.num_classes, self.ignore_index)
        same.counts[:, label] = self.counts.sum(dim=1)
        return same

    def pixel_accuracy(self) -> float:
        """Return the share of the pixels that are right; nan if nothing was counted."""
        return float(self._right().sum() / self._targets().sum())

    def mean_accuracy(self) -> float:
        """Return the mean over the classes in the targets of the share that is right."""
        return float((self._right() / self._targets()).nanmean())

    def iou_per_class(self) -> Tensor:
        """Return the IoU of each class, (num_classes,) float64; nan for absent classes."""
        return self._right() / (self._targets() + self.counts.sum(dim=0) - self._right())

    def mean_iou(self) -> float:
        """Return the mean IoU over the classes that are not absent."""
        return float(self.iou_per_class().nanmean())

    def frequency_weighted_iou(self) -> float:
        """Return the mean of the IoUs, weighted by the classes' pixels in the targets."""
        weights = self._targets() / self._targets().sum()
        return float((weights * self.iou_per_class()).nansum() if weights.sum() > 0 else "nan")

    def _right(self) -> Tensor:
        return self.counts.diagonal().double()

    def _targets(self) -> Tensor:
        return self.counts.sum(dim=1).double()


def near_boundary(labels: Tensor, distance: int) -> Tensor:
    """Mark the pixels of label maps (..., H, W) that lie near another label, bool.

    Near means: at most ``distance`` rows and at most as many columns away. Void is a label
    here. Scored on these pixels alone, a segmentation shows how good its outlines are (the
    "trimap" of Kohli et al., 2009). Raises ValueError for a distance below 1.
    """
    if distance < 1:
        raise ValueError(f"distance must be at least 1, not {distance}.")
    maps = labels.reshape(-1, 1, *labels.shape[-2:]).float()
    side = 2 * distance + 1
    largest = F.max_pool2d(maps, side, stride=1, padding=distance)
    smallest = -F.max_pool2d(-maps, side, stride=1, padding=distance)
    return (largest != smallest).reshape(labels.shape)
