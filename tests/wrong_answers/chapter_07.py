import copy
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

# --- 07.1


def sizes_rounded_down(n):
    return _sizes(n // 8, n // 16, n // 32)


def sizes_not_cut_between(n):
    pool3, pool4, pool5 = (math.ceil(n / stride) for stride in (8, 16, 32))
    return [pool3, pool4, pool5, 2 * pool5, 4 * pool5, 32 * pool5]


def sizes_last_one_cut(n):
    return [*sizes_right(n)[:5], n]


def sizes_all_cut(n):
    pool3, pool4, pool5 = sizes_right(n)[:3]
    return [pool3, pool4, pool5, pool4, pool3, n]


def sizes_of_one_pooling_too_few(n):
    return _sizes(*(math.ceil(n / stride) for stride in (4, 8, 16)))


def sizes_without_the_ups(n):
    return sizes_right(n)[:3]


def sizes_as_text(n):
    return [str(rows) for rows in sizes_right(n)]


def _sizes(pool3, pool4, pool5):
    return [pool3, pool4, pool5, 2 * pool5, 2 * pool4, 8 * pool3]


# --- 07.2


def sum_cut_at_the_start_of_both(coarse, fine, rows):
    return sum_right(coarse[..., rows:, rows:], fine, rows)


def sum_cut_at_the_end_only(coarse, fine, rows):
    return sum_right(coarse, fine, 0)


def sum_rows_only(coarse, fine, rows):
    fine = fine[..., rows:, :]
    height, width = (min(a, b) for a, b in zip(coarse.shape[2:], fine.shape[2:], strict=True))
    return coarse[..., :height, :width] + fine[..., :height, :width]


def sum_central(coarse, fine, rows):
    top, left = ((f - c) // 2 for c, f in zip(coarse.shape[2:], fine.shape[2:], strict=True))
    return sum_right(coarse, fine[..., max(0, top) :, max(0, left) :], 0)


def sum_fine_always_longer(coarse, fine, rows):
    height, width = coarse.shape[2:]
    return coarse + fine[..., rows : rows + height, rows : rows + width]


def sum_stretched(coarse, fine, rows):
    return coarse + F.interpolate(fine, coarse.shape[2:])


def sum_concatenated(coarse, fine, rows):
    fine = fine[..., rows:, rows:]
    height, width = (min(a, b) for a, b in zip(coarse.shape[2:], fine.shape[2:], strict=True))
    return torch.cat([coarse[..., :height, :width], fine[..., :height, :width]], dim=1)


def sum_padded(coarse, fine, rows):
    fine = fine[..., rows:, rows:]
    height, width = (max(a, b) for a, b in zip(coarse.shape[2:], fine.shape[2:], strict=True))
    return _pad(coarse, height, width) + _pad(fine, height, width)


def _pad(x, height, width):
    return F.pad(x, (0, width - x.shape[3], 0, height - x.shape[2]))


# --- 07.3


def parameters_without_biases(channels, num_classes):
    return sum(channels) * num_classes


def parameters_one_bias(channels, num_classes):
    return sum(c * num_classes + 1 for c in channels)


def parameters_bias_once(channels, num_classes):
    return sum(channels) * num_classes + num_classes


def parameters_with_upsampling(channels, num_classes):
    return sum((c + 1) * num_classes + num_classes * 4 * 4 for c in channels)


def parameters_first_only(channels, num_classes):
    return (channels[0] + 1) * num_classes if channels else 0


def parameters_3x3(channels, num_classes):
    return sum((9 * c + 1) * num_classes for c in channels)


# --- 07.4


def mend_nothing(network):
    return network


def mend_by_stretching(network):
    return lambda x: F.interpolate(network(x), x.shape[2:], mode="bilinear")


def mend_by_padding_the_picture(network):
    return lambda x: network(F.pad(x, (100, 92, 100, 92)))


def mend_at_the_end_only(network):
    return lambda x: F.pad(network(F.pad(x, (0, 192, 0, 192))), (0, 0, 0, 0))


def mend_padding_6(network):
    network.fc6.padding = (6, 6)
    return network


def mend_with_a_crop(network):
    network.fc6.padding = (6, 6)
    return lambda x: network(x)[..., : x.shape[2], : x.shape[3]]


def mend_with_a_1x1_kernel(network):
    network.fc6 = nn.Conv2d(network.fc6.in_channels, network.fc6.out_channels, 1)
    return network


def mend_upscore_without_padding(network):
    network.upscore.padding = (0, 0)
    return network


def mend_other_weights(network):
    network.fc6 = nn.Conv2d(network.fc6.in_channels, network.fc6.out_channels, 7, padding=3)
    return network


def mend_the_first_padding_alone(network):
    network.features[0].padding = (100, 100)
    return network


def mend_returns_nothing(network):
    network.fc6.padding = (3, 3)


# --- 07.5


def change_scale_once(feature, gradient, rate, scale):
    return -rate * gradient * feature**2 * scale


def change_without_scale(feature, gradient, rate, scale):
    return -rate * gradient * feature**2


def change_of_the_weight(feature, gradient, rate, scale):
    return -rate * gradient * scale * feature


def change_upwards(feature, gradient, rate, scale):
    return -change_right(feature, gradient, rate, scale)


def change_feature_once(feature, gradient, rate, scale):
    return -rate * gradient * feature * scale**2


def change_rounded(feature, gradient, rate, scale):
    return round(change_right(feature, gradient, rate, scale), 3)


WRONG = {
    "07.1": [
        sizes_rounded_down,
        sizes_not_cut_between,
        sizes_last_one_cut,
        sizes_all_cut,
        sizes_of_one_pooling_too_few,
        sizes_without_the_ups,
        sizes_as_text,
    ],
    "07.2": [
        sum_cut_at_the_start_of_both,
        sum_cut_at_the_end_only,
        sum_rows_only,
        sum_central,
        sum_fine_always_longer,
        sum_stretched,
        sum_concatenated,
        sum_padded,
    ],
    "07.3": [
        parameters_without_biases,
        parameters_one_bias,
        parameters_bias_once,
        parameters_with_upsampling,
        parameters_first_only,
        parameters_3x3,
    ],
    "07.4": [
        mend_nothing,
        mend_by_stretching,
        mend_by_padding_the_picture,
        mend_at_the_end_only,
        mend_padding_6,
        mend_with_a_crop,
        mend_with_a_1x1_kernel,
        mend_upscore_without_padding,
        mend_other_weights,
        mend_the_first_padding_alone,
        mend_returns_nothing,
    ],
    "07.5": [
        change_scale_once,
        change_without_scale,
        change_of_the_weight,
        change_upwards,
        change_feature_once,
        change_rounded,
    ],
}


# --- other right answers


def sizes_right(n):
    return _sizes(*(math.ceil(n / stride) for stride in (8, 16, 32)))


def sizes_as_an_array(n):
    return np.array(sizes_right(n))


def sizes_as_floats(n):
    return tuple(map(float, sizes_right(n)))


def sum_right(coarse, fine, rows):
    fine = fine[..., rows:, rows:]
    height, width = (min(a, b) for a, b in zip(coarse.shape[2:], fine.shape[2:], strict=True))
    return coarse[..., :height, :width] + fine[..., :height, :width]


def sum_in_place(coarse, fine, rows):
    height = min(coarse.shape[2], fine.shape[2] - rows)
    width = min(coarse.shape[3], fine.shape[3] - rows)
    total = coarse[:, :, :height, :width]
    total += fine[:, :, rows : rows + height, rows : rows + width]
    return total


def parameters_by_layers(channels, num_classes):
    layers = [nn.Conv2d(c, num_classes, 1) for c in channels]
    return sum(p.numel() for layer in layers for p in layer.parameters())


def parameters_in_one_line(channels, num_classes):
    return np.int64((sum(channels) + len(channels)) * num_classes)


def mend_by_same(network):
    network.fc6.padding = "same"
    return network


def mend_by_a_number(network):
    network.fc6.padding = 3
    return network


def mend_a_copy(network):
    network = copy.deepcopy(network)
    network.fc6.padding = (3, 3)
    return network


def mend_by_a_new_layer(network):
    old = network.fc6
    network.fc6 = nn.Conv2d(old.in_channels, old.out_channels, 7, padding=3)
    network.fc6.load_state_dict(old.state_dict())
    return network


def mend_by_padding_the_map(network):
    network.features.append(nn.ZeroPad2d(3))
    return network


def mend_by_padding_97(network):
    network.features[0].padding = (97, 97)
    return network


def mend_by_a_frame(network):
    return lambda x: network(F.pad(x, (96, 96, 96, 96), value=0.5))


def mend_by_a_function(network):
    def mended(x):
        features = F.pad(network.features(x), (3, 3, 3, 3))
        return network.upscore(network.score(F.relu(network.fc6(features))))

    return mended


def change_right(feature, gradient, rate, scale):
    return -rate * gradient * (scale * feature) ** 2


def change_as_a_tensor(feature, gradient, rate, scale):
    return torch.tensor(change_right(feature, gradient, rate, scale), dtype=torch.float32)


RIGHT = [
    ("07.1", sizes_right),
    ("07.1", sizes_as_an_array),
    ("07.1", sizes_as_floats),
    ("07.2", sum_right),
    ("07.2", sum_in_place),
    ("07.3", parameters_by_layers),
    ("07.3", parameters_in_one_line),
    ("07.4", mend_by_same),
    ("07.4", mend_by_a_number),
    ("07.4", mend_a_copy),
    ("07.4", mend_by_a_new_layer),
    ("07.4", mend_by_padding_the_map),
    ("07.4", mend_by_padding_97),
    ("07.4", mend_by_a_frame),
    ("07.4", mend_by_a_function),
    ("07.5", change_right),
    ("07.5", change_as_a_tensor),
]
