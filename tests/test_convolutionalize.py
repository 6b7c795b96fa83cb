import pytest
import torch
from convolutionalize_cases import check_linear_to_conv, check_wrong_number_of_inputs, shapes
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn
from transposed_cases import SAME_CASES

from fcnlib.convolutionalize import linear_to_conv


@settings(SAME_CASES, max_examples=150)
@given(shape=shapes, bias=st.booleans(), seed=st.integers(0, 2**32 - 1))
def test_equals_the_layer_on_every_window(shape, bias, seed):
    check_linear_to_conv(linear_to_conv, shape, bias, seed)


def test_refuses_a_wrong_number_of_inputs():
    check_wrong_number_of_inputs(linear_to_conv)


@pytest.mark.parametrize("size", [(0, 2, 2), (-1, -2, 4), (2, 0, 0)])
def test_refuses_a_map_without_numbers(size):
    with pytest.raises(ValueError, match="at least 1"):
        linear_to_conv(nn.Linear(8, 3), *size)


def test_by_hand():
    """1 2 / 3 4 with the weights 5 0 -1 2: 5 - 3 + 8 = 10, and 1 more for the bias."""
    linear = nn.Linear(4, 1)
    with torch.no_grad():
        linear.weight.copy_(torch.tensor([[5.0, 0, -1, 2]]))
        linear.bias.fill_(1)
    conv = linear_to_conv(linear, 1, 2, 2)
    assert conv(torch.tensor([[[[1.0, 2, 0], [3, 4, 1]]]])).tolist() == [[[[11, 9]]]]


def test_fc6_of_vgg16_keeps_its_parameters():
    linear = nn.Linear(25_088, 4_096, device="meta")
    conv = linear_to_conv(linear, 512, 7, 7)
    assert conv.weight.shape == (4_096, 512, 7, 7) and conv.weight.device.type == "meta"
    assert sum(weight.numel() for weight in conv.parameters()) == 102_764_544


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_copies_in_the_same_precision(dtype):
    linear = nn.Linear(12, 5, dtype=dtype)
    conv = linear_to_conv(linear, 3, 2, 2)
    assert conv.weight.dtype == conv.bias.dtype == dtype
    assert torch.equal(conv.weight.flatten(1), linear.weight)
    with torch.no_grad():
        conv.weight.zero_()
    assert linear.weight.any(), "the layer has numbers of its own"
    assert conv.weight.requires_grad and conv.bias.requires_grad
