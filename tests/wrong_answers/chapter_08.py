"""What students might answer: WRONG, which each check must refuse, and RIGHT."""

import numpy as np
import torch
from torch.nn import functional as F

VOID = 255

# --- 08.1


def _pixel_losses(logits, labels):
    """Return the losses and the labels of the valid pixels."""
    valid = labels != VOID
    losses = -logits.log_softmax(1).gather(1, labels.where(valid, 0)[:, None])[:, 0]
    return losses[valid], labels[valid]


def weighted_by_pixels(logits, labels, weights):
    losses, labels = _pixel_losses(logits, labels)
    return (weights[labels] * losses).sum() / max(1, len(labels))


def weighted_by_pixels_and_void(logits, labels, weights):
    losses, labels_ = _pixel_losses(logits, labels)
    return (weights[labels_] * losses).sum() / labels.numel()


def weighted_not_divided(logits, labels, weights):
    losses, labels = _pixel_losses(logits, labels)
    return (weights[labels] * losses).sum()


def weighted_nan_without_pixels(logits, labels, weights):
    losses, labels = _pixel_losses(logits, labels)
    return (weights[labels] * losses).sum() / weights[labels].sum()


def weighted_not_at_all(logits, labels, weights):
    losses, _ = _pixel_losses(logits, labels)
    return losses.sum() / max(1, len(losses))


def weighted_by_prediction(logits, labels, weights):
    losses, _ = _pixel_losses(logits, labels)
    given = weights[logits.argmax(1)[labels != VOID]]
    return (given * losses).sum() / given.sum().clamp(min=1e-9)


def weighted_logits(logits, labels, weights):
    return weighted_not_at_all(logits * weights[:, None, None], labels, weights)


def weighted_void_as_background(logits, labels, weights):
    return F.cross_entropy(logits, labels.where(labels != VOID, 0), weights)


def weighted_clamped_at_one(logits, labels, weights):
    losses, labels = _pixel_losses(logits, labels)
    return (weights[labels] * losses).sum() / weights[labels].sum().clamp(min=1)


def weighted_map(logits, labels, weights):
    losses, labels = _pixel_losses(logits, labels)
    return weights[labels] * losses


def weighted_float(logits, labels, weights):
    return weighted_right(logits, labels, weights).item()


def weighted_forgets_void(logits, labels, weights):
    losses = -logits.log_softmax(1).gather(1, labels[:, None])[:, 0]
    return (weights[labels] * losses).sum() / weights[labels].sum()


# --- 08.2


def rate_of_their_pixels(lr, weight_decay, batch, size, height, width, void):
    pixels = batch * size**2 * (1 - void)
    return lr / pixels, weight_decay * pixels


def rate_of_the_ratio(lr, weight_decay, batch, size, height, width, void):
    pixels = height * width / (batch * size**2)
    return lr / pixels, weight_decay * pixels


def rate_with_void(lr, weight_decay, batch, size, height, width, void):
    return lr / (height * width), weight_decay * height * width


def rate_of_void(lr, weight_decay, batch, size, height, width, void):
    pixels = height * width * void
    return lr / max(pixels, 1), weight_decay * pixels


def rate_backwards(lr, weight_decay, batch, size, height, width, void):
    pixels = height * width * (1 - void)
    return lr * pixels, weight_decay / pixels


def rate_alone(lr, weight_decay, batch, size, height, width, void):
    return lr / (height * width * (1 - void)), weight_decay


def rate_both_divided(lr, weight_decay, batch, size, height, width, void):
    pixels = height * width * (1 - void)
    return lr / pixels, weight_decay / pixels


def rate_per_batch(lr, weight_decay, batch, size, height, width, void):
    pixels = height * width * (1 - void) * batch
    return lr / pixels, weight_decay * pixels


def rate_swapped(lr, weight_decay, batch, size, height, width, void):
    return rate_right(lr, weight_decay, batch, size, height, width, void)[::-1]


def rate_only_one(lr, weight_decay, batch, size, height, width, void):
    return lr / (height * width * (1 - void))


# --- 08.3


def copied(targets, predictions, num_classes):
    """The function as it is printed in the notebook."""
    scores = []
    for target, prediction in zip(targets, predictions, strict=True):
        for k in range(num_classes):
            truth, given = target == k, prediction == k
            intersection = (truth & given).sum()
            union = truth.sum() + given.sum()
            scores.append((intersection + 1e-6) / (union + 1e-6))
    return sum(scores) / len(scores)


def _sums(targets, predictions, num_classes, void=True, union=True):
    """Return intersections and unions of the whole list; options leave mistakes in."""
    inside, either = torch.zeros(num_classes), torch.zeros(num_classes)
    for target, prediction in zip(targets, predictions, strict=True):
        keep = target != VOID if void else torch.ones_like(target, dtype=torch.bool)
        for k in range(num_classes):
            truth, given = (target == k) & keep, (prediction == k) & keep
            inside[k] += (truth & given).sum()
            either[k] += (truth | given).sum() if union else truth.sum() + given.sum()
    return inside, either


def mended_all_but_void(targets, predictions, num_classes):
    inside, either = _sums(targets, predictions, num_classes, void=False)
    return (inside / either).nanmean()


def mended_all_but_the_union(targets, predictions, num_classes):
    inside, either = _sums(targets, predictions, num_classes, union=False)
    return (inside / either).nanmean()


def mended_all_but_absent_classes(targets, predictions, num_classes):
    inside, either = _sums(targets, predictions, num_classes)
    return ((inside + 1e-6) / (either + 1e-6)).mean()


def mended_absent_as_zero(targets, predictions, num_classes):
    inside, either = _sums(targets, predictions, num_classes)
    return (inside / either).nan_to_num().mean()


def mended_all_but_pictures(targets, predictions, num_classes):
    scores = [
        mended_right([target], [prediction], num_classes)
        for target, prediction in zip(targets, predictions, strict=True)
    ]
    return sum(scores) / len(scores)


def mended_classes_of_the_truth(targets, predictions, num_classes):
    inside, either = _sums(targets, predictions, num_classes)
    here = [any((target == k).any() for target in targets) for k in range(num_classes)]
    return (inside / either)[here].mean()


def mended_without_background(targets, predictions, num_classes):
    inside, either = _sums(targets, predictions, num_classes)
    return (inside / either)[1:].nanmean().nan_to_num()


def mended_void_as_background(targets, predictions, num_classes):
    return mended_right([t.where(t != VOID, 0) for t in targets], predictions, num_classes)


def mended_accuracy(targets, predictions, num_classes):
    right = sum(int((t == p).sum()) for t, p in zip(targets, predictions, strict=True))
    return right / sum(int((t != VOID).sum()) for t in targets)


def mended_in_percent(targets, predictions, num_classes):
    return 100 * mended_right(targets, predictions, num_classes)


def mended_as_a_list(targets, predictions, num_classes):
    inside, either = _sums(targets, predictions, num_classes)
    return (inside / either).tolist()


# --- 08.4


def _filled(labels, stride, choose):
    """Return a map with one label in each cell, which choose makes of the cell."""
    blocks = torch.zeros_like(labels)
    for i in range(0, labels.shape[0], stride):
        for j in range(0, labels.shape[1], stride):
            cell = labels[i : i + stride, j : j + stride]
            blocks[i : i + stride, j : j + stride] = choose(cell)
    return blocks


def blocks_of_the_middle(labels, stride):
    def middle(cell):
        label = cell[min(stride // 2, cell.shape[0] - 1), min(stride // 2, cell.shape[1] - 1)]
        return 0 if label == VOID else label

    return _filled(labels, stride, middle)


def blocks_with_void(labels, stride):
    return _filled(labels, stride, lambda cell: cell.flatten().mode().values)


def blocks_with_void_as_background(labels, stride):
    labels = labels.where(labels != VOID, 0)
    return _filled(labels, stride, lambda cell: torch.bincount(cell.flatten()).argmax())


def blocks_of_the_mean(labels, stride):
    def mean(cell):
        valid = cell[cell != VOID]
        return valid.float().mean().round() if len(valid) else 0

    return _filled(labels, stride, mean)


def blocks_of_the_largest(labels, stride):
    def largest(cell):
        valid = cell[cell != VOID]
        return valid.max() if len(valid) else 0

    return _filled(labels, stride, largest)


def blocks_void_stays(labels, stride):
    def most(cell):
        valid = cell[cell != VOID]
        return torch.bincount(valid.flatten()).argmax() if len(valid) else VOID

    return _filled(labels, stride, most)


def blocks_only_whole(labels, stride):
    blocks = torch.zeros_like(labels)
    rows, columns = (n // stride * stride for n in labels.shape)
    blocks[:rows, :columns] = blocks_right(labels[:rows, :columns], stride)
    return blocks


def blocks_cut_off(labels, stride):
    rows, columns = (n // stride * stride for n in labels.shape)
    return blocks_right(labels[:rows, :columns], stride)


def blocks_small(labels, stride):
    return blocks_right(labels, stride)[::stride, ::stride]


def blocks_truth(labels, stride):
    return labels.where(labels != VOID, 0)


WRONG = {
    "08.1": [
        weighted_by_pixels,
        weighted_by_pixels_and_void,
        weighted_not_divided,
        weighted_nan_without_pixels,
        weighted_not_at_all,
        weighted_by_prediction,
        weighted_logits,
        weighted_void_as_background,
        weighted_clamped_at_one,
        weighted_map,
        weighted_float,
        weighted_forgets_void,
    ],
    "08.2": [
        rate_of_their_pixels,
        rate_of_the_ratio,
        rate_with_void,
        rate_of_void,
        rate_backwards,
        rate_alone,
        rate_both_divided,
        rate_per_batch,
        rate_swapped,
        rate_only_one,
    ],
    "08.3": [
        copied,
        mended_all_but_void,
        mended_all_but_the_union,
        mended_all_but_absent_classes,
        mended_absent_as_zero,
        mended_all_but_pictures,
        mended_classes_of_the_truth,
        mended_without_background,
        mended_void_as_background,
        mended_accuracy,
        mended_in_percent,
        mended_as_a_list,
    ],
    "08.4": [
        blocks_of_the_middle,
        blocks_with_void,
        blocks_with_void_as_background,
        blocks_of_the_mean,
        blocks_of_the_largest,
        blocks_void_stays,
        blocks_only_whole,
        blocks_cut_off,
        blocks_small,
        blocks_truth,
    ],
}

# --- right, but not as in the solutions


def weighted_right(logits, labels, weights):
    if (labels == VOID).all():
        return torch.zeros(())
    return F.cross_entropy(logits, labels, weights.to(logits.dtype), ignore_index=VOID)


def weighted_by_loops(logits, labels, weights):
    total = divisor = torch.zeros((), dtype=logits.dtype)
    for n, i, j in (labels != VOID).nonzero().tolist():
        label = labels[n, i, j]
        total = total - weights[label] * logits[n, :, i, j].log_softmax(0)[label]
        divisor = divisor + weights[label]
    return total / divisor if divisor > 0 else total


def weighted_by_one_hot(logits, labels, weights):
    """In 32 bits, with a row of zeros for void."""
    table = torch.cat([torch.eye(len(weights)), torch.zeros(256 - len(weights), len(weights))])
    shares = table[labels].permute(0, 3, 1, 2) * weights.float()[:, None, None]
    total = -(shares * logits.float().log_softmax(1)).sum()
    return total / shares.sum().clamp(min=1e-12)


def rate_right(lr, weight_decay, batch, size, height, width, void):
    pixels = height * width * (1 - void)
    return lr / pixels, weight_decay * pixels


def rate_as_a_list(lr, weight_decay, batch, size, height, width, void):
    return list(rate_right(lr, weight_decay, batch, size, height, width, void))


def rate_as_an_array(lr, weight_decay, batch, size, height, width, void):
    return np.array(rate_right(lr, weight_decay, batch, size, height, width, void))


def mended_right(targets, predictions, num_classes):
    inside, either = _sums(targets, predictions, num_classes)
    return (inside / either).nanmean()


def mended_by_numpy(targets, predictions, num_classes):
    target = np.concatenate([t.numpy().ravel().astype(int) for t in targets])
    prediction = np.concatenate([p.numpy().ravel() for p in predictions])
    counts = np.zeros((num_classes, num_classes), int)
    np.add.at(counts, (target[target != VOID], prediction[target != VOID]), 1)
    union = counts.sum(0) + counts.sum(1) - counts.diagonal()
    return (counts.diagonal()[union > 0] / union[union > 0]).mean()


def mended_by_one_long_row(targets, predictions, num_classes):
    rows = [torch.cat([m.flatten().long() for m in maps]) for maps in (targets, predictions)]
    return mended_right([rows[0]], [rows[1]], num_classes).item()


def blocks_right(labels, stride):
    def most(cell):
        valid = cell[cell != VOID]
        return torch.bincount(valid.flatten()).argmax() if len(valid) else 0

    return _filled(labels, stride, most)


def blocks_by_pooling(labels, stride):
    """A share for each class; of two that are equal either may win."""
    height, width = labels.shape
    truth = labels == torch.arange(30)[:, None, None]
    truth = F.pad(truth[None].double(), (0, -width % stride, 0, -height % stride))
    best = F.avg_pool2d(truth, stride).argmax(dim=1)[0]
    large = best.repeat_interleave(stride, 0).repeat_interleave(stride, 1)
    return large[:height, :width]


def blocks_of_the_last(labels, stride):
    """Of classes that are equally frequent the last; floating point labels."""

    def most(cell):
        valid = cell[cell != VOID].tolist()
        return max(sorted(valid, reverse=True), key=valid.count, default=0)

    return _filled(labels.float(), stride, most)


RIGHT = [
    ("08.1", weighted_right),
    ("08.1", weighted_by_loops),
    ("08.1", weighted_by_one_hot),
    ("08.2", rate_right),
    ("08.2", rate_as_a_list),
    ("08.2", rate_as_an_array),
    ("08.3", mended_right),
    ("08.3", mended_by_numpy),
    ("08.3", mended_by_one_long_row),
    ("08.4", blocks_right),
    ("08.4", blocks_by_pooling),
    ("08.4", blocks_of_the_last),
]
