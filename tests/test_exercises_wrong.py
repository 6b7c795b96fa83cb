"""Answers that a student might give and that are wrong: each check must refuse them."""

import numpy as np
import pytest
import torch
from torch.nn.functional import pad

from fcnlib.course.checks import run_check


def main_class_counts_void(labels):
    counts = torch.bincount(labels.flatten(), minlength=256)
    counts[0] = 0
    return int(counts.argmax())


def main_class_counts_background(labels):
    counts = torch.bincount(labels.flatten(), minlength=256)
    counts[255] = 0
    return int(counts.argmax())


def main_class_takes_the_largest_number(labels):
    objects = labels[(labels > 0) & (labels < 255)]
    return int(objects.max()) if len(objects) else 0


def main_class_without_an_object_fails(labels):
    objects = labels[(labels > 0) & (labels < 255)]
    return int(torch.bincount(objects).argmax())


def doubt_ignored(scores, margin):
    return scores.argmax(0)


def doubt_as_background(scores, margin):
    best, classes = scores.topk(2, dim=0)
    return torch.where(best[0] - best[1] < margin, 0, classes[0])


def doubt_by_the_score_itself(scores, margin):
    best, classes = scores.max(dim=0)
    return torch.where(best < margin, 255, classes)


def doubt_at_the_margin_too(scores, margin):
    best, classes = scores.topk(2, dim=0)
    return torch.where(best[0] - best[1] <= margin, 255, classes[0])


def iou_with_void(prediction, truth, label):
    a, b = prediction == label, truth == label
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else float("nan")


def iou_as_accuracy(prediction, truth, label):
    valid = (truth == label) & (truth != 255)
    return float((prediction == truth)[valid].float().mean())


def iou_zero_for_absent(prediction, truth, label):
    valid = truth != 255
    a, b = (prediction == label) & valid, (truth == label) & valid
    return int((a & b).sum()) / max(1, int((a | b).sum()))


def iou_leaves_out_void_predictions(prediction, truth, label):
    valid = (truth != 255) & (prediction != 255)
    a, b = (prediction == label) & valid, (truth == label) & valid
    union = int((a | b).sum())
    return int((a & b).sum()) / union if union else float("nan")


def dice(prediction, truth, label):
    valid = truth != 255
    a, b = (prediction == label) & valid, (truth == label) & valid
    both = int(a.sum() + b.sum())
    return 2 * int((a & b).sum()) / both if both else float("nan")


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


WRONG = {
    "00.1": [
        main_class_counts_void,
        main_class_counts_background,
        main_class_takes_the_largest_number,
        main_class_without_an_object_fails,
    ],
    "00.2": [
        doubt_ignored,
        doubt_as_background,
        doubt_by_the_score_itself,
        doubt_at_the_margin_too,
    ],
    "00.3": [
        iou_with_void,
        iou_as_accuracy,
        iou_zero_for_absent,
        dice,
        iou_leaves_out_void_predictions,
    ],
    "01.1": [colors_unknown_as_zero, colors_any_channel, colors_nearest],
    "01.2": [frequencies_mean_of_pictures, frequencies_with_void, frequencies_of_the_first],
    "01.3": [constant_iou_is_accuracy, constant_always_background, constant_all_21_classes],
    "01.4": [crop_by_slices, crop_with_background, crop_in_place, crop_changes_dtype],
}


@pytest.mark.parametrize(
    ("number", "answer"), [(number, answer) for number in WRONG for answer in WRONG[number]]
)
def test_a_wrong_answer_is_refused_with_a_sentence(number, answer):
    with pytest.raises(AssertionError) as refused:
        run_check(number, answer)
    assert 20 < len(str(refused.value).splitlines()[0]) < 400
    assert str(refused.value).strip().endswith((".", ")"))


def iou_in_float32(prediction, truth, label):
    valid = truth != 255
    a, b = (prediction == label) & valid, (truth == label) & valid
    return float((a & b).sum() / (a | b).sum())


def frequencies_as_a_list(label_maps, num_classes):
    pixels = [value for labels in label_maps for value in labels.flatten().tolist()]
    valid = [value for value in pixels if value != 255]
    return [valid.count(label) / len(valid) for label in range(num_classes)]


@pytest.mark.parametrize(
    ("number", "answer"),
    [
        ("00.3", iou_in_float32),
        ("01.2", frequencies_as_a_list),
        ("01.4", lambda *a: crop_padding(*a, fill=255)),
    ],
)
def test_another_right_answer_passes(number, answer):
    run_check(number, answer)
