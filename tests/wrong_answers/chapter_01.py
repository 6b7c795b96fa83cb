import numpy as np
import torch
from torch.nn.functional import pad


def colors_unknown_as_zero(picture, colormap):
    numbers = np.zeros(picture.shape[:2], int)
    for number, color in enumerate(colormap):
        numbers[(picture == color).all(-1)] = number
    return numbers


def colors_any_channel(picture, colormap):
    numbers = np.full(picture.shape[:2], 255)
    for number, color in enumerate(colormap):
        numbers[(picture == color).any(-1)] = number
    return numbers


def colors_nearest(picture, colormap):
    distance = (picture[..., None, :].astype(int) - colormap.astype(int)) ** 2
    return distance.sum(-1).argmin(-1)


def frequencies_mean_of_pictures(label_maps, num_classes):
    counts = [torch.bincount(m.flatten(), minlength=256)[:num_classes] for m in label_maps]
    return torch.stack([c / c.sum().clamp(min=1) for c in counts]).mean(0)


def frequencies_with_void(label_maps, num_classes):
    counts = sum(torch.bincount(m.flatten(), minlength=256) for m in label_maps)
    return counts[:num_classes] / counts.sum()


def frequencies_of_the_first(label_maps, num_classes):
    return frequencies_with_void(label_maps[:1], num_classes)


def constant_iou_is_accuracy(frequencies, label):
    return float(frequencies[label]), float(frequencies[label])


def constant_always_background(frequencies, label):
    return float(frequencies[0]), float(frequencies[0]) / len(frequencies)


def constant_all_21_classes(frequencies, label):
    return float(frequencies[label]), float(frequencies[label]) / 21


def crop_by_slices(image, labels, top, left, height, width):
    window = np.s_[top : top + height, left : left + width]
    return image[:, *window], labels[window]


def crop_padding(image, labels, top, left, height, width, fill):
    rows, columns = labels.shape
    sides = (-left, left + width - columns, -top, top + height - rows)
    sides = tuple(max(0, side) for side in sides)
    image, labels = pad(image, sides), pad(labels, sides, value=fill)
    top, left = max(0, top), max(0, left)
    window = np.s_[top : top + height, left : left + width]
    return image[:, *window], labels[window]


def crop_with_background(*arguments):
    return crop_padding(*arguments, fill=0)


def crop_in_place(image, labels, *window):
    result = crop_padding(image, labels, *window, fill=255)
    labels.zero_()
    return result


def crop_changes_dtype(image, labels, *window):
    image, labels = crop_padding(image, labels, *window, fill=255)
    return image, labels.long()


def frequencies_as_a_list(label_maps, num_classes):
    pixels = [value for labels in label_maps for value in labels.flatten().tolist()]
    valid = [value for value in pixels if value != 255]
    return [valid.count(label) / len(valid) for label in range(num_classes)]


WRONG = {
    "01.1": [colors_unknown_as_zero, colors_any_channel, colors_nearest],
    "01.2": [frequencies_mean_of_pictures, frequencies_with_void, frequencies_of_the_first],
    "01.3": [constant_iou_is_accuracy, constant_always_background, constant_all_21_classes],
    "01.4": [crop_by_slices, crop_with_background, crop_in_place, crop_changes_dtype],
}
RIGHT = [
    ("01.2", frequencies_as_a_list),
    ("01.4", lambda *a: crop_padding(*a, fill=255)),
]
