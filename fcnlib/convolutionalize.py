"""From a fully connected layer to the convolution with the same numbers.

A classifier flattens a map of features (C, H, W) and multiplies it with a matrix. Each row of
that matrix is a kernel (C, H, W) in disguise: as a convolution it gives the same number on a
map of H x W, and on a larger one a map of numbers, one for each window. Section 3.1 of the
paper ("Adapting classifiers for dense prediction").
"""

import torch
from torch import nn


def linear_to_conv(linear: nn.Linear, channels: int, height: int, width: int) -> nn.Conv2d:
    """Return the convolution that is ``linear`` on flattened maps (channels, height, width).

    The kernel is height x width, without padding; weight and bias are copies, of the same
    dtype, on the same device. The map must have been flattened in the order channels, rows,
    columns, as ``torch.flatten`` does it. Raises ValueError when the layer has another number
    of inputs than channels * height * width.
    """
    if min(channels, height, width) < 1:
        raise ValueError(
            f"channels, height and width must be at least 1, not {channels}, {height}, {width}."
        )
    if linear.in_features != channels * height * width:
        raise ValueError(
            f"The layer has {linear.in_features} inputs, but a map of {channels} x {height} x "
            f"{width} has {channels * height * width} numbers."
        )
    with torch.device("meta"):  # shapes alone: no numbers are drawn only to be replaced
        conv = nn.Conv2d(
            channels, linear.out_features, (height, width), bias=linear.bias is not None
        )
    conv.weight = nn.Parameter(linear.weight.detach().reshape(conv.weight.shape).clone())
    if linear.bias is not None:
        conv.bias = nn.Parameter(linear.bias.detach().clone())
    return conv
