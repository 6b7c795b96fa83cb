import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fcnlib.losses import (
    AUXILIARY_WEIGHT,
    mean_to_sum,
    pixel_cross_entropy,
    segmentation_loss,
    sum_to_mean,
)

VOID = 255
REDUCTIONS = ["mean", "sum"]
each_reduction = pytest.mark.parametrize("reduction", REDUCTIONS)


def batch(seed: int = 0, void: float = 0.3, ignore_index: int = VOID) -> tuple[Tensor, Tensor]:
    """Logits of doubles (2, 4, 5, 6) and labels, some of which are void."""
    torch.manual_seed(seed)
    logits = 3 * torch.randn(2, 4, 5, 6, dtype=torch.float64)
    labels = torch.randint(4, (2, 5, 6))
    return logits, labels.masked_fill(torch.rand(labels.shape) < void, ignore_index)


def by_loops(logits: Tensor, labels: Tensor, ignore_index: int = VOID) -> tuple[float, int]:
    """Return the sum of the cross-entropies, with numbers of Python, and how many there are."""
    total, count = 0.0, 0
    pictures, classes, height, width = logits.shape
    for n in range(pictures):
        for i in range(height):
            for j in range(width):
                label = int(labels[n, i, j])
                if label != ignore_index:
                    powers = [math.exp(logits[n, k, i, j]) for k in range(classes)]
                    total -= math.log(powers[label] / sum(powers))
                    count += 1
    return total, count


# --- what it computes


def test_two_pixels_by_hand():
    """Odds of 3 to 1 are a probability of 3/4; even odds are 1/2."""
    logits = torch.tensor([[[[math.log(3.0), 0.0, 9.0]], [[0.0, 0.0, -9.0]]]])  # (1, 2, 1, 3)
    labels = torch.tensor([[[0, 1, VOID]]])
    total = math.log(4 / 3) + math.log(2)
    assert pixel_cross_entropy(logits, labels, "sum").item() == pytest.approx(total)
    assert pixel_cross_entropy(logits, labels).item() == pytest.approx(total / 2)


@pytest.mark.parametrize("num_classes", [2, 21])
def test_equal_logits_cost_log_k(num_classes: int):
    labels = torch.randint(num_classes, (1, 3, 4))
    loss = pixel_cross_entropy(torch.zeros(1, num_classes, 3, 4), labels)
    assert loss.item() == pytest.approx(math.log(num_classes))


@pytest.mark.parametrize("ignore_index", [VOID, 0, -100])
@pytest.mark.parametrize("void", [0.0, 0.3, 0.9])
def test_loops_agree(void: float, ignore_index: int):
    for seed in range(5):
        logits, labels = batch(seed, void, ignore_index)
        total, count = by_loops(logits, labels, ignore_index)
        found = {r: pixel_cross_entropy(logits, labels, r, ignore_index) for r in REDUCTIONS}
        assert found["sum"].item() == pytest.approx(total, rel=1e-12, abs=1e-12)
        assert found["mean"].item() == pytest.approx(total / max(count, 1), rel=1e-12, abs=1e-12)


@each_reduction
def test_pytorch_agrees(reduction: str):
    logits, labels = batch()
    theirs = F.cross_entropy(logits, labels, ignore_index=VOID, reduction=reduction)
    torch.testing.assert_close(pixel_cross_entropy(logits, labels, reduction), theirs)


@each_reduction
def test_gradients(reduction: str):
    logits, labels = batch()
    logits = logits[:1, :, :2, :3].clone().requires_grad_()
    labels = labels[:1, :2, :3]
    assert (labels == VOID).any() and (labels != VOID).any()
    torch.autograd.gradcheck(lambda x: pixel_cross_entropy(x, labels, reduction), logits)


def test_the_gradient_is_the_probability_less_the_truth():
    logits, labels = batch()
    logits.requires_grad_()
    pixel_cross_entropy(logits, labels, "sum").backward()
    valid = labels != VOID
    truth = F.one_hot(labels.where(valid, 0), 4).permute(0, 3, 1, 2)
    expected = (logits.softmax(dim=1) - truth) * valid[:, None]
    torch.testing.assert_close(logits.grad, expected.detach())


# --- void


@each_reduction
def test_scores_in_void_pixels_change_nothing(reduction: str):
    logits, labels = batch()
    other = torch.where((labels == VOID)[:, None], 100 * torch.randn_like(logits), logits)
    loss, same = (pixel_cross_entropy(x, labels, reduction) for x in (logits, other))
    torch.testing.assert_close(same, loss, rtol=1e-12, atol=0)
    other.requires_grad_()
    pixel_cross_entropy(other, labels, reduction).backward()
    assert not other.grad.permute(0, 2, 3, 1)[labels == VOID].any()


@each_reduction
def test_a_batch_of_void_teaches_nothing(reduction: str):
    logits = torch.randn(2, 3, 4, 5, requires_grad=True)
    loss = pixel_cross_entropy(logits, torch.full((2, 4, 5), VOID), reduction)
    loss.backward()
    assert loss.item() == 0
    assert torch.equal(logits.grad, torch.zeros_like(logits))


def test_a_label_without_a_class_is_an_error():
    with pytest.raises(IndexError):
        pixel_cross_entropy(torch.zeros(1, 3, 1, 1), torch.full((1, 1, 1), 3))


# --- numbers of 16 bits


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@each_reduction
def test_halves_are_summed_as_floats(dtype: torch.dtype, reduction: str):
    """60,000 pixels: a sum in 16 bits would stop growing, or be infinite."""
    torch.manual_seed(0)
    logits = torch.randn(1, 8, 200, 300).to(dtype)
    labels = torch.randint(8, (1, 200, 300))
    loss = pixel_cross_entropy(logits, labels, reduction)
    assert loss.dtype == torch.float32
    exact = F.cross_entropy(logits.double(), labels, reduction=reduction)
    torch.testing.assert_close(loss.double(), exact, rtol=1e-5, atol=0)


def test_doubles_stay_doubles():
    logits, labels = batch()
    assert pixel_cross_entropy(logits, labels).dtype == torch.float64


# --- sum and mean


def test_the_sum_is_the_mean_times_the_valid_pixels():
    logits, labels = batch()
    total, mean = (pixel_cross_entropy(logits, labels, r) for r in ("sum", "mean"))
    torch.testing.assert_close(total, mean * (labels != VOID).sum())


def test_another_reduction_is_refused():
    with pytest.raises(ValueError, match=r"'mean' or 'sum', not 'none'"):
        pixel_cross_entropy(*batch(), reduction="none")


def test_the_papers_numbers():
    lr, weight_decay = sum_to_mean(1e-10, 5e-4, 375 * 500)
    assert lr == pytest.approx(1.875e-5)
    assert weight_decay == pytest.approx(2.667e-9, rel=1e-3)


def test_there_and_back():
    there = sum_to_mean(3e-7, 5e-4, 1234.5)
    assert mean_to_sum(*there, 1234.5) == pytest.approx((3e-7, 5e-4))


@pytest.mark.parametrize("pixels", [0, -1, math.nan])
@pytest.mark.parametrize("convert", [sum_to_mean, mean_to_sum])
def test_no_pixels_cannot_be_converted(convert, pixels: float):
    with pytest.raises(ValueError, match="pixels must be greater than 0"):
        convert(1.0, 1.0, pixels)


@pytest.mark.parametrize("momentum", [0.0, 0.9])
@pytest.mark.parametrize("nesterov", [False, True])
@pytest.mark.parametrize("backwards", [False, True])
def test_steps_are_the_same_in_both_conventions(momentum: float, nesterov: bool, backwards: bool):
    """Several steps of SGD, in doubles, with the same number of valid pixels in each."""
    given = (0.02, 0.3)  # a decay that large shows
    labels = torch.randint(3, (1, 4, 5), generator=torch.Generator().manual_seed(0))
    labels[0, 0, :3] = VOID
    pixels = int((labels != VOID).sum())
    convert = mean_to_sum if backwards else sum_to_mean
    pair = ("mean", "sum") if backwards else ("sum", "mean")
    nesterov = nesterov and momentum > 0
    first = trained(labels, pair[0], *given, momentum, nesterov)
    second = trained(labels, pair[1], *convert(*given, pixels), momentum, nesterov)
    torch.testing.assert_close(first, second, rtol=1e-9, atol=1e-12)
    unconverted = trained(labels, pair[1], *given, momentum, nesterov)
    assert not torch.allclose(first, unconverted, rtol=0.1)


def trained(labels: Tensor, reduction: str, lr: float, decay: float, *rest) -> Tensor:
    """Return the weights of a small layer after four steps."""
    torch.manual_seed(1)
    layer = nn.Conv2d(2, 3, 1).double()
    momentum, nesterov = rest
    optimizer = torch.optim.SGD(
        layer.parameters(), lr, momentum, weight_decay=decay, nesterov=nesterov
    )
    for _ in range(4):
        picture = torch.randn(*labels.shape[:1], 2, *labels.shape[1:], dtype=torch.float64)
        optimizer.zero_grad()
        pixel_cross_entropy(layer(picture), labels, reduction).backward()
        optimizer.step()
    return torch.cat([layer.weight.flatten(), layer.bias]).detach()


# --- with an auxiliary head


@each_reduction
def test_one_map_of_logits(reduction: str):
    logits, labels = batch()
    loss = segmentation_loss(logits, labels, reduction)
    assert torch.equal(loss, pixel_cross_entropy(logits, labels, reduction))


@each_reduction
def test_the_auxiliary_head_counts_four_tenths(reduction: str):
    (main, labels), (auxiliary, _) = batch(0), batch(1)
    parts = [pixel_cross_entropy(x, labels, reduction) for x in (main, auxiliary)]
    loss = segmentation_loss((main, auxiliary), labels, reduction)
    torch.testing.assert_close(loss, parts[0] + 0.4 * parts[1])
    assert AUXILIARY_WEIGHT == 0.4


def test_the_ignored_label_is_handed_on():
    logits, labels = batch(ignore_index=2)
    ignoring = segmentation_loss(logits, labels, ignore_index=2)
    torch.testing.assert_close(ignoring, F.cross_entropy(logits, labels, ignore_index=2))
    pair = segmentation_loss((logits, logits), labels, "sum", ignore_index=2)
    torch.testing.assert_close(pair, 1.4 * pixel_cross_entropy(logits, labels, "sum", 2))
