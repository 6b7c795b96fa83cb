"""Checks of the exercises in notebook 04."""

import random
from collections.abc import Callable

import torch
from torch.nn.functional import conv_transpose1d, interpolate, pad

from fcnlib.course.checks import exercise


@exercise("04.1")
def check_stamp_counts(stamp_counts: Callable) -> None:
    """Let PyTorch stamp ones onto zeros."""
    dice = random.Random(41)
    cases = [(3, 3, 2), (1, 4, 2), (3, 1, 3)]
    cases += [(dice.randint(1, 7), dice.randint(1, 8), dice.randint(1, 5)) for _ in range(50)]
    for n, kernel_size, stride in cases:
        ones, kernel = torch.ones(1, 1, n), torch.ones(1, 1, kernel_size)
        wanted = conv_transpose1d(ones, kernel, stride=stride).flatten().int().tolist()
        result = stamp_counts(n, kernel_size, stride)
        named = f"n = {n}, kernel_size = {kernel_size}, stride = {stride}"
        assert isinstance(result, list), f"Return a list, not {type(result).__name__}."
        assert len(result) == len(wanted), (
            f"{named}: the list should have {len(wanted)} numbers, but yours has {len(result)}."
        )
        assert result == wanted, f"{named}: it should be {wanted}, but yours is {result}."


@exercise("04.2")
def check_upsample_list(upsample_list: Callable) -> None:
    """Interpolate with a zero at each end, and cut off what the zeros become."""
    dice = random.Random(42)
    cases: list[tuple[list[float], int]] = [([4, 8], 2), ([4], 2), ([3, 6], 3)]
    for _ in range(50):
        numbers = [float(dice.randint(-9, 9)) for _ in range(dice.randint(1, 6))]
        cases.append((numbers, dice.randint(1, 8)))
    for x, s in cases:
        bordered = pad(torch.tensor([[x]], dtype=torch.float64), (1, 1))
        wanted = interpolate(bordered, scale_factor=s, mode="linear")[0, 0, s:-s]
        before = list(x)
        result = upsample_list(x, s)
        assert x == before, "Your function changes its input."
        assert isinstance(result, list), f"Return a list, not {type(result).__name__}."
        assert len(result) == s * len(x), (
            f"x = {x}, s = {s}: the list should have {s * len(x)} numbers, "
            f"but yours has {len(result)}."
        )
        for j, (right, got) in enumerate(zip(wanted.tolist(), result, strict=True)):
            assert abs(float(got) - right) < 1e-5, (
                f"x = {x}, s = {s}: output {j} should be {right:.3f}, "
                f"but yours is {float(got):.3f}."
            )


@exercise("04.3")
def check_keep_diagonal(keep_diagonal: Callable) -> None:
    """Put kernels on a diagonal and ask for them; put a number beside it."""
    by_hand = torch.tensor([[5.0, 0.0], [0.0, 7.0]])[:, :, None, None]
    _compare_diagonal(keep_diagonal, by_hand, torch.tensor([5.0, 7.0])[:, None, None, None])
    for above, below in ((1, 0), (0, 1), (1, 1), (1, -1), (1e-6, 0)):
        mixing = by_hand.clone()
        mixing[0, 1], mixing[1, 0] = above, below
        named = f"The weight [[5, {above}], [{below}, 7]]"
        _expect_refusal(keep_diagonal, mixing, f"{named} mixes channels")
    generator = torch.Generator().manual_seed(43)
    for _ in range(30):
        channels, size = torch.randint(1, 6, (2,), generator=generator).tolist()
        kernels = torch.randint(-9, 10, (channels, size, size), generator=generator).float()
        dense = torch.zeros(channels, channels, size, size)
        for channel in range(channels):
            dense[channel, channel] = kernels[channel]
        _compare_diagonal(keep_diagonal, dense, kernels[:, None])
        if channels > 1:
            source, row, column = (
                int(torch.randint(0, top, (1,), generator=generator))
                for top in (channels, size, size)
            )
            dense[source, source - 1, row, column] = -1
            named = f"A weight with -1 from channel {source} to {(source - 1) % channels}"
            _expect_refusal(keep_diagonal, dense.clone(), f"{named} mixes channels")
            for back in (1, -1):
                dense[source - 1, source, row, column] = back
                named = f"A weight with -1 in one direction between two channels and {back} back"
                _expect_refusal(keep_diagonal, dense.clone(), f"{named} mixes channels")


def _compare_diagonal(keep_diagonal: Callable, dense: torch.Tensor, wanted: torch.Tensor) -> None:
    """Ask for the diagonal of a weight that has nothing beside it."""
    before = dense.clone()
    result = keep_diagonal(dense)
    assert torch.is_tensor(result), f"Return a tensor, not {type(result).__name__}."
    assert torch.equal(dense, before), "Your function changes its input."
    assert result.shape == wanted.shape, (
        f"A weight {tuple(dense.shape)} becomes {tuple(wanted.shape)}, not {tuple(result.shape)}."
    )
    for channel in range(len(wanted)):
        assert torch.equal(result[channel], wanted[channel]), (
            f"The kernel of channel {channel} should be {wanted[channel, 0].tolist()}, "
            f"but yours is {result[channel, 0].tolist()}."
        )


def _expect_refusal(keep_diagonal: Callable, dense: torch.Tensor, why: str) -> None:
    """Ask for what cannot be done; the answer has to be a ValueError."""
    try:
        keep_diagonal(dense)
    except AssertionError as error:  # what the student's function raised is its cause
        if isinstance(error.__cause__, ValueError):
            return
        raised = type(error.__cause__).__name__
        raise AssertionError(f"{why}, so raise a ValueError, not {raised}. {error}") from error
    raise AssertionError(f"{why}, so raise a ValueError; your function returned something.")


@exercise("04.4")
def check_upsample_to_the_border(upsample_to_the_border: Callable) -> None:
    """Compare with PyTorch's interpolation, in the middle, in the rim and in the corners."""
    generator = torch.Generator().manual_seed(44)
    cases = [(torch.ones(1, 1, 2, 3), 2)]
    for stride in (2, 4, 6, 8) * 5:
        shape = torch.randint(1, 5, (4,), generator=generator).tolist()
        x = torch.randint(-9, 10, shape, generator=generator).float()
        cases.append((x if len(cases) % 2 else x.double(), stride))
    for x, stride in cases:
        wanted = interpolate(x, scale_factor=stride, mode="bilinear", align_corners=False)
        before = x.clone()
        result = upsample_to_the_border(x, stride)
        assert torch.is_tensor(result), f"Return a tensor, not {type(result).__name__}."
        assert torch.equal(x, before), "Your function changes its input."
        assert result.shape == wanted.shape, (
            f"{tuple(x.shape)} with stride {stride} becomes {tuple(wanted.shape)}, "
            f"not {tuple(result.shape)}."
        )
        wrong = (result - wanted).abs() > 1e-5
        if wrong.any() or result.isnan().any():
            n, c, h, w = (wrong | result.isnan()).nonzero()[0].tolist()
            place = f"channel {c}, row {h}, column {w}"
            raise AssertionError(
                f"For an input {tuple(x.shape)} with stride {stride}, {place} should be "
                f"{wanted[n, c, h, w]:.4f}, not {result[n, c, h, w]:.4f}."
            )
