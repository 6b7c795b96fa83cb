import torch
from torch.nn.functional import conv_transpose2d, interpolate, pad

from fcnlib.bilinear import bilinear_kernel


def counts_as_if_endless(n, kernel_size, stride):
    inside = [len(range(u % stride, kernel_size, stride)) for u in range(stride)]
    return [inside[u % stride] for u in range((n - 1) * stride + kernel_size)]


def counts_without_the_last_stamp(n, kernel_size, stride):
    return [
        sum(0 <= u - i * stride < kernel_size for i in range(n - 1))
        for u in range((n - 1) * stride + kernel_size)
    ]


def counts_for_n_times_stride(n, kernel_size, stride):
    return [sum(0 <= u - i * stride < kernel_size for i in range(n)) for u in range(n * stride)]


def list_repeats_the_border(x, s):
    row = torch.tensor([[x]], dtype=torch.float64)
    return interpolate(row, scale_factor=s, mode="linear")[0, 0].tolist()


def list_nearest(x, s):
    return [x[j // s] for j in range(s * len(x))]


def list_corners_as_centres(x, s):
    weights = [[max(0, 1 - abs(j - s * i) / s) for i in range(len(x))] for j in range(s * len(x))]
    return [sum(w * v for w, v in zip(line, x, strict=True)) for line in weights]


def list_weights_below_zero(x, s):
    weights = [
        [1 - abs(j + 0.5 - s * (i + 0.5)) / s for i in range(len(x))] for j in range(s * len(x))
    ]
    return [sum(w * v for w, v in zip(line, x, strict=True)) for line in weights]


def diagonal_of_everything(weight):
    return weight[range(len(weight)), range(len(weight))][:, None]


def diagonal_refuses_by_the_sum(weight):
    diagonal = torch.eye(len(weight), dtype=torch.bool)
    if weight[~diagonal].sum() != 0:
        raise ValueError
    return weight[diagonal][:, None]


def diagonal_refuses_positive_numbers(weight):
    diagonal = torch.eye(len(weight), dtype=torch.bool)
    if (weight[~diagonal] > 0).any():
        raise ValueError
    return weight[diagonal][:, None]


def diagonal_without_the_axis(weight):
    return diagonal_right(weight)[:, 0]


def diagonal_by_an_assertion(weight):
    assert (weight.flatten(2).abs().sum(2) > 0).sum() <= len(weight)
    return diagonal_right(weight)


def diagonal_refuses_by_symmetry(weight):
    if not torch.equal(weight, weight.transpose(0, 1)):
        raise ValueError
    return diagonal_of_everything(weight)


def diagonal_refuses_above_a_tolerance(weight):
    diagonal = torch.eye(len(weight), dtype=torch.bool)
    if weight[~diagonal].abs().sum() > 1e-3:
        raise ValueError
    return diagonal_of_everything(weight)


def diagonal_refuses_one_triangle_only(weight):
    if any(weight[i, j].any() for i in range(len(weight)) for j in range(i)):
        raise ValueError
    return diagonal_of_everything(weight)


def diagonal_right(weight):
    if any(weight[i, j].any() for i in range(len(weight)) for j in range(len(weight)) if i != j):
        raise ValueError("mixes")
    return weight.sum(dim=1, keepdim=True)


def fading(x, stride):
    channels = x.shape[1]
    weight = bilinear_kernel(2 * stride).to(x).expand(channels, 1, -1, -1)
    return conv_transpose2d(x, weight, None, stride, stride // 2, groups=channels)


def border_aligned(x, stride):
    return interpolate(x, scale_factor=stride, mode="bilinear", align_corners=True)


def border_nearest(x, stride):
    return interpolate(x, scale_factor=stride)


def border_divided_by_itself(x, stride):
    return fading(x, stride) / fading(x.abs(), stride) * interpolate(x, scale_factor=stride)


def border_of_reflection(x, stride):
    wide = pad(x, (1, 1, 1, 1), mode="circular")
    return fading(wide, stride)[..., stride:-stride, stride:-stride]


def border_repeated(x, stride):
    wide = pad(x, (1, 1, 1, 1), mode="replicate")
    return fading(wide, stride)[..., stride:-stride, stride:-stride]


WRONG = {
    "04.1": [
        counts_as_if_endless,
        counts_without_the_last_stamp,
        counts_for_n_times_stride,
    ],
    "04.2": [
        list_repeats_the_border,
        list_nearest,
        list_corners_as_centres,
        list_weights_below_zero,
    ],
    "04.3": [
        diagonal_of_everything,
        diagonal_refuses_by_the_sum,
        diagonal_refuses_positive_numbers,
        diagonal_refuses_by_symmetry,
        diagonal_refuses_above_a_tolerance,
        diagonal_refuses_one_triangle_only,
        diagonal_without_the_axis,
        diagonal_by_an_assertion,
    ],
    "04.4": [
        fading,
        border_aligned,
        border_nearest,
        border_divided_by_itself,
        border_of_reflection,
    ],
}
RIGHT = [
    ("04.2", lambda x, s: list_repeats_the_border([0, *x, 0], s)[s:-s]),
    ("04.3", diagonal_right),
    ("04.4", border_repeated),
]
