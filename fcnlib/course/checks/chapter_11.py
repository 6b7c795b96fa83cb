"""Checks of the exercises in notebook 11."""

import itertools
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fcnlib.course.checks import exercise
from fcnlib.course.checks.answers import as_number, brief

VOID = 255


@exercise("11.1")
def check_comparable(comparable: Callable) -> None:
    """Compare with all pairs that differ in nothing but the network."""
    keys = ("start", "train", "val", "recipe")
    paper = ("ImageNet", "SBD", "seg11valid", "paper")
    cases = [[], [paper], [paper, paper, (*paper[:3], "release")]]
    random = np.random.default_rng(111)
    for _ in range(30):
        count = int(random.integers(2, 7))
        cases.append([tuple(random.choice(["x", "x", "x", "y"], 4).tolist()) for _ in range(count)])
    for case in cases:
        rows = [
            {"name": chr(65 + k), **dict(zip(keys, row, strict=True))} for k, row in enumerate(case)
        ]
        wanted = [
            (a["name"], b["name"])
            for a, b in itertools.combinations(rows, 2)
            if all(a[key] == b[key] for key in keys)
        ]
        shown = "; ".join(f"{row['name']}: {', '.join(row[key] for key in keys)}" for row in rows)
        got = comparable([dict(row) for row in rows])
        assert isinstance(got, list | tuple), f"Return a list of pairs, not {brief(got)}."
        assert all(_is_pair(pair) for pair in got), (
            f"Each pair must be two names, not {brief(got[0])}."
        )
        pairs = [tuple(pair) for pair in got]
        assert pairs == wanted, (
            f"For the rows (start, train, val, recipe) {shown} the pairs are {wanted}, not {pairs}."
        )


def _is_pair(pair: object) -> bool:
    return (
        isinstance(pair, list | tuple)
        and len(pair) == 2
        and all(isinstance(name, str) for name in pair)
    )


@exercise("11.2")
def check_without_leak(without_leak: Callable) -> None:
    """Compare with the definition, the val list's order kept."""
    cases = [(["a", "b", "c"], ["c", "x", "a"]), ([], ["a"]), (["b", "a"], []), (["a"], ["a", "a"])]
    random = np.random.default_rng(112)
    for _ in range(20):
        names = [f"2007_{number:06}" for number in random.permutation(30)]
        split = int(random.integers(1, 30))
        cases.append((names[:split], random.choice(names, 12).tolist()))
    for val_ids, trained_ids in cases:
        gone = set(trained_ids)
        wanted = [id_ for id_ in val_ids if id_ not in gone]
        given = list(val_ids), list(trained_ids)
        got = without_leak(*given)
        where = f"For val {_few(val_ids)} and trained {_few(trained_ids)}"
        assert given == (val_ids, trained_ids), f"{where}, your function changes a list."
        assert isinstance(got, list | tuple) and len(got) == 2, (
            f"{where}, return (ids, number), not {brief(got)}."
        )
        ids, number = got
        assert isinstance(ids, list | tuple), f"{where}, the ids must be a list, not {brief(ids)}."
        assert list(ids) == wanted, f"{where}, {_few(wanted)} remain, not {_few(list(ids))}."
        assert as_number(number, "the number of ids that had to go") == len(val_ids) - len(
            wanted
        ), f"{where}, {len(val_ids) - len(wanted)} had to go, not {number}."


def _few(ids: list[str]) -> str:
    return str(ids) if len(ids) <= 4 else f"[{', '.join(map(repr, ids[:3]))}, ...]"


@exercise("11.3")
def check_backward_in_parts(backward_in_parts: Callable) -> None:
    """Compare with the mean loss of the whole batch at once, in float64."""
    random = torch.Generator().manual_seed(113)
    for case, (count, part) in enumerate(((2, 1), (4, 2), (5, 2), (3, 3), (3, 8), (1, 1), (4, 1))):
        torch.manual_seed(case)
        network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 3, 1))
        network = network.double()
        pictures = torch.rand(count, 3, 6, 7, generator=random, dtype=torch.float64)
        labels = torch.randint(3, (count, 6, 7), generator=random)
        for number in range(count):  # from nearly no void to nearly all
            share = (number + 1) / (count + 1)
            labels[number][torch.rand(6, 7, generator=random) < share] = VOID
        _compare(backward_in_parts, network, pictures, labels, part)
    _compare(backward_in_parts, network, pictures, torch.full_like(labels, VOID), 2)


def _compare(
    backward_in_parts: Callable, network: nn.Module, pictures: Tensor, labels: Tensor, part: int
) -> None:
    valid = int((labels != VOID).sum())
    where = f"For {len(pictures)} pictures with {valid} valid pixels, in parts of {part}"
    network.zero_grad()
    loss = F.cross_entropy(network(pictures), labels, ignore_index=VOID, reduction="sum")
    loss = loss / max(1, valid)
    loss.backward()
    wanted = [parameter.grad.clone() for parameter in network.parameters()]  # type: ignore[union-attr]
    for parameter in network.parameters():
        parameter.grad = torch.ones_like(parameter)  # left by somebody else
    seen: list[int] = []
    watch = network.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    answer = backward_in_parts(network, pictures.clone(), labels.clone(), part)
    watch.remove()
    assert seen and max(seen) <= part, (
        f"{where}, the network saw {max(seen, default=0)} pictures at once, at the most."
    )
    assert not (isinstance(answer, Tensor) and answer.requires_grad), (
        f"{where}, the loss must be a number: a tensor that still has its graph keeps the maps."
    )
    got = as_number(answer, "the loss")
    assert abs(got - loss.item()) < 1e-6, f"{where}, the loss is {loss.item():.5f}, not {got:.5f}."
    for (name, parameter), right in zip(network.named_parameters(), wanted, strict=True):
        assert parameter.grad is not None, f"{where}, {name} has no gradient."
        assert torch.allclose(parameter.grad, right, atol=1e-8), (
            f"{where}, the gradient of {name} is wrong: its largest number is "
            f"{right.abs().max():.4f}, yours {parameter.grad.abs().max():.4f}."
        )


@exercise("11.4")
def check_loss_scale(loss_scale: Callable) -> None:
    """Compare with trying all powers, on gradients of all sizes."""
    cases = [
        torch.tensor([0.5, 1e-9, 0.0]),
        torch.tensor([2.0, 1e-13]),
        torch.tensor([-2.0, 1e-3, 0.0, 1e-14]),
        torch.zeros(3),
        torch.tensor([65504.0]),
        torch.tensor([[-40000.0, 1e-12], [1e-8, 3e-8]]),
        torch.tensor([0.9997]),
    ]
    random = torch.Generator().manual_seed(114)
    for _ in range(30):
        size = 10 ** (torch.rand(8, generator=random) * 18 - 14)
        sign = torch.rand(8, generator=random).sub(0.5).sign()
        cases.append(size * sign)
    for gradients in cases:
        where = f"For the gradients {[float(f'{x:.4g}') for x in gradients.flatten().tolist()]}"
        wanted = next(
            s for k in range(16, -1, -1) if not (gradients * (s := 2**k)).half().isinf().any()
        )
        nonzero = gradients[gradients != 0]
        lost = ((nonzero * wanted).half() == 0).double().mean().item() if len(nonzero) else 0.0
        got = loss_scale(gradients.clone())
        assert isinstance(got, list | tuple) and len(got) == 2, (
            f"{where}, return (scale, share), not {brief(got)}."
        )
        scale, share = as_number(got[0], "the scale"), as_number(got[1], "the share")
        assert scale == wanted, f"{where}, the scale is {wanted}, not {scale:g}."
        assert abs(share - lost) < 1e-6, (
            f"{where}, with the scale {wanted} the share of the gradients other than 0 that "
            f"float16 loses (it goes down to 6e-8) is {lost:.3f}, not {share:.3f}."
        )
    try:
        loss_scale(torch.tensor([1e6, 1.0]))
    except AssertionError as error:  # how the check reports what your function raised
        assert isinstance(error.__cause__, OverflowError), (
            "For the gradients [1e6, 1] not even the scale 1 will do: raise OverflowError, not "
            f"{type(error.__cause__).__name__}."
        )
    else:
        raise AssertionError(
            "For the gradients [1e6, 1] not even the scale 1 will do: raise OverflowError."
        )
