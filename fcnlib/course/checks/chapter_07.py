"""Checks of the exercises in notebook 07."""

import copy
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from fcnlib.course.checks import exercise
from fcnlib.course.checks.answers import as_number, brief


@exercise("07.1")
def check_map_sizes(map_sizes: Callable) -> None:
    """Compare with real poolings and transposed convolutions, for every height up to 260."""
    names = ("pool3", "pool4", "pool5", "upscore2", "upscore_pool4", "upscore8")
    for n in (47, *range(1, 261)):
        wanted = _rows_of_layers(n)
        result = map_sizes(n)
        if isinstance(result, Tensor | np.ndarray):
            result = result.tolist()
        assert isinstance(result, list | tuple) and len(result) == len(names), (
            f"Return a list of six numbers, not {brief(result)}."
        )
        for name, got, rows in zip(names, result, wanted, strict=True):
            got = as_number(got, f"the rows of {name}")
            assert got == rows, f"For n = {n}, {name} has {_rows(rows)}, not {got:g}."


@exercise("07.2")
def check_add_scores(add_scores: Callable) -> None:
    """Compare with a sum that is taken number by number."""
    row = torch.tensor([[[[1.0, 2, 3]]]]), torch.tensor([[[[10.0, 20, 30, 40]]]])
    given = [(torch.cat([row[0]] * 2, 2), torch.cat([row[1]] * 4, 2), 2)]
    random = torch.Generator().manual_seed(72)
    for _ in range(40):
        draw = torch.randint(1, 8, (7,), generator=random).tolist()
        rows = draw[0] - 1
        coarse = torch.randn(2, draw[1], draw[2], draw[3], generator=random, dtype=torch.double)
        height, width = rows + draw[4], rows + draw[5]
        fine = torch.randn(2, draw[1], height, width, generator=random, dtype=torch.double)
        given.append((coarse, fine, rows))
    given.append((torch.randn(1, 8, 18, 20), torch.randn(1, 8, 27, 28), 5))
    for coarse, fine, rows in given:
        height = min(coarse.shape[2], fine.shape[2] - rows)
        width = min(coarse.shape[3], fine.shape[3] - rows)
        wanted = torch.empty(*coarse.shape[:2], height, width, dtype=coarse.dtype)
        for m in range(height):
            for n in range(width):
                wanted[:, :, m, n] = coarse[:, :, m, n] + fine[:, :, m + rows, n + rows]
        got = add_scores(coarse.clone(), fine.clone(), rows)
        what = f"for coarse {tuple(coarse.shape)}, fine {tuple(fine.shape)} and rows {rows} the sum"
        assert isinstance(got, Tensor), f"Return a tensor; {what} is of type {type(got).__name__}."
        assert got.shape == wanted.shape, (
            f"Wrong size: {what} is {tuple(wanted.shape)}, not {tuple(got.shape)}."
        )
        assert torch.allclose(got.to(wanted.dtype), wanted, atol=1e-5), (
            f"The size is right, the numbers are not: {what} must have coarse[..., 0, 0] + "
            f"fine[..., {rows}, {rows}] at its start."
        )


@exercise("07.3")
def check_skip_parameters(skip_parameters: Callable) -> None:
    """Count the parameters of real 1 x 1 convolutions."""
    cases = [([3], 2), ([512, 256], 21), ([512], 21), ([], 5), ([7, 5, 2], 1)]
    random = np.random.default_rng(73)
    for _ in range(20):
        channels = random.integers(1, 40, random.integers(1, 5)).tolist()
        cases.append((channels, int(random.integers(1, 30))))
    for channels, num_classes in cases:
        layers = nn.ModuleList(nn.Conv2d(inputs, num_classes, 1) for inputs in channels)
        wanted = sum(numbers.numel() for numbers in layers.parameters())
        got = as_number(skip_parameters(list(channels), num_classes), "the number of parameters")
        assert got == wanted, (
            f"For channels {channels} and {num_classes} classes the skips have {wanted} "
            f"parameters, not {got:g}."
        )


@exercise("07.4")
def check_mend(mend: Callable) -> None:
    """Compare with the network whose fc6 keeps the size of its map, away from the border."""
    torch.manual_seed(74)
    broken = _Broken().eval()
    reference = copy.deepcopy(broken)
    reference.fc6.padding = (3, 3)
    before = {name: numbers.clone() for name, numbers in broken.state_dict().items()}
    mended = mend(broken)
    assert callable(mended), f"Return the network, not {brief(mended)}."
    if isinstance(mended, nn.Module):
        mended.eval()
        after = list(mended.state_dict().values())
        assert all(any(torch.equal(new, old) for new in after) for old in before.values()), (
            "Keep all weights as they are: the mended network has other ones."
        )
    for height, width in ((224, 224), (32, 32), (64, 320), (448, 512)):
        picture = torch.rand(2, 3, height, width)
        with torch.no_grad():
            wanted = reference(picture)
            try:
                got = mended(picture)
            except Exception as error:
                reason = str(error).strip().partition("\n")[0][:150]
                raise AssertionError(
                    f"Your network raised {type(error).__name__} for a picture of {height} x "
                    f"{width} ({reason})."
                ) from error
        assert isinstance(got, Tensor), f"The network must return a tensor, not {brief(got)}."
        assert got.shape == wanted.shape, (
            f"For pictures of {height} x {width} the logits should be {tuple(wanted.shape)}, not "
            f"{tuple(got.shape)}. Look for the layer that takes cells away."
        )
    # Five cells from the border no padding is seen, and only the place counts.
    wanted, got = (logits[..., 160:-160, 160:-160] for logits in (wanted, got))
    assert (got - wanted).abs().max() < 0.01 * wanted.std(), (
        "The size is right, but the numbers are in a wrong place or are stretched: cell j of the "
        "scores must look around pixel 32 j + 15.5, and have its own 32 pixels in the answer."
    )


@exercise("07.5")
def check_score_change(score_change: Callable) -> None:
    """Let PyTorch take the step."""
    cases = [(3.0, 2.0, 0.1, 1.0), (3.0, 2.0, 0.1, 0.01), (-4.0, 0.5, 1.0, 3.0)]
    cases += np.random.default_rng(75).uniform(0.5, 3, (20, 4)).round(2).tolist()
    for feature, gradient, rate, scale in cases:
        weight = torch.tensor(0.7, dtype=torch.double, requires_grad=True)
        score = weight * (scale * feature)
        score.backward(torch.tensor(gradient, dtype=torch.double))
        assert weight.grad is not None
        wanted = ((weight - rate * weight.grad) * (scale * feature) - score).item()
        got = as_number(score_change(feature, gradient, rate, scale), "the change")
        assert abs(got - wanted) < 1e-5 * abs(wanted) + 1e-9, (
            f"For feature {feature}, gradient {gradient}, rate {rate} and scale {scale} PyTorch's "
            f"step changes the score by {wanted:.6g}, not by {got:.6g}."
        )


class _Broken(nn.Module):
    """The network of section 10, with fewer channels."""

    def __init__(self) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inputs in (3, 4, 4, 4, 4):
            layers += [nn.Conv2d(inputs, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)]
        self.features = nn.Sequential(*layers)
        self.fc6 = nn.Conv2d(4, 5, 7)
        self.score = nn.Conv2d(5, 3, 1)
        self.upscore = nn.ConvTranspose2d(3, 3, 64, stride=32, padding=16)
        for numbers in self.parameters():  # so large that every cell has numbers of its own
            nn.init.normal_(numbers, std=0.5)

    def forward(self, x: Tensor) -> Tensor:
        return self.upscore(self.score(torch.relu(self.fc6(self.features(x)))))


def _rows_of_layers(n: int) -> list[int]:
    """Return what PyTorch's layers make of n rows."""
    pool = nn.MaxPool1d(2, ceil_mode=True)
    twice, last = (nn.ConvTranspose1d(1, 1, 2 * s, s, s // 2) for s in (2, 8))
    maps = [torch.zeros(1, 1, n)]
    for _ in range(5):
        maps.append(pool(maps[-1]))
    _, _, _, pool3, pool4, pool5 = maps
    return [x.shape[2] for x in (pool3, pool4, pool5, twice(pool5), twice(pool4), last(pool3))]


def _rows(number: int) -> str:
    return "1 row" if number == 1 else f"{number} rows"
