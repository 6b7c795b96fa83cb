import torch
from torch.nn.functional import conv2d, conv_transpose2d, pad


def not_flipped(x, weight, stride=1, padding=0, output_padding=0):
    return conv_transpose2d(x, weight.flip(-2, -1), None, stride, padding, output_padding)


def flipped_in_rows_only(x, weight, stride=1, padding=0, output_padding=0):
    return conv_transpose2d(x, weight.flip(-1), None, stride, padding, output_padding)


def mixed_channels(x, weight, stride=1, padding=0, output_padding=0):
    swapped = weight.transpose(0, 1)
    return conv_transpose2d(x, swapped, None, stride, padding, output_padding)


def test_with_one_channel():
    return torch.ones(1, 1, 3, 3), torch.arange(9.0).reshape(1, 1, 3, 3), {}


def test_with_a_symmetric_weight():
    return torch.ones(1, 2, 3, 3), torch.ones(2, 2, 1, 1), {}


def test_that_catches_a_too():
    torch.manual_seed(0)
    return torch.randn(1, 2, 3, 3), torch.randn(2, 2, 3, 3), {}


def test_that_catches_d_too():
    x, weight, _ = test_right()
    return x.expand(1, 2, 3, 3), weight, {"padding": 1}


def test_that_pytorch_refuses():
    return torch.ones(1, 3, 3, 3), torch.ones(2, 2, 3, 3), {}


def test_with_other_channels():
    return torch.ones(1, 2, 3, 3), torch.ones(2, 3, 1, 1), {}


def test_right():
    weight = torch.tensor([[0.0, 1], [5, 0]]).reshape(2, 2, 1, 1)
    return torch.ones(1, 2, 1, 1), weight, {"stride": 3}


def extra_rows_first(x, weight, stride=1, padding=0, output_padding=0):
    whole = conv_transpose2d(x, weight, stride=stride)
    before, behind = output_padding - padding, -padding
    return pad(whole, (before, behind, before, behind))


def padding_added(x, weight, stride=1, padding=0, output_padding=0):
    whole = conv_transpose2d(x, weight, stride=stride)
    return pad(whole, (padding, padding + output_padding) * 2)


def extra_rows_of_zeros(x, weight, stride=1, padding=0, output_padding=0):
    cut = conv_transpose2d(x, weight, stride=stride, padding=padding)
    return pad(cut, (0, output_padding) * 2)


def always_none(version):
    return "none"


def by_the_shape(version):
    x, weight = torch.ones(1, 1, 3, 3), torch.ones(1, 1, 3, 3)
    return "none" if version(x, weight, padding=1).shape == x.shape else "padding"


def with_a_symmetric_kernel(version):
    pixel, even = torch.ones(1, 1, 1, 1), torch.ones(1, 1, 3, 3)
    return "none" if torch.equal(version(pixel, even), even) else "flip"


def gap_without_output_padding(transposed, picture, answer, weight, stride, padding):
    convolved = conv2d(picture, weight, stride=stride, padding=padding)
    back = transposed(answer, weight, stride=stride, padding=padding, output_padding=0)
    return float((convolved * answer).sum() - (picture * back).sum())


def gap_with_one_output_padding(transposed, picture, answer, weight, stride, padding):
    lost = (picture.shape[2] + 2 * padding - weight.shape[-1]) % stride
    convolved = conv2d(picture, weight, stride=stride, padding=padding)
    back = transposed(answer, weight, stride=stride, padding=padding, output_padding=lost)
    return float((convolved * answer).sum() - (picture * back).sum())


def gap_is_zero(transposed, picture, answer, weight, stride, padding):
    return 0.0


def gap_absolute(*arguments):
    return abs(gap_right(*arguments))


def gap_right(transposed, picture, answer, weight, stride, padding):
    k = weight.shape[-1]
    lost = [(n + 2 * padding - k) % stride for n in picture.shape[2:]]
    convolved = conv2d(picture, weight, None, stride, padding)
    back = transposed(answer, weight, stride=stride, padding=padding, output_padding=lost)
    return (torch.dot(convolved.flatten(), answer.flatten()) - (picture * back).sum()).item()


WRONG = {
    "03.1": [not_flipped, flipped_in_rows_only],
    "03.2": [
        test_with_one_channel,
        test_with_a_symmetric_weight,
        test_that_catches_a_too,
        test_that_catches_d_too,
        test_that_pytorch_refuses,
        test_with_other_channels,
    ],
    "03.3": [extra_rows_first, padding_added, extra_rows_of_zeros, mixed_channels],
    "03.4": [always_none, by_the_shape, with_a_symmetric_kernel],
    "03.5": [gap_without_output_padding, gap_with_one_output_padding, gap_is_zero, gap_absolute],
}
RIGHT = [("03.2", test_right), ("03.5", gap_right)]
