"""Checks of the exercises in notebook 12."""

from collections.abc import Callable
from functools import partial
from numbers import Integral

import numpy as np
import torch
from torch import Tensor

from fcnlib.course.checks import exercise
from fcnlib.course.checks.answers import as_number, brief

VOID = 255


@exercise("12.1")
def check_spans(spans: Callable) -> None:
    """Compare with the definition, on sides shorter and longer than a tile."""
    cases = [(100, 64, 32), (64, 64, 32), (20, 64, 32), (65, 64, 0), (128, 32, 64), (1, 32, 32)]
    random = np.random.default_rng(121)
    for _ in range(40):
        length, side, margin = random.integers([1, 1, 0], [700, 7, 6])
        cases.append((int(length), 32 * int(side), 32 * int(margin)))
    for length, side, margin in cases:
        wanted = []
        for start in range(0, length, side):
            stop = min(start + side, length)
            wanted.append((start, stop, max(0, start - margin), min(length, stop + margin)))
        where = f"For length {length}, side {side} and margin {margin}"
        got = spans(length, side, margin)
        assert isinstance(got, list | tuple), f"{where}, return a list, not {brief(got)}."
        assert len(got) == len(wanted), f"{where} there are {len(wanted)} tiles, not {len(got)}."
        for tile, right in zip(got, wanted, strict=True):
            assert isinstance(tile, list | tuple) and len(tile) == 4, (
                f"{where}, a tile is (start, stop, first, last), not {tile!r}."
            )
            assert all(isinstance(value, Integral) for value in tile), (
                f"{where}, a tile must hold whole numbers, not {tile!r}."
            )
            assert tuple(tile) == right, f"{where}, one of the tiles is {right}, not {tuple(tile)}."
    for side, margin in ((100, 32), (64, 20), (33, 32)):
        assert _raises(ValueError, partial(spans, 300, side, margin)), (
            f"side {side} and margin {margin} are not both multiples of 32: raise ValueError."
        )


@exercise("12.2")
def check_into_groups(into_groups: Callable) -> None:
    """Compare with replacing each label, on maps with void and with classes in no group."""
    animals = ["background", "cat", "dog", "car"]
    two = {"background": ["background"], "animal": ["cat", "dog"]}
    cases = [
        (animals, two),
        (animals, {"animal": ["dog", "cat"], "rest": ["car", "background"]}),
        (animals, {"nothing": [], "car": ["car"]}),
    ]
    random = torch.Generator().manual_seed(122)
    for case in range(20):
        old = [f"class{k}" for k in range(3 + case % 9)]
        group_of = torch.randint(-1, 3, (len(old),), generator=random).tolist()
        names = ("first", "second", "third")
        groups = {
            name: [old[k] for k, of in enumerate(group_of) if of == g]
            for g, name in enumerate(names)
        }
        cases.append((old, groups))
    for old, groups in cases:
        labels = torch.randint(len(old) + 1, (5, 7), generator=random).to(torch.uint8)
        labels[0, : len(old)] = torch.arange(min(7, len(old)), dtype=torch.uint8)
        labels[labels == len(old)] = VOID
        given = labels.clone()
        wanted = torch.full_like(labels, VOID)
        for number, names_of in enumerate(groups.values()):
            for name in names_of:
                wanted[labels == old.index(name)] = number
        got = into_groups(given, list(old), {name: list(of) for name, of in groups.items()})
        where = f"With old {old} and groups {groups}"
        assert torch.equal(given, labels), f"{where}, your function changes the map it is given."
        _same_map(got, wanted, labels, where)
    unknown = {"animal": ["cat", "mouse"]}
    some = torch.zeros(2, 2, dtype=torch.uint8)
    assert _raises(KeyError, partial(into_groups, some, animals, unknown)), (
        "The group animal holds 'mouse', which is no old class: raise KeyError."
    )


def _same_map(got: object, wanted: Tensor, labels: Tensor, where: str) -> None:
    assert isinstance(got, Tensor) and got.shape == wanted.shape, (
        f"{where}, return a tensor of shape {tuple(wanted.shape)}, not {brief(got)}."
    )
    assert got.dtype == torch.uint8, f"{where}, return uint8, not {got.dtype}."
    for before, after, right in zip(
        labels.flatten().tolist(), got.flatten().tolist(), wanted.flatten().tolist(), strict=True
    ):
        assert after == right, f"{where}, the label {before} becomes {right}, not {after}."


@exercise("12.3")
def check_ask_twice(ask_twice: Callable) -> None:
    """Compare with asking for both pictures one by one, for networks that see one side."""

    def red(pictures: Tensor) -> Tensor:
        return torch.cat([torch.zeros_like(pictures[:, :1]), pictures[:, :1]], dim=1)

    def running(pictures: Tensor) -> Tensor:  # each column sees those to its left
        return torch.stack([pictures[:, 0].cumsum(-1), pictures[:, 1], pictures[:, 2]], dim=1)

    def place(pictures: Tensor) -> Tensor:  # knows where left and top are
        columns = torch.arange(float(pictures.shape[-1])).expand_as(pictures[:, 0])
        rows = torch.arange(float(pictures.shape[-2]))[:, None].expand_as(pictures[:, 0])
        return torch.stack([columns, rows, 3 * pictures[:, 2], pictures[:, 1]], dim=1)

    random = torch.Generator().manual_seed(123)
    for name, network in {"red": red, "running": running, "place": place}.items():
        for height, width in ((1, 2), (3, 4), (5, 2)):
            picture = 2 * torch.rand(3, height, width, generator=random)
            given = picture.clone()
            one = network(picture[None])[0].softmax(dim=0)
            other = network(picture.flip(-1)[None])[0].softmax(dim=0).flip(-1)
            wanted = (one + other) / 2
            got = ask_twice(network, given)
            where = (
                f"For a picture of shape {tuple(picture.shape)} and a network that {_DOES[name]}"
            )
            assert torch.equal(given, picture), f"{where}, your function changes the picture."
            assert isinstance(got, Tensor) and got.shape == wanted.shape, (
                f"{where}, return a tensor of shape {tuple(wanted.shape)}, not {brief(got)}."
            )
            got = got.detach()
            assert torch.allclose(got.sum(dim=0), torch.ones(height, width), atol=1e-4), (
                f"{where}, the probabilities of a pixel must add up to 1, not to "
                f"{got.sum(dim=0).flatten()[0]:.3f}."
            )
            assert torch.allclose(got, wanted, atol=1e-4), (
                f"{where}, class 0 has the probability {wanted[0, 0, 0]:.3f} in the top left "
                f"pixel, not {got[0, 0, 0]:.3f} (or another one differs)."
            )


_DOES = {
    "red": "looks at red alone",
    "running": "adds up what is to the left of a pixel",
    "place": "answers by row and column",
}


@exercise("12.4")
def check_worst_confusions(worst_confusions: Callable) -> None:
    """Compare with a sorted list of all pairs, with ties, empty classes and large n."""
    cases = [
        (torch.tensor([[8, 2, 0], [1, 4, 5], [0, 0, 0]]), 2),
        (torch.tensor([[8, 2, 0], [1, 4, 5], [0, 0, 0]]), 9),
        (torch.tensor([[2, 1, 1], [1, 2, 1], [2, 2, 4]]), 4),
        (torch.tensor([[90, 10], [1, 1]]), 1),
        (torch.eye(3, dtype=torch.int64), 3),
        (torch.zeros(2, 2, dtype=torch.int64), 3),
    ]
    random = torch.Generator().manual_seed(124)
    for case in range(30):
        classes = 2 + case % 6
        counts = torch.randint(0, 6, (classes, classes), generator=random)
        counts[case % classes] *= torch.randint(0, 50, (1,), generator=random)
        cases.append((counts, 1 + case % 8))
    for counts, n in cases:
        pairs = []
        for truth, row in enumerate(counts.tolist()):
            pairs += [(truth, k, c / sum(row)) for k, c in enumerate(row) if k != truth and c]
        wanted = sorted(pairs, key=lambda pair: (-pair[2], pair[0], pair[1]))[:n]
        where = f"For the counts {counts.tolist()} and n = {n}"
        got = worst_confusions(counts.clone(), n)
        assert isinstance(got, list | tuple), f"{where}, return a list, not {brief(got)}."
        assert len(got) == len(wanted), f"{where} there are {len(wanted)} pairs, not {len(got)}."
        for pair, right in zip(got, wanted, strict=True):
            assert isinstance(pair, list | tuple) and len(pair) == 3, (
                f"{where}, a pair is (truth, answer, share), not {pair!r}."
            )
            given = tuple(as_number(value, "a class") for value in pair[:2])
            share = as_number(pair[2], "the share")
            assert given == right[:2] and abs(share - right[2]) < 1e-5, (
                f"{where}, ({right[0]}, {right[1]}, {right[2]:.3f}) is expected where you have "
                f"({given[0]:g}, {given[1]:g}, {share:.3f})."
            )


def _raises(kind: type[Exception], call: Callable) -> bool:
    try:
        call()
    except AssertionError as error:  # how the check reports what your function raised
        return isinstance(error.__cause__, kind)
    return False
