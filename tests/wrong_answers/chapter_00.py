import torch


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


def iou_in_float32(prediction, truth, label):
    valid = truth != 255
    a, b = (prediction == label) & valid, (truth == label) & valid
    return float((a & b).sum() / (a | b).sum())


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
}
RIGHT = [("00.3", iou_in_float32)]
