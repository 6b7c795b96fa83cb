"""Checks of the exercises in notebook 00."""

import math
from collections.abc import Callable

import torch

from fcnlib.course.checks import exercise


def _random_labels(generator: torch.Generator, classes: int) -> torch.Tensor:
    """Return labels (H, W), uint8, of a random small size, with some void."""
    height, width = torch.randint(1, 9, (2,), generator=generator).tolist()
    labels = torch.randint(0, classes, (height, width), generator=generator)
    void = torch.rand(height, width, generator=generator) < 0.2
    return torch.where(void, 255, labels).to(torch.uint8)


@exercise("00.1")
def check_main_class(main_class: Callable) -> None:
    """Compare with counts made in plain Python; ties are left out."""
    two_rings = torch.tensor([[0, 0, 0], [2, 2, 255], [1, 255, 255]], dtype=torch.uint8)
    result = main_class(two_rings)
    assert isinstance(result, int), (
        f"Return a Python int, as int(...) makes one, not {type(result).__name__}."
    )
    assert result == 2, f"For {two_rings.tolist()} the answer is 2, not {result}."
    for value in (0, 255):
        result = main_class(torch.full((3, 4), value, dtype=torch.uint8))
        assert result == 0, f"Where all pixels are {value} the answer is 0, not {result}."
    generator = torch.Generator().manual_seed(1)
    for _ in range(50):
        labels = _random_labels(generator, classes=6)
        values = labels.flatten().tolist()
        counts = sorted((values.count(k), k) for k in range(1, 6))
        if counts[-1][0] > counts[-2][0]:
            result = main_class(labels)
            wanted = counts[-1][1]
            assert result == wanted, f"For {labels.tolist()} the answer is {wanted}, not {result}."


@exercise("00.2")
def check_confident_labels(confident_labels: Callable) -> None:
    """Compare with sorted lists, pixel by pixel."""
    lead_of_two = torch.tensor([[[3.0]], [[1.0]]])
    result = confident_labels(lead_of_two, 2.0)
    assert isinstance(result, torch.Tensor), f"Return a tensor, not {type(result).__name__}."
    assert result.tolist() == [[0]], (
        "For the scores 3 and 1 and the margin 2 the label is 0: a lead of 2 is not less than 2."
    )
    generator = torch.Generator().manual_seed(2)
    for _ in range(30):
        classes, height, width = torch.randint(2, 6, (3,), generator=generator).tolist()
        scores = torch.randint(-9, 9, (classes, height, width), generator=generator).float()
        scores += 0.1 * torch.arange(classes)[:, None, None]  # no ties
        for margin in (0.0, 2.5):
            result = confident_labels(scores.clone(), margin)
            assert result.shape == (height, width), (
                f"For scores {tuple(scores.shape)} return labels {(height, width)}, "
                f"not {tuple(result.shape)}."
            )
            assert result.dtype == torch.int64, f"Return int64, not {result.dtype}."
            for row in range(height):
                for column in range(width):
                    pixel = scores[:, row, column].tolist()
                    second, best = sorted(pixel)[-2:]
                    wanted = 255 if best - second < margin else pixel.index(best)
                    got = int(result[row, column])
                    assert got == wanted, (
                        f"For the scores {[round(s, 1) for s in pixel]} the lead is "
                        f"{best - second:.1f}; with the margin {margin} the label is {wanted}, "
                        f"not {got}."
                    )


@exercise("00.3")
def check_iou(iou: Callable) -> None:
    """Compare with sets of pixels."""
    prediction = torch.tensor([[1, 1, 1, 0], [0, 0, 0, 0]], dtype=torch.uint8)
    truth = torch.tensor([[1, 1, 0, 0], [1, 1, 0, 0]], dtype=torch.uint8)
    _compare_iou(iou, prediction, truth, 2 / 5, "")
    truth[0, 3], prediction[0, 3] = 255, 1
    _compare_iou(iou, prediction, truth, 2 / 5, " The last pixel of the first row is void.")
    prediction[1, 0] = 255
    _compare_iou(iou, prediction, truth, 2 / 5, " 255 in the prediction is not void, only wrong.")
    assert math.isnan(iou(prediction, truth, 7)), "Where no pixel has the class, return nan."
    generator = torch.Generator().manual_seed(3)
    for _ in range(50):
        truth = _random_labels(generator, classes=3)
        prediction = torch.randint(0, 3, truth.shape, generator=generator).to(torch.uint8)
        pairs = list(enumerate(zip(prediction.flatten(), truth.flatten(), strict=True)))
        for label in range(3):
            a = {place for place, (p, t) in pairs if p == label and t != 255}
            b = {place for place, (_, t) in pairs if t == label}
            if a | b:
                _compare_iou(iou, prediction, truth, len(a & b) / len(a | b), "", label)


def _compare_iou(
    iou: Callable,
    prediction: torch.Tensor,
    truth: torch.Tensor,
    wanted: float,
    note: str,
    label: int = 1,
) -> None:
    result = iou(prediction.clone(), truth.clone(), label)
    assert isinstance(result, float), (
        f"Return a Python float, as float(...) makes one, not {type(result).__name__}."
    )
    assert math.isclose(result, wanted, abs_tol=1e-5), (
        f"The IoU of class {label} is {wanted:.5f}, not {result:.5f}, for the truth "
        f"{truth.tolist()} and the prediction {prediction.tolist()}.{note}"
    )
