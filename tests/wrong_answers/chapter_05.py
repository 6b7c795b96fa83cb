import copy
import itertools

import numpy as np
import torch
from torch import nn

from fcnlib.convolutionalize import linear_to_conv

# --- 05.1


def parameters_of(counts, channels, cells, hidden, num_classes, bias=1, inputs=3):
    total = 0
    for count, outputs in zip(counts, channels, strict=True):
        for _ in range(count):
            total += outputs * (9 * inputs + bias)
            inputs = outputs
    sizes = [inputs * cells * cells, hidden, hidden, num_classes]
    for n, m in itertools.pairwise(sizes):
        total += m * (n + bias)
    return total


def parameters_without_biases(*table):
    return parameters_of(*table, bias=0)


def parameters_of_gray_pictures(*table):
    return parameters_of(*table, inputs=1)


def parameters_of_one_convolution_a_stage(counts, *rest):
    return parameters_of([1] * len(counts), *rest)


def parameters_without_fc7(counts, channels, cells, hidden, num_classes):
    whole = parameters_of(counts, channels, cells, hidden, num_classes)
    return whole - hidden * (hidden + 1)


def parameters_without_the_head(counts, channels, cells, hidden, num_classes):
    return parameters_of(counts, channels, cells, hidden, num_classes) - (
        hidden * (channels[-1] * cells * cells + 1)
        + hidden * (hidden + 1)
        + num_classes * (hidden + 1)
    )


def parameters_with_cells_not_squared(counts, channels, cells, hidden, num_classes):
    whole = parameters_of(counts, channels, cells, hidden, num_classes)
    return whole - hidden * channels[-1] * (cells * cells - cells)


def parameters_with_inputs_that_stay(counts, channels, cells, hidden, num_classes):
    total = parameters_of((), (), cells, hidden, num_classes, inputs=channels[-1])
    inputs = 3
    for count, outputs in zip(counts, channels, strict=True):
        total += count * (outputs * 9 * inputs + outputs)
        inputs = outputs
    return total


def parameters_of_vgg16(*table):
    return 138_357_544


def parameters_as_a_list(*table):
    return [parameters_of(*table)]


# --- 05.2


def conv_hwc(linear, channels, height, width):
    conv = nn.Conv2d(channels, linear.out_features, (height, width), bias=linear.bias is not None)
    conv = conv.to(linear.weight)
    weight = linear.weight.view(-1, height, width, channels).permute(0, 3, 1, 2)
    conv.weight = nn.Parameter(weight.detach().clone())
    if linear.bias is not None:
        conv.bias = nn.Parameter(linear.bias.detach().clone())
    return conv


def conv_of_the_usual_order(linear, channels, height, width):
    return linear_to_conv(linear, channels, height, width)


def conv_of_swapped_columns_and_rows(linear, channels, height, width):
    conv = conv_hwc(linear, channels, height, width)
    weight = linear.weight.view(-1, width, height, channels).permute(0, 3, 2, 1)
    conv.weight = nn.Parameter(weight.detach().clone())
    return conv


def conv_permuted_without_a_view(linear, channels, height, width):
    conv = conv_hwc(linear, channels, height, width)
    weight = linear.weight.view(-1, channels, height, width).permute(0, 2, 3, 1)
    conv.weight = nn.Parameter(weight.detach().clone())
    return conv


def conv_with_a_new_bias(linear, channels, height, width):
    conv = conv_hwc(linear, channels, height, width)
    if conv.bias is not None:
        conv.bias = nn.Parameter(torch.zeros_like(conv.bias))
    return conv


def conv_always_without_bias(linear, channels, height, width):
    conv = conv_hwc(linear, channels, height, width)
    conv.bias = None
    return conv


def conv_always_with_a_random_bias(linear, channels, height, width):
    conv = conv_hwc(linear, channels, height, width)
    if conv.bias is None:
        conv.bias = nn.Parameter(torch.ones(linear.out_features).to(linear.weight))
    return conv


def conv_not_filled(linear, channels, height, width):
    torch.manual_seed(0)
    return nn.Conv2d(channels, linear.out_features, (height, width)).to(linear.weight)


def conv_flipped(linear, channels, height, width):
    conv = conv_hwc(linear, channels, height, width)
    conv.weight = nn.Parameter(conv.weight.detach().flip(2, 3))
    return conv


def conv_padded(linear, channels, height, width):
    conv = conv_hwc(linear, channels, height, width)
    conv.padding = (1, 1)
    return conv


def conv_weight_alone(linear, channels, height, width):
    return conv_hwc(linear, channels, height, width).weight


def conv_that_changes_the_layer(linear, channels, height, width):
    conv = conv_hwc(linear, channels, height, width)
    with torch.no_grad():
        linear.weight.zero_()
    return conv


def conv_inside_a_sequential(linear, channels, height, width):
    return nn.Sequential(conv_hwc(linear, channels, height, width))


# --- 05.3


def times_fewer(window, stride, n):
    return (n * window / (window + (n - 1) * stride)) ** 2


def times_along_one_axis(window, stride, n):
    return n * window / (window + (n - 1) * stride)


def times_with_one_stride_too_many(window, stride, n):
    return (n * window / (window + n * stride)) ** 2


def times_windows_not_squared(window, stride, n):
    return n * window**2 / (window + (n - 1) * stride) ** 2


def times_in_the_limit(window, stride, n):
    return (window / stride) ** 2


def times_upside_down(window, stride, n):
    return 1 / times_fewer(window, stride, n)


def times_number_of_windows(window, stride, n):
    return n * n


def times_whole(window, stride, n):
    return (n * window) ** 2 // (window + (n - 1) * stride) ** 2


def times_by_half_the_window(window, stride, n):
    return times_fewer(window, window / 2, n)


# --- 05.4


def convert(classifier, size, first=None):
    layers = list(classifier)
    place = [type(layer) for layer in layers].index(nn.Flatten)
    features, result = nn.Sequential(*layers[:place]), layers[:place]
    weight = next(classifier.parameters())
    with torch.no_grad():
        shape = features(torch.zeros(1, weight.shape[1], size, size).to(weight)).shape[1:]
    for layer in layers[place + 1 :]:
        if isinstance(layer, nn.Linear):
            layer = (first or linear_to_conv)(layer, *shape)
            shape = (layer.out_channels, 1, 1)
        result.append(layer)
    return nn.Sequential(*result)


def converted_in_another_order(classifier, size):
    return convert(classifier, size, first=conv_hwc)


def converted_only_the_first(classifier, size):
    return convert(classifier, size)[:-1]


def converted_without_relu_behind(classifier, size):
    layers = list(classifier)
    place = [type(layer) for layer in layers].index(nn.Flatten)
    converted = list(convert(classifier, size))
    head = [layer for layer in converted[place:] if not isinstance(layer, nn.ReLU)]
    return nn.Sequential(*converted[:place], *head)


def converted_not(classifier, size):
    return classifier


def converted_by_averaging(classifier, size):
    layers = list(classifier)
    place = [type(layer) for layer in layers].index(nn.Flatten)
    with torch.no_grad():
        weight = next(classifier.parameters())
        features = nn.Sequential(*layers[:place])
        cells = features(torch.zeros(1, weight.shape[1], size, size).to(weight)).shape[2:]
    return nn.Sequential(*layers[:place], nn.AdaptiveAvgPool2d(tuple(cells)), *layers[place:])


def converted_in_place(classifier, size):
    result = convert(classifier, size)
    place = [type(layer) for layer in classifier].index(nn.Flatten)
    while len(classifier) > place:
        del classifier[-1]
    for layer in result[place:]:
        classifier.append(layer)
    return classifier


def converted_with_padding(classifier, size):
    result = convert(classifier, size)
    place = [type(layer) for layer in classifier].index(nn.Flatten)
    kernel = result[place].kernel_size
    result[place].padding = (kernel[0] // 2, kernel[1] // 2)
    return result


def converted_without_biases(classifier, size):
    result = convert(classifier, size)
    place = [type(layer) for layer in classifier].index(nn.Flatten)
    for layer in result[place:]:
        if isinstance(layer, nn.Conv2d):
            layer.bias = None
    return result


def converted_without_padding_everywhere(classifier, size):
    result = convert(copy.deepcopy(classifier), size)
    for layer in result:
        if isinstance(layer, nn.Conv2d):
            layer.padding = (0, 0)
    return result


def converted_with_random_weights(classifier, size):
    torch.manual_seed(0)
    result = convert(classifier, size)
    place = [type(layer) for layer in classifier].index(nn.Flatten)
    result[place].reset_parameters()
    return result


def converted_as_a_list(classifier, size):
    return list(convert(classifier, size))


WRONG = {
    "05.1": [
        parameters_without_biases,
        parameters_of_gray_pictures,
        parameters_of_one_convolution_a_stage,
        parameters_without_fc7,
        parameters_without_the_head,
        parameters_with_cells_not_squared,
        parameters_with_inputs_that_stay,
        parameters_of_vgg16,
        parameters_as_a_list,
    ],
    "05.2": [
        conv_of_the_usual_order,
        conv_of_swapped_columns_and_rows,
        conv_permuted_without_a_view,
        conv_with_a_new_bias,
        conv_always_without_bias,
        conv_always_with_a_random_bias,
        conv_not_filled,
        conv_flipped,
        conv_padded,
        conv_weight_alone,
        conv_that_changes_the_layer,
        conv_inside_a_sequential,
    ],
    "05.3": [
        times_along_one_axis,
        times_with_one_stride_too_many,
        times_windows_not_squared,
        times_in_the_limit,
        times_upside_down,
        times_number_of_windows,
        times_whole,
        times_by_half_the_window,
    ],
    "05.4": [
        converted_in_another_order,
        converted_only_the_first,
        converted_without_relu_behind,
        converted_not,
        converted_by_averaging,
        converted_in_place,
        converted_with_padding,
        converted_without_biases,
        converted_without_padding_everywhere,
        converted_with_random_weights,
        converted_as_a_list,
    ],
}


def parameters_in_numpy(counts, channels, cells, hidden, num_classes):
    return np.int64(parameters_of(counts, channels, cells, hidden, num_classes))


def parameters_by_real_layers(counts, channels, cells, hidden, num_classes):
    layers, inputs = [], 3
    with torch.device("meta"):
        for count, outputs in zip(counts, channels, strict=True):
            for _ in range(count):
                layers.append(nn.Conv2d(inputs, outputs, 3))
                inputs = outputs
        layers.append(nn.Linear(inputs * cells**2, hidden))
        layers += [nn.Linear(hidden, hidden), nn.Linear(hidden, num_classes)]
    return sum(weight.numel() for layer in layers for weight in layer.parameters())


def conv_by_loops(linear, channels, height, width):
    conv = nn.Conv2d(channels, linear.out_features, (height, width), bias=True)
    with torch.no_grad():
        for h in range(height):
            for w in range(width):
                for c in range(channels):
                    number = (h * width + w) * channels + c
                    conv.weight[:, c, h, w] = linear.weight[:, number]
        if linear.bias is None:
            conv.bias.zero_()
        else:
            conv.bias.copy_(linear.bias)
    return conv


def times_by_counting(window, stride, n):
    side = window + (n - 1) * stride
    return torch.tensor((n * window) ** 2 / side**2)


def times_rounded(window, stride, n):
    return round(times_fewer(window, stride, n), 2)


def convert_a_deep_copy(classifier, size):
    return convert(copy.deepcopy(classifier), size).eval()


def convert_in_float(classifier, size):
    return convert(copy.deepcopy(classifier).float(), size)


class Converted(nn.Module):
    def __init__(self, network):
        super().__init__()
        self.network = network

    def forward(self, x):
        return self.network(x)


def convert_as_a_module(classifier, size):
    return Converted(convert(classifier, size))


RIGHT = [
    ("05.1", parameters_of),
    ("05.1", parameters_in_numpy),
    ("05.1", parameters_by_real_layers),
    ("05.2", conv_hwc),
    ("05.2", conv_by_loops),
    ("05.3", times_fewer),
    ("05.3", times_by_counting),
    ("05.3", times_rounded),
    ("05.4", convert),
    ("05.4", convert_a_deep_copy),
    ("05.4", convert_in_float),
    ("05.4", convert_as_a_module),
]
