import torch
from torch.nn.functional import conv_transpose1d, pad


def reach_without_padding(u, n, kernel_size, stride=1, padding=0):
    return [h for h in range(n) if 0 <= u - h * stride < kernel_size]


def reach_one_too_far(u, n, kernel_size, stride=1, padding=0):
    return [h for h in range(n) if 0 <= u + padding - h * stride <= kernel_size]


def transposed_without_dilation(x, kernel, stride=1, padding=0, dilation=1):
    y = [0] * ((len(x) - 1) * stride + dilation * (len(kernel) - 1) + 1)
    for i, value in enumerate(x):
        for a, weight in enumerate(kernel):
            y[i * stride + a] += value * weight
    return y[padding : len(y) - padding]


def transposed_with_empty_cut(x, kernel, stride=1, padding=0, dilation=1):
    y = [0] * ((len(x) - 1) * stride + dilation * (len(kernel) - 1) + 1)
    for i, value in enumerate(x):
        for a, weight in enumerate(kernel):
            y[i * stride + a * dilation] += value * weight
    return y[padding:-padding]


def output_padding_without_dilation(n, kernel_size, stride=1, padding=0, dilation=1):
    return (n + 2 * padding - kernel_size) % stride


def output_padding_of_one_side(n, kernel_size, stride=1, padding=0, dilation=1):
    return (n + padding - dilation * (kernel_size - 1) - 1) % stride


def matrix_flipped(kernel, n, stride=1, padding=0):
    return matrix_right(kernel.flip(0), n, stride, padding)


def matrix_transposed(kernel, n, stride=1, padding=0):
    return matrix_right(kernel, n, stride, padding).T


def matrix_without_padding(kernel, n, stride=1, padding=0):
    return matrix_right(kernel, n, stride, 0)


def matrix_right(kernel, n, stride=1, padding=0):
    wide = torch.zeros(n + 2 * padding - len(kernel) + 1, n + 2 * padding, dtype=kernel.dtype)
    for y in range(len(wide)):
        wide[y, y : y + len(kernel)] = kernel
    return wide[::stride, padding : padding + n]


def stretch_with_zeros_at_the_end(x, stride, border):
    y = x.new_zeros(len(x) * stride, x.shape[1] * stride)
    y[::stride, ::stride] = x
    return pad(y, (border,) * 4)


def stretch_repeats(x, stride, border):
    y = x.repeat_interleave(stride, 0).repeat_interleave(stride, 1)
    return pad(y[: (len(x) - 1) * stride + 1, : (x.shape[1] - 1) * stride + 1], (border,) * 4)


def stretch_as_whole_numbers(x, stride, border):
    y = torch.zeros(*((n - 1) * stride + 1 for n in x.shape), dtype=torch.int64)
    y[::stride, ::stride] = x
    return pad(y, (border,) * 4)


def stretch_returns_the_input(x, stride, border):
    return x if stride == 1 and border == 0 else stretch_right(x, stride, border)


def stretch_right(x, stride, border):
    y = x.new_zeros(*((n - 1) * stride + 1 for n in x.shape))
    y[::stride, ::stride] = x
    return pad(y, (border,) * 4)


def output_padding_by_trying(n, kernel_size, stride=1, padding=0, dilation=1):
    small = (n + 2 * padding - dilation * (kernel_size - 1) - 1) // stride + 1
    x, weight = torch.ones(1, 1, small), torch.ones(1, 1, kernel_size)
    for extra in range(stride):
        y = conv_transpose1d(x, weight, None, stride, padding, extra, 1, dilation)
        if y.shape[2] == n:
            return extra


WRONG = {
    "02.1": [reach_without_padding, reach_one_too_far],
    "02.2": [transposed_without_dilation, transposed_with_empty_cut],
    "02.3": [output_padding_without_dilation, output_padding_of_one_side],
    "02.4": [matrix_flipped, matrix_transposed, matrix_without_padding],
    "02.5": [
        stretch_with_zeros_at_the_end,
        stretch_repeats,
        stretch_as_whole_numbers,
        stretch_returns_the_input,
    ],
}
RIGHT = [
    ("02.3", output_padding_by_trying),
    ("02.4", matrix_right),
    ("02.5", stretch_right),
]
