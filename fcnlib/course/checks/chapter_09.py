"""Checks of the exercises in notebook 09."""

import math
import random as python_random
from collections.abc import Callable, Sequence
from numbers import Real

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fcnlib.course.checks import exercise
from fcnlib.course.checks.answers import as_number, brief

VOID = 255


@exercise("09.1")
def check_warm_up_and_cosine(warm_up_and_cosine: Callable) -> None:
    """Compare with the formula, at the ends, at the warm-up's end and between."""
    cases = [(0.1, 0.2), (0.2, 0.2), (0.6, 0.2), (1.0, 0.2), (0.0, 0.2), (0.0, 0.0), (0.5, 0.0)]
    random = np.random.default_rng(91)
    for _ in range(60):
        done, warm_up = (float(x) for x in random.uniform(0, 1, 2))
        cases.append((done, 0.9 * warm_up))
    for done, warm_up in cases:
        if done < warm_up:
            wanted = done / warm_up
        else:
            wanted = 0.5 * (1 + math.cos(math.pi * (done - warm_up) / (1 - warm_up)))
        got = as_number(warm_up_and_cosine(done, warm_up), "the factor")
        assert abs(got - wanted) < 1e-6, (
            f"With done {done:.3g} and warm_up {warm_up:.3g} the factor is {wanted:.4f}, not "
            f"{got:.4f}."
        )


class _Tiny(nn.Module):
    """A network with old and new layers, BatchNorm, and one layer that learns nothing."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3)
        self.bn1 = nn.BatchNorm2d(4)
        self.old_score_fr = nn.Conv2d(4, 4, 1)  # begins otherwise than "score_"
        self.score_fr = nn.Conv2d(4, 2, 1)
        self.score_bn = nn.BatchNorm2d(2)
        self.upscore = nn.ConvTranspose2d(2, 2, 4, bias=False)
        self.upscore.weight.requires_grad_(False)
        self.head_score = nn.Linear(2, 2)


@exercise("09.2")
def check_four_groups(four_groups: Callable) -> None:
    """Look up every parameter of a tiny network in the groups."""
    for new, lr, factor, decay in (
        (("score_",), 0.1, 0.5, 0.01),
        (("score_", "upscore"), 0.02, 0.1, 5e-4),
        (("score_", "head_"), 3e-3, 0.25, 0.0),
        (("old_",), 1.0, 0.0, 0.3),
    ):
        network = _Tiny()
        groups = four_groups(network, new, lr, factor, decay)
        _check_groups(network, groups, new, lr, factor, decay)


def _check_groups(
    network: nn.Module,
    groups: object,
    new: tuple[str, ...],
    lr: float,
    factor: float,
    decay: float,
) -> None:
    assert isinstance(groups, list), f"Return a list of groups, not {brief(groups)}."
    found: dict[int, list[dict]] = {}
    for group in groups:
        assert isinstance(group, dict), f"Each group must be a dictionary, not {brief(group)}."
        missing = {"params", "lr", "weight_decay"} - group.keys()
        assert not missing, f"A group has no {' and no '.join(sorted(missing))}."
        group["params"] = [*_parameters(group["params"])]
        for parameter in group["params"]:
            found.setdefault(id(parameter), []).append(group)
    for name, parameter in network.named_parameters():
        inside = found.pop(id(parameter), [])
        if not parameter.requires_grad:
            assert not inside, f"{name} has requires_grad False, and must be in no group."
            continue
        assert len(inside) == 1, f"{name} must be in one group; it is in {len(inside)}."
        is_new = name.startswith(new)
        wanted = {
            "lr": lr if is_new else factor * lr,
            "weight_decay": 0.0 if parameter.ndim == 1 else decay,
        }
        for what, right in wanted.items():
            got = inside[0][what]
            assert isinstance(got, Real) and math.isclose(got, right, rel_tol=1e-6), (
                f"With new = {new}, lr {lr}, factor {factor} and weight decay {decay}, the {what} "
                f"of {name} is {right:g}, not {got}."
            )
    assert not found, "A group holds something that is no parameter of the network."


def _parameters(params: object) -> Sequence[Tensor]:
    if isinstance(params, Tensor):
        return [params]
    assert not isinstance(params, str) and hasattr(params, "__iter__"), (
        f'"params" must be a list of parameters, not {brief(params)}.'
    )
    params = list(params)
    assert all(isinstance(parameter, Tensor) for parameter in params), (
        '"params" must hold the parameters themselves; yours holds something else.'
    )
    return params


@exercise("09.3")
def check_mended_loop(mended_loop: Callable) -> None:
    """Compare curve and weights with those of a right loop, on tiny networks with BatchNorm."""
    cases = [  # each shows one mistake more
        ((2,), (2,), 1, "Is each loss taken in the right mode?"),
        ((2, 2), (3,), 1, "Whose gradients are there in the second step?"),
        ((3,), (2,), 3, "In which mode is the network in epoch 2?"),
        ((2, 3, 2), (1, 4), 3, "Is it the mean over all valid pixels?"),
    ]
    for case, (sizes, val_sizes, epochs, question) in enumerate(cases):
        train_batches = _batches(sizes, seed=930 + case)
        val_batches = _batches(val_sizes, seed=960 + case)
        wanted, right = _train(_right_loop, train_batches, val_batches, epochs)
        got, network = _train(mended_loop, train_batches, val_batches, epochs)
        where = (
            f"With {len(sizes)} training and {len(val_sizes)} validation "
            f"{'batch' if len(sizes) == len(val_sizes) == 1 else 'batches'} and {epochs} "
            f"{'epoch' if epochs == 1 else 'epochs'}"
        )
        assert isinstance(got, list | tuple), f"Return a list of losses, not {brief(got)}."
        assert len(got) == epochs, f"{where}, the list must have {epochs} losses, not {len(got)}."
        numbers = [value.item() if isinstance(value, Tensor) else value for value in got]
        for epoch, (value, loss) in enumerate(zip(numbers, wanted, strict=True), 1):
            assert isinstance(value, Real), f"A loss must be a number, not {brief(value)}."
            assert abs(value - loss) < 1e-6, (
                f"{where}, the validation loss after epoch {epoch} is {loss:.5f}, not "
                f"{float(value):.5f}. ({question})"
            )
        for (name, ours), theirs in zip(
            right.state_dict().items(), network.state_dict().values(), strict=True
        ):
            assert torch.allclose(ours.double(), theirs.double(), atol=1e-8), (
                f"{where}, the losses are right, but {name} of the network is not what a right "
                "loop leaves there."
            )


def _batches(sizes: tuple[int, ...], seed: int) -> list[tuple[Tensor, Tensor]]:
    random = torch.Generator().manual_seed(seed)
    batches = []
    for number, size in enumerate(sizes):
        images = torch.randn(size, 3, 5, 6, generator=random, dtype=torch.double) + number
        labels = torch.randint(4, (size, 5, 6), generator=random)
        labels[torch.rand(size, 5, 6, generator=random) < 0.15 + 0.5 * (number % 2)] = VOID
        labels[0, 0, 0] = 1
        batches.append((images, labels))
    return batches


def _train(
    loop: Callable, train_batches: list, val_batches: list, epochs: int
) -> tuple[list[float], nn.Module]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(9)
        network = nn.Sequential(
            nn.Conv2d(3, 5, 3, padding=1), nn.BatchNorm2d(5), nn.ReLU(), nn.Conv2d(5, 4, 1)
        ).double()
    network.eval()  # as somebody may have left it
    optimizer = torch.optim.SGD(network.parameters(), lr=0.2, momentum=0.5)
    copies = [
        [(images.clone(), labels.clone()) for images, labels in batches]
        for batches in (train_batches, val_batches)
    ]
    return loop(network, optimizer, *copies, epochs), network


def _right_loop(
    network: nn.Module,
    optimizer: torch.optim.Optimizer,
    train_batches: list,
    val_batches: list,
    epochs: int,
) -> list[float]:
    curve = []
    for _ in range(epochs):
        network.train()
        for images, labels in train_batches:
            optimizer.zero_grad()
            F.cross_entropy(network(images), labels, ignore_index=VOID).backward()
            optimizer.step()
        network.eval()
        total, pixels = 0.0, 0
        with torch.no_grad():
            for images, labels in val_batches:
                loss = F.cross_entropy(network(images), labels, ignore_index=VOID, reduction="sum")
                total += loss.item()
                pixels += int((labels != VOID).sum())
        curve.append(total / pixels)
    return curve


@exercise("09.4")
def check_order_of_epoch(order_of_epoch: Callable) -> None:
    """Ask for orders again, between other draws, and for many pairs of seed and epoch."""
    for pictures, seed, epoch in ((1, 0, 1), (3, 0, 1), (10, 7, 2), (40, 123, 30)):
        where = f"For {pictures} picture{'s' * (pictures > 1)}, seed {seed} and epoch {epoch}"
        torch.manual_seed(1)
        before = _states()
        first = _order(order_of_epoch(pictures, seed, epoch), pictures, where)
        assert _states() == before, (
            f"{where}, your function changes what others draw afterwards from torch, random or "
            "numpy."
        )
        torch.rand(3), python_random.random(), np.random.random()
        again = _order(order_of_epoch(pictures, seed, epoch), pictures, where)
        assert first == again, (
            f"{where}, the order was {first[:5]}... once and {again[:5]}... after other draws."
        )
    assert order_of_epoch(40, 0, 1) != [*range(40)], "For 40 pictures, the order is not shuffled."
    pairs = [(seed, epoch) for seed in range(6) for epoch in range(1, 31)]
    pairs += [(12, 3), (1, 23), (11, 1), (1, 11), (1, 101), (1, 1001), (100, 1), (0, 1000)]
    seen: dict[tuple[int, ...], tuple[int, int]] = {}
    for pair in dict.fromkeys(pairs):
        where = f"For 40 pictures, seed {pair[0]} and epoch {pair[1]}"
        order = tuple(_order(order_of_epoch(40, *pair), 40, where))
        other = seen.setdefault(order, pair)
        assert other == pair, (
            f"(seed, epoch) = {other} and {pair} have the same order of 40 pictures."
        )


def _states() -> tuple:
    kind, keys, *rest = np.random.get_state()
    return (
        tuple(torch.get_rng_state().tolist()),
        python_random.getstate(),
        (kind, tuple(np.asarray(keys).tolist()), *rest),
    )


def _order(result: object, pictures: int, where: str) -> list[int]:
    assert isinstance(result, list), f"Return a list, not {brief(result)}."
    assert all(isinstance(number, int | np.integer) for number in result), (
        f"{where}, the list must hold whole numbers."
    )
    assert sorted(result) == [*range(pictures)], (
        f"{where}, the list must hold each number from 0 to {pictures - 1} once; yours has "
        f"{len(result)} numbers, {len(set(result))} of them different."
    )
    return result
