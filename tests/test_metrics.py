import math
import random

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from metrics_oracle import Maps, counts_by_loops, scores_by_loops
from torch import Tensor
from torchmetrics.classification import (
    MulticlassAccuracy,
    MulticlassConfusionMatrix,
    MulticlassJaccardIndex,
)

from fcnlib.metrics import ConfusionMatrix, near_boundary

VOID = 255
SCORES = ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou")
INTEGERS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
UNSIGNED = (torch.uint16, torch.uint32, torch.uint64)

# Classes 3 and 4 are absent by turns; some pixels are void, in some maps all of them.
maps = st.builds(
    Maps.drawn,
    seed=st.integers(0, 2**32 - 1),
    num_classes=st.integers(1, 6),
    shape=st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)),
    void=st.sampled_from((0.0, 0.2, 0.9, 1.0)),
    right=st.sampled_from((0.0, 0.5, 1.0)),
)
many = settings(max_examples=150, deadline=None)


def counted(case: Maps, ignore_index: int = VOID) -> ConfusionMatrix:
    matrix = ConfusionMatrix(case.num_classes, ignore_index)
    matrix.update(case.target, case.prediction)
    return matrix


def from_counts(counts: list[list[int]]) -> ConfusionMatrix:
    matrix = ConfusionMatrix(len(counts))
    matrix.counts = torch.tensor(counts)
    return matrix


# --- by hand


def test_the_papers_formulas_on_three_classes():
    """Rows: 6 pixels of class 0, 3 of class 1, 1 of class 2. Columns: 5, 4, 1."""
    matrix = from_counts([[4, 1, 1], [0, 3, 0], [1, 0, 0]])
    assert matrix.pixel_accuracy() == pytest.approx(7 / 10)
    assert matrix.mean_accuracy() == pytest.approx((4 / 6 + 3 / 3 + 0 / 1) / 3)
    ious = [4 / (6 + 5 - 4), 3 / (3 + 4 - 3), 0 / (1 + 1 - 0)]
    assert matrix.iou_per_class().tolist() == pytest.approx(ious)
    assert matrix.mean_iou() == pytest.approx(sum(ious) / 3)
    assert matrix.frequency_weighted_iou() == pytest.approx((6 * ious[0] + 3 * ious[1]) / 10)


def test_rows_are_targets_and_columns_are_predictions():
    matrix = ConfusionMatrix(3)
    matrix.update(torch.tensor([0, 0, 0, 1, VOID]), torch.tensor([2, 2, 0, 1, 1]))
    assert matrix.counts.tolist() == [[1, 0, 2], [0, 1, 0], [0, 0, 0]]


def test_absent_classes_are_nan_and_left_out():
    """Class 1 is nowhere; class 2 is predicted, but not there."""
    matrix = from_counts([[8, 0, 2, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 1, 3]])
    ious = matrix.iou_per_class()
    assert ious.isnan().tolist() == [False, True, False, False]
    assert matrix.mean_iou() == pytest.approx((8 / 10 + 0 + 3 / 4) / 3)
    assert matrix.mean_accuracy() == pytest.approx((8 / 10 + 3 / 4) / 2)
    assert matrix.frequency_weighted_iou() == pytest.approx((10 * 8 / 10 + 4 * 3 / 4) / 14)


@pytest.mark.parametrize("score", SCORES)
def test_nothing_counted_is_nan(score: str):
    assert math.isnan(getattr(ConfusionMatrix(4), score)())
    assert ConfusionMatrix(4).iou_per_class().isnan().all()


def test_always_background():
    matrix = from_counts([[5, 2, 0], [1, 1, 0], [0, 0, 0]])
    lazy = matrix.always(0)
    assert lazy.counts.tolist() == [[7, 0, 0], [2, 0, 0], [0, 0, 0]]
    assert lazy.pixel_accuracy() == pytest.approx(7 / 9)
    assert lazy.mean_iou() == pytest.approx((7 / 9 + 0) / 2)
    assert matrix.counts.sum() == 9 and matrix.counts[0, 1] == 2  # as it was


@many
@given(case=maps)
def test_always_is_the_matrix_of_that_answer(case: Maps):
    for label in range(case.num_classes):
        lazy = ConfusionMatrix(case.num_classes)
        lazy.update(case.target, torch.full_like(case.target, label))
        assert torch.equal(counted(case).always(label).counts, lazy.counts)


# --- against plain loops, and against torchmetrics


@many
@given(case=maps)
def test_loops_agree(case: Maps):
    matrix = counted(case)
    counts = counts_by_loops(case.target.tolist(), case.prediction.tolist(), case.num_classes)
    assert matrix.counts.tolist() == counts
    expected = scores_by_loops(counts)
    for score in SCORES:
        found = getattr(matrix, score)()
        assert isinstance(found, float)
        assert found == pytest.approx(expected[score], nan_ok=True), score
    found = matrix.iou_per_class()
    assert found.dtype == torch.float64
    assert found.tolist() == pytest.approx(expected["iou_per_class"], nan_ok=True)


@many
@given(case=maps.filter(lambda case: case.num_classes > 1))
def test_torchmetrics_agrees(case: Maps):
    matrix = counted(case)
    options = {"num_classes": case.num_classes, "ignore_index": VOID}

    def theirs(metric, **more) -> Tensor:
        return metric(**options, **more)(case.prediction, case.target).double()

    assert torch.equal(matrix.counts, theirs(MulticlassConfusionMatrix).long())
    valid = case.target != VOID
    if not valid.any():
        return  # theirs are 0 then, ours nan
    here, answered = (matrix.counts.sum(dim=d) > 0 for d in (1, 0))
    ious = theirs(MulticlassJaccardIndex, average=None)
    ours = matrix.iou_per_class()
    assert torch.equal(ours.isnan(), ~(here | answered))
    torch.testing.assert_close(ours[here | answered], ious[here | answered], rtol=1e-6, atol=1e-7)
    pairs = [
        (matrix.mean_iou(), theirs(MulticlassJaccardIndex, average="macro")),
        (matrix.frequency_weighted_iou(), theirs(MulticlassJaccardIndex, average="weighted")),
        (matrix.pixel_accuracy(), theirs(MulticlassAccuracy, average="micro")),
    ]
    accuracies = theirs(MulticlassAccuracy, average=None)[here]  # only of classes in the targets
    pairs.append((matrix.mean_accuracy(), accuracies.mean()))
    for ours, expected in pairs:
        assert ours == pytest.approx(float(expected), rel=1e-5, abs=1e-6)


# --- properties


@many
@given(case=maps)
def test_a_batch_is_its_maps_one_by_one(case: Maps):
    one_by_one, merged = ConfusionMatrix(case.num_classes), ConfusionMatrix(case.num_classes)
    for target, prediction in zip(case.target, case.prediction, strict=True):
        one_by_one.update(target, prediction)
        part = ConfusionMatrix(case.num_classes)
        part.update(target, prediction)
        merged.merge(part)
    assert torch.equal(one_by_one.counts, counted(case).counts)
    assert torch.equal(merged.counts, counted(case).counts)


@many
@given(case=maps, seed=st.integers(0, 1000))
def test_the_order_of_pixels_does_not_matter(case: Maps, seed: int):
    order = torch.randperm(case.target.numel(), generator=torch.Generator().manual_seed(seed))
    shuffled = ConfusionMatrix(case.num_classes)
    shuffled.update(case.target.flatten()[order], case.prediction.flatten()[order])
    assert torch.equal(shuffled.counts, counted(case).counts)


@many
@given(case=maps, seed=st.integers(0, 1000))
def test_the_names_of_classes_do_not_matter(case: Maps, seed: int):
    names = torch.randperm(case.num_classes, generator=torch.Generator().manual_seed(seed))
    target = torch.where(
        case.target == VOID, VOID, names[case.target.where(case.target != VOID, 0)]
    )
    renamed = ConfusionMatrix(case.num_classes)
    renamed.update(target, names[case.prediction])
    matrix = counted(case)
    for score in SCORES:
        ours, theirs = (getattr(m, score)() for m in (matrix, renamed))
        assert ours == pytest.approx(theirs, nan_ok=True)
    torch.testing.assert_close(
        matrix.iou_per_class(), renamed.iou_per_class()[names], equal_nan=True
    )


@many
@given(case=maps)
def test_the_truth_is_right(case: Maps):
    case = Maps(case.num_classes, case.target, case.target.where(case.target != VOID, 0))
    matrix = counted(case)
    if (case.target != VOID).any():
        assert [getattr(matrix, score)() for score in SCORES] == pytest.approx([1.0] * 4)
    assert not (matrix.counts - matrix.counts.diagonal().diag()).any()


@many
@given(case=maps)
def test_scores_lie_in_order(case: Maps):
    """No IoU is above its accuracy, and so no mean of them, where every class is in the targets."""
    matrix = counted(case)
    if not (matrix.counts.sum(dim=1) > 0).all():
        return
    assert 0 <= matrix.mean_iou() <= matrix.mean_accuracy() + 1e-12 <= 1 + 1e-9
    assert 0 <= matrix.frequency_weighted_iou() <= matrix.pixel_accuracy() + 1e-12


@pytest.mark.parametrize("dtype", [*INTEGERS, *UNSIGNED])
@pytest.mark.parametrize("other", INTEGERS)
def test_any_integer_type(dtype: torch.dtype, other: torch.dtype):
    case = Maps.drawn(seed=3, num_classes=5, shape=(2, 6, 7), void=0, right=0.5)
    case.target[0, 0] = 99  # fits every type
    typed = Maps(5, case.target.to(dtype), case.prediction.to(other))
    assert torch.equal(counted(typed, 99).counts, counted(case, 99).counts)
    assert counted(case, 99).counts.sum() == 2 * 6 * 7 - 7


def test_a_mask_as_it_is_read():
    """A subclass of Tensor, of uint8, where 255 is void."""
    from torchvision.tv_tensors import Mask

    matrix = ConfusionMatrix(2)
    matrix.update(Mask(np.array([[0, 1, 255]], np.uint8)), torch.tensor([[0, 0, 1]]))
    assert type(matrix.counts) is Tensor
    assert matrix.counts.tolist() == [[1, 0], [1, 0]]


def test_more_pixels_than_32_bits_hold():
    matrix = from_counts([[2**40, 2**40], [0, 2**40]])
    matrix.merge(from_counts([[1, 0], [0, 0]]))
    assert matrix.counts.dtype == torch.int64 and matrix.counts[0, 0] == 2**40 + 1
    assert matrix.pixel_accuracy() == pytest.approx(2 / 3)


def test_every_pixel_of_many_counts():
    """A float of 32 bits cannot tell 2**30 + 1 from 2**30."""
    matrix = from_counts([[2**30 + 1, 0], [0, 3]])
    assert [getattr(matrix, score)() for score in SCORES] == [1.0] * 4


def test_labels_under_void_pixels_do_not_matter():
    matrix = ConfusionMatrix(2)
    matrix.update(torch.tensor([VOID, VOID, 1]), torch.tensor([VOID, -7, 1]))
    assert matrix.counts.tolist() == [[0, 0], [0, 1]]


def test_another_label_may_be_ignored():
    """Ignoring background: rows *and* columns, but a prediction of it counts where it is wrong."""
    matrix = ConfusionMatrix(3, ignore_index=0)
    matrix.update(torch.tensor([0, 0, 1, 2]), torch.tensor([0, 2, 0, 2]))
    assert matrix.counts.tolist() == [[0, 0, 0], [1, 0, 0], [0, 0, 1]]


# --- what is refused


def zeros(*shape: int, dtype: torch.dtype = torch.int64) -> Tensor:
    return torch.zeros(shape, dtype=dtype)


REFUSED = [
    (zeros(2, 3), zeros(3, 2), r"\(2, 3\) and prediction \(3, 2\) must have the same shape"),
    (zeros(4, 4), zeros(1, 4, 4), "same shape"),
    (zeros(3), torch.zeros(3), "prediction must hold integer labels, not torch.float32"),
    (torch.zeros(3), zeros(3), "target must hold integer labels"),
    (zeros(3), zeros(3, dtype=torch.bool), "not torch.bool"),
    (zeros(3), torch.zeros(3, dtype=torch.complex64), "not torch.complex64"),
    (torch.tensor([0, 3]), torch.tensor([0, 0]), "target holds the label 3, but there are 3"),
    (torch.tensor([0, 254]), torch.tensor([0, 0]), "target holds the label 254"),
    (torch.tensor([0, -1]), torch.tensor([0, 0]), "target holds the label -1"),
    (torch.tensor([0, -1]).to(torch.int8), torch.tensor([0, 0]), "target holds the label -1"),
    (torch.tensor([0, 1]), torch.tensor([0, 3]), "prediction holds the label 3"),
    (torch.tensor([0, 1]), torch.tensor([0, VOID]), "prediction holds the label 255"),
    (torch.tensor([0, 1]), torch.tensor([-1, 0]), "prediction holds the label -1"),
]


@pytest.mark.parametrize(("target", "prediction", "message"), REFUSED)
def test_what_cannot_be_counted_is_refused_and_not_counted(
    target: Tensor, prediction: Tensor, message: str
):
    matrix = ConfusionMatrix(3)
    matrix.update(torch.tensor([1]), torch.tensor([2]))
    before = matrix.counts.clone()
    with pytest.raises(ValueError, match=message):
        matrix.update(target, prediction)
    assert torch.equal(matrix.counts, before)


def test_no_classes_are_refused():
    with pytest.raises(ValueError, match="num_classes must be at least 1, not 0"):
        ConfusionMatrix(0)


def test_matrices_of_other_sizes_cannot_be_merged():
    matrix = from_counts([[1, 0], [0, 1]])
    with pytest.raises(ValueError, match="3 classes cannot be added to one of 2"):
        matrix.merge(ConfusionMatrix(3))
    assert matrix.counts.sum() == 2


# --- on the embedded set


def test_always_background_on_the_embedded_set(shapes_root):
    """The score to beat, as notebooks 01 and 08 print it."""
    from fcnlib.data import SegmentationFolder

    matrix = ConfusionMatrix(8)
    for _, labels in SegmentationFolder(shapes_root, "val"):
        matrix.update(labels, torch.zeros_like(labels))
    assert matrix.pixel_accuracy() == pytest.approx(0.768, abs=5e-4)
    assert matrix.mean_iou() == pytest.approx(0.096, abs=5e-4)
    assert torch.equal(matrix.always(0).counts, matrix.counts)


def test_random_maps_of_a_real_size():
    dice = random.Random(0)
    case = Maps.drawn(dice.randrange(2**32), 21, (2, 90, 125), void=0.05, right=0.7)
    counts = counts_by_loops(case.target.tolist(), case.prediction.tolist(), 21)
    assert counted(case).counts.tolist() == counts


# --- near other labels


@many
@given(
    labels=st.builds(
        lambda seed, shape, classes: torch.from_numpy(
            np.random.default_rng(seed).choice([0, 3, VOID][:classes], shape).astype(np.uint8)
        ),
        seed=st.integers(0, 2**32 - 1),
        shape=st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)),
        classes=st.integers(1, 3),
    ),
    distance=st.integers(1, 4),
)
def test_near_boundary_by_loops(labels: Tensor, distance: int):
    found = near_boundary(labels, distance)
    assert found.shape == labels.shape and found.dtype == torch.bool
    pictures, height, width = labels.shape
    for n, row, column in np.ndindex(pictures, height, width):
        window = labels[
            n,
            max(0, row - distance) : row + distance + 1,
            max(0, column - distance) : column + distance + 1,
        ]
        assert found[n, row, column] == (window != labels[n, row, column]).any()


def test_near_boundary_by_hand():
    labels = torch.tensor([[0, 0, 0, 0, 7, 7, 7]])
    assert near_boundary(labels, 1).int().tolist() == [[0, 0, 0, 1, 1, 0, 0]]
    assert near_boundary(labels, 2).int().tolist() == [[0, 0, 1, 1, 1, 1, 0]]
    with pytest.raises(ValueError, match="at least 1, not 0"):
        near_boundary(labels, 0)
