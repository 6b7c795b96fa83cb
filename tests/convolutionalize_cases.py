"""What every version of linear_to_conv must do: that of the library and that of notebook 05."""

from collections.abc import Callable

import pytest
import torch
from hypothesis import strategies as st
from torch import nn

small = st.integers(1, 4)
shapes = st.tuples(small, small, small, small)
"""Channels, height, width and outputs of a layer."""


def check_linear_to_conv(
    linear_to_conv: Callable, shape: tuple[int, int, int, int], bias: bool, seed: int
) -> None:
    """Compare with the layer on flattened maps, and on every window of larger ones."""
    channels, height, width, outputs = shape
    torch.manual_seed(seed)
    linear = nn.Linear(channels * height * width, outputs, bias=bias, dtype=torch.float64)
    conv = linear_to_conv(linear, channels, height, width)
    assert isinstance(conv, nn.Conv2d)
    assert (conv.in_channels, conv.out_channels) == (channels, outputs)
    assert conv.kernel_size == (height, width) and conv.padding == (0, 0)
    assert (conv.bias is not None) == bias
    count = [sum(weight.numel() for weight in layer.parameters()) for layer in (linear, conv)]
    assert count[0] == count[1]
    with torch.no_grad():
        maps = torch.randn(2, channels, height, width, dtype=torch.float64)
        torch.testing.assert_close(conv(maps), linear(maps.flatten(1))[:, :, None, None])
        maps = torch.randn(2, channels, height + 2, width + 1, dtype=torch.float64)
        answers = conv(maps)
        assert answers.shape == (2, outputs, 3, 2)
        for row in range(3):
            for column in range(2):
                window = maps[:, :, row : row + height, column : column + width]
                expected = linear(window.flatten(1))
                torch.testing.assert_close(answers[:, :, row, column], expected)


def check_wrong_number_of_inputs(linear_to_conv: Callable) -> None:
    """Expect a ValueError that names the numbers."""
    for size in [(2, 2, 3), (3, 2, 2), (8, 1, 2), (1, 1, 1)]:
        with pytest.raises(ValueError, match=r"8 inputs.* {} x {} x {}".format(*size)):
            linear_to_conv(nn.Linear(8, 3), *size)
