"""A clear refusal where BatchNorm has nothing to average."""

import math

from torch import Tensor, nn


def require_values(network: nn.Module, x: Tensor, stride: int) -> None:
    """Raise ValueError if a BatchNorm in train mode would see a single value per channel.

    ``stride`` is that of the coarsest map with BatchNorm behind it, 0 if there is none.
    PyTorch refuses a single value too, but from the depths and without saying what to do.
    """
    if not (network.training and stride) or x.ndim != 4:  # Normalize refuses what is no batch
        return
    pictures, _, height, width = x.shape
    if pictures * math.ceil(height / stride) * math.ceil(width / stride) != 1:
        return
    if any(isinstance(module, nn.BatchNorm2d) and module.training for module in network.modules()):
        raise ValueError(
            f"In train mode BatchNorm needs more than one value per channel, but {pictures} "
            f"picture of {height} x {width} leaves a single one at stride {stride}: give two "
            f"pictures or more, or one with a side of more than {stride} pixels, or call eval()."
        )
