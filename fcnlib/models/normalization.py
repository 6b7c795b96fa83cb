"""The normalisation that a network's weights expect, as the network's own first layer.

A caller hands every network the same: RGB in 0..1. Which order, scale and mean the weights
were trained with is the network's business, so nobody can get it wrong.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class Normalization:
    """Weights expect (scale * picture - mean) / std, per channel, channels in ``order``."""

    order: str  # "RGB" or "BGR"
    scale: float
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


TORCHVISION = Normalization("RGB", 1.0, (0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
"""Of torchvision's ImageNet weights, and of networks that start from random numbers."""

CAFFE = Normalization("BGR", 255.0, (104.00699, 116.66877, 122.67892), (1.0, 1.0, 1.0))
"""Of the paper's reference release, and of the PyTorch weights converted from it."""

CAFFE_SQUEEZENET = Normalization("BGR", 255.0, (103.939, 116.779, 123.68), (1.0, 1.0, 1.0))
"""Of squeezenet1_1_caffe_notop.pth."""


class Normalize(nn.Module):
    """Turn pictures (N, 3, H, W), RGB in 0..1, into what the weights expect.

    Not a part of the state_dict: files of weights keep the keys that their authors gave them.
    To change the normalisation of a network, give it another ``normalize``.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, normalization: Normalization = TORCHVISION) -> None:
        super().__init__()
        if normalization.order not in ("RGB", "BGR"):
            raise ValueError(f"order must be 'RGB' or 'BGR', not {normalization.order!r}.")
        self.normalization = normalization
        for name in ("mean", "std"):
            numbers = torch.tensor(getattr(normalization, name))
            self.register_buffer(name, numbers[:, None, None], persistent=False)

    def forward(self, x: Tensor) -> Tensor:
        """Normalise; raise ValueError for what is not a batch of float RGB pictures."""
        if x.ndim != 4 or x.shape[1] != 3 or not x.is_floating_point():
            raise ValueError(
                "A network takes pictures as a float tensor (N, 3, H, W), RGB in 0..1, not "
                f"{x.dtype} of shape {tuple(x.shape)}."
            )
        if self.normalization.order == "BGR":
            x = x.flip(1)
        return (x * self.normalization.scale - self.mean) / self.std

    def extra_repr(self) -> str:
        """Show the normalisation in ``print(model)``."""
        return str(self.normalization)
