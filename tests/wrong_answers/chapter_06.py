import math
from fractions import Fraction

import numpy as np
import torch

from fcnlib.geometry import PICTURE, Geometry, Layer, crop, geometry

# --- 06.1


def needed_rounded_down(field, jump, wanted):
    return max(0, (wanted - field) // (2 * jump))


def needed_without_the_jump(field, jump, wanted):
    return max(0, math.ceil((wanted - field) / 2))


def needed_one_jump_each(field, jump, wanted):
    return max(0, math.ceil((wanted - field) / jump))


def needed_three_jumps_each(field, jump, wanted):
    return max(0, math.ceil((wanted - field) / (3 * jump)))


def needed_may_be_negative(field, jump, wanted):
    return math.ceil((wanted - field) / (2 * jump))


def needed_for_more_than_wanted(field, jump, wanted):
    count = 0
    while field <= wanted:
        field, count = field + 2 * jump, count + 1
    return count


def needed_at_least_one(field, jump, wanted):
    return max(1, needed_by_formula(field, jump, wanted))


def needed_with_a_growing_jump(field, jump, wanted):
    count = 0
    while field < wanted:
        field, jump, count = field + 2 * jump, jump * 2, count + 1
    return count


def needed_returns_the_field(field, jump, wanted):
    while field < wanted:
        field += 2 * jump
    return field


def needed_exact_fraction(field, jump, wanted):
    return max(0, (wanted - field) / (2 * jump))


# --- 06.2


def middle_without_padding(layers, m):
    return middle_forwards([(k, s, 0) for k, s, _ in layers], m)


def middle_first_pixel(layers, m):
    for _, stride, padding in reversed(layers):
        m = m * stride - padding
    return m


def middle_half_kernel(layers, m):
    for kernel, stride, padding in reversed(layers):
        m = m * stride - padding + kernel / 2
    return m


def middle_floored(layers, m):
    for kernel, stride, padding in reversed(layers):
        m = m * stride - padding + (kernel - 1) // 2
    return m


def middle_jump_too_early(layers, m):
    jump, offset = 1, 0
    for kernel, stride, padding in layers:
        jump *= stride
        offset += ((kernel - 1) / 2 - padding) * jump
    return jump * m + offset


def middle_never_negative(layers, m):
    return max(0, middle_forwards(layers, m))


def middle_wrong_order(layers, m):
    return middle_forwards(layers[::-1], m)


# --- 06.3


def row_without_offset(stride, offset, kernel, up, padding):
    return _first_row_or_error((kernel - 1) / 2 - padding, up == stride)


def row_half_kernel(stride, offset, kernel, up, padding):
    return _first_row_or_error(kernel / 2 - padding - offset, up == stride)


def row_rounded(stride, offset, kernel, up, padding):
    row = round((kernel - 1) / 2 - padding - offset)
    return _first_row_or_error(row, up == stride)


def row_ignores_up(stride, offset, kernel, up, padding):
    return _first_row_or_error((kernel - 1) / 2 - padding - offset, True)


def row_negative_too(stride, offset, kernel, up, padding):
    row = (kernel - 1) / 2 - padding - offset
    if up != stride or row != int(row):
        raise ValueError("no crop")
    return int(row)


def row_negative_as_zero(stride, offset, kernel, up, padding):
    row = (kernel - 1) / 2 - padding - offset
    return _first_row_or_error(max(0, row), up == stride)


def row_padding_added(stride, offset, kernel, up, padding):
    return _first_row_or_error((kernel - 1) / 2 + padding - offset, up == stride)


def row_offset_added(stride, offset, kernel, up, padding):
    return _first_row_or_error((kernel - 1) / 2 - padding + offset, up == stride)


def row_none_instead_of_an_error(stride, offset, kernel, up, padding):
    try:
        return row_by_the_library(stride, offset, kernel, up, padding)
    except ValueError:
        return None


def row_always_an_error(stride, offset, kernel, up, padding):
    raise ValueError("no crop")


def row_raises_another_error(stride, offset, kernel, up, padding):
    try:
        return row_by_the_library(stride, offset, kernel, up, padding)
    except ValueError:
        raise TypeError("no crop") from None


def _first_row_or_error(row, fits):
    if not fits or row != int(row) or row < 0:
        raise ValueError("no crop")
    return int(row)


# --- 06.4


def padding_rounding_down(poolings, kernel, size):
    return max(0, math.ceil((kernel * 2**poolings + 2 - size) / 2))


def padding_of_two_convolution_rows_forgotten(poolings, kernel, size):
    return max(0, math.ceil(((kernel - 1) * 2**poolings + 1 - size) / 2))


def padding_may_be_negative(poolings, kernel, size):
    return math.ceil(((kernel - 1) * 2**poolings + 1 + 2 - size) / 2)


def padding_on_one_side(poolings, kernel, size):
    return max(0, (kernel - 1) * 2**poolings + 3 - size)


def padding_halves_rounded_down(poolings, kernel, size):
    return max(0, ((kernel - 1) * 2**poolings + 3 - size) // 2)


def padding_of_vgg(poolings, kernel, size):
    return 97


def padding_tried_up_to_100(poolings, kernel, size):
    for padding in range(100):
        if padding == padding_by_formula(poolings, kernel, size):
            return padding
    return None


def padding_up_to_100_at_most(poolings, kernel, size):
    return min(100, padding_by_formula(poolings, kernel, size))


def padding_not_rounded(poolings, kernel, size):
    return max(0, ((kernel - 1) * 2**poolings + 3 - size) / 2)


def padding_one_too_many(poolings, kernel, size):
    return padding_by_formula(poolings, kernel, size) + 1


WRONG = {
    "06.1": [
        needed_rounded_down,
        needed_without_the_jump,
        needed_one_jump_each,
        needed_three_jumps_each,
        needed_may_be_negative,
        needed_for_more_than_wanted,
        needed_at_least_one,
        needed_with_a_growing_jump,
        needed_returns_the_field,
        needed_exact_fraction,
    ],
    "06.2": [
        middle_without_padding,
        middle_first_pixel,
        middle_half_kernel,
        middle_floored,
        middle_jump_too_early,
        middle_never_negative,
        middle_wrong_order,
    ],
    "06.3": [
        row_without_offset,
        row_half_kernel,
        row_rounded,
        row_ignores_up,
        row_negative_too,
        row_negative_as_zero,
        row_padding_added,
        row_offset_added,
        row_none_instead_of_an_error,
        row_always_an_error,
        row_raises_another_error,
    ],
    "06.4": [
        padding_rounding_down,
        padding_of_two_convolution_rows_forgotten,
        padding_may_be_negative,
        padding_on_one_side,
        padding_halves_rounded_down,
        padding_of_vgg,
        padding_tried_up_to_100,
        padding_up_to_100_at_most,
        padding_not_rounded,
        padding_one_too_many,
    ],
}


# --- other right answers


def needed_by_formula(field, jump, wanted):
    return max(0, math.ceil((wanted - field) / (2 * jump)))


def needed_by_the_library(field, jump, wanted):
    chain, count = Geometry(Fraction(field), Fraction(jump), Fraction(0)), 0
    while chain.receptive_field < wanted:
        chain, count = chain.after(Layer(3)), count + 1
    return count


def needed_in_numpy(field, jump, wanted):
    return np.maximum(0, np.ceil((wanted - field) / (2 * jump)))


def middle_forwards(layers, m):
    jump, offset = 1, 0
    for kernel, stride, padding in layers:
        offset += ((kernel - 1) / 2 - padding) * jump
        jump *= stride
    return jump * m + offset


def middle_by_the_library(layers, m):
    return geometry(Layer(*layer) for layer in layers).centre(m)


def row_by_the_library(stride, offset, kernel, up, padding):
    coarse = Geometry(Fraction(1), Fraction(stride), Fraction(offset))
    return crop(coarse.after(Layer(kernel, up, padding, transposed=True)), PICTURE)


def row_as_a_float(stride, offset, kernel, up, padding):
    return float(row_by_the_library(stride, offset, kernel, up, padding))


def padding_as_a_tensor(poolings, kernel, size):
    return torch.tensor(padding_by_formula(poolings, kernel, size))


def padding_by_formula(poolings, kernel, size):
    return max(0, math.ceil(((kernel - 1) * 2**poolings + 3 - size) / 2))


RIGHT = [
    ("06.1", needed_by_formula),
    ("06.1", needed_by_the_library),
    ("06.1", needed_in_numpy),
    ("06.2", middle_forwards),
    ("06.2", middle_by_the_library),
    ("06.3", row_by_the_library),
    ("06.3", row_as_a_float),
    ("06.4", padding_by_formula),
    ("06.4", padding_as_a_tensor),
]
