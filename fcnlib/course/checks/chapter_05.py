"""Checks of the exercises in notebook 05."""

import copy
import math
from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor, nn

from fcnlib.course.checks import exercise
from fcnlib.course.checks.answers import as_number


@exercise("05.1")
def check_vgg_parameters(vgg_parameters: Callable) -> None:
    """Compare with the parameters of real layers."""
    cases = [((1,), (2,), 1, 4, 3), ((2,), (2,), 1, 4, 3), ((1, 2), (4, 6), 2, 5, 3)]
    cases.append(((2, 2, 3, 3, 3), (64, 128, 256, 512, 512), 7, 4096, 1000))
    random = np.random.default_rng(51)
    for _ in range(30):
        stages = int(random.integers(1, 6))
        counts, channels = random.integers(1, [[5], [9]], (2, stages)).tolist()
        cells, hidden, classes = random.integers(1, [5, 9, 9]).tolist()
        cases.append((tuple(counts), tuple(channels), cells, hidden, classes))
    for case in cases:
        counts, channels, cells, hidden, classes = case
        wanted = sum(weight.numel() for weight in _vgg(*case).parameters())
        named = f"counts {counts}, channels {channels}, cells {cells}, hidden {hidden}"
        got = as_number(vgg_parameters(*case), "the number of parameters")
        assert got == wanted, (
            f"With {named} and num_classes {classes} the VGG has {wanted:,} parameters, "
            f"not {got:,g}."
        )


@exercise("05.2")
def check_linear_to_conv_hwc(linear_to_conv_hwc: Callable) -> None:
    """Compare with the layer on maps that are flattened as rows, columns, channels."""
    generator = torch.Generator().manual_seed(52)
    cases = [(2, 1, 2, 1), (2, 2, 2, 3), (1, 1, 1, 1), (3, 4, 2, 5)]
    cases += [tuple(torch.randint(1, 6, (4,), generator=generator).tolist()) for _ in range(20)]
    for number, (channels, height, width, outputs) in enumerate(cases):
        dtype = torch.float32 if number % 3 == 2 else torch.float64
        linear = nn.Linear(channels * height * width, outputs, bias=number % 4 != 3, dtype=dtype)
        _fill(linear, generator)
        kept = copy.deepcopy(linear.state_dict())
        try:
            with torch.enable_grad():  # section 5 of the notebook switches it off
                result = linear_to_conv_hwc(linear, channels, height, width)
        except AssertionError as error:
            if linear.bias is None:
                raise AssertionError(f"{error} Here the layer has no bias: it is None.") from error
            raise
        of_case = f"{channels} channels, height {height}, width {width} and {outputs} outputs"
        assert isinstance(result, nn.Module), f"Return an nn.Conv2d, not {type(result).__name__}."
        assert isinstance(result, nn.Conv2d), (
            f"Return an nn.Conv2d, not a module of the kind {type(result).__name__}."
        )
        shape = tuple(result.weight.shape)
        wanted_shape = (outputs, channels, height, width)
        assert shape == wanted_shape, (
            f"For {of_case} the weight must be (out, in, kH, kW) = {wanted_shape}, not {shape}."
        )
        assert all(torch.equal(linear.state_dict()[name], kept[name]) for name in kept), (
            f"For {of_case} your function changes the layer that it was given: copy its numbers."
        )
        if linear.bias is None:
            assert result.bias is None or not result.bias.any(), (
                "A layer without bias must become a convolution without bias (bias=False)."
            )
        maps = _randn(2, channels, height + 1, width + 2, generator=generator)
        with torch.no_grad():
            got = result(maps.to(result.weight.dtype)).double()
            wanted = _slid(linear.double(), maps, (height, width), (0, 2, 3, 1))
        without_bias = linear.bias is not None and result.bias is None
        assert not without_bias, f"For {of_case} the layer has a bias, your convolution has none."
        assert got.shape == wanted.shape, (
            f"For {of_case} a map of {height + 1} x {width + 2} must give {tuple(wanted.shape)}, "
            f"not {tuple(got.shape)}: use stride 1 and no padding."
        )
        assert _same(got, wanted), (
            f"For {of_case} the convolution gives other numbers than the layer: put each weight "
            "at the row, column and channel of its input, and copy the bias."
        )


@exercise("05.3")
def check_times_fewer_pixels(times_fewer_pixels: Callable) -> None:
    """Count the pixels of windows that are really laid on a picture."""
    cases = [(64, 32, 2), (182, 32, 10), (64, 32, 1), (3, 3, 4), (224, 32, 3), (64, 32, 1000)]
    random = np.random.default_rng(53)
    for _ in range(30):
        stride = int(random.integers(1, 20))
        cases.append((stride + int(random.integers(0, 60)), stride, int(random.integers(1, 15))))
    for window, stride, n in cases:
        starts = [stride * number for number in range(n)]  # along one axis
        wanted = (n * window) ** 2 / (starts[-1] + window) ** 2
        got = as_number(times_fewer_pixels(window, stride, n), "the ratio")
        assert math.isclose(got, wanted, rel_tol=1e-5) or _rounded(got, wanted), (
            f"{n} x {n} windows of {window}, {stride} apart, have {(n * window) ** 2:,} pixels "
            f"together; the picture has {starts[-1] + window} x {starts[-1] + window}. The ratio "
            f"is {wanted:.4f}, not {got:.4f}."
        )


@exercise("05.4")
def check_fully_convolutional(fully_convolutional: Callable) -> None:
    """Compare with the classifier, and on larger pictures with its head on every piece."""
    generator = torch.Generator().manual_seed(54)
    for classifier, channels, size in _classifiers():
        _fill(classifier, generator)
        classifier.double().eval()
        kept = copy.deepcopy(classifier.state_dict())
        kinds = [type(layer).__name__ for layer in classifier]
        result = fully_convolutional(classifier, size)
        assert isinstance(result, nn.Module), (
            f"Return an nn.Sequential, not {type(result).__name__}."
        )
        assert [type(layer).__name__ for layer in classifier] == kinds, (
            "Your function changes the list of layers of the classifier: build a new nn.Sequential."
        )
        of_case = f"For {' '.join(kinds)}, trained on {size} x {size},"
        wrong = [type(layer).__name__ for layer in result.modules() if type(layer) in _FLAT]
        assert not wrong, (
            f"{of_case} your network still has a layer of the kind {wrong[0]}, "
            "which expects one size only."
        )
        result = result.double().eval()
        features, head = _parts(classifier)
        for height, width in ((size, size), (size + 12, size + 20)):
            pictures = _randn(2, channels, height, width, generator=generator)
            with torch.no_grad():
                cells = features(_randn(1, channels, size, size, generator=generator)).shape[2:]
                wanted = _slid(head, features(pictures), tuple(cells), (0, 1, 2, 3))
                got = _answer(result, pictures, f"{of_case} your network fails")
            assert isinstance(got, Tensor) and got.shape == wanted.shape, (
                f"{of_case} pictures of {height} x {width} must give scores {tuple(wanted.shape)}, "
                f"not {tuple(got.shape) if isinstance(got, Tensor) else type(got).__name__}."
            )
            assert _same(got, wanted), (
                f"{of_case} your network gives other numbers than the classifier for pictures of "
                f"{height} x {width}: all layers must be there, in order, with weights and biases, "
                "and weights fold in the order channels, rows, columns."
            )
        assert all(torch.equal(classifier.state_dict()[name], kept[name]) for name in kept), (
            f"{of_case} your function changes the weights of the classifier that it was given."
        )


_FLAT = (nn.Linear, nn.Flatten, nn.AdaptiveAvgPool2d, nn.AdaptiveMaxPool2d)


def _vgg(
    counts: tuple[int, ...], channels: tuple[int, ...], cells: int, hidden: int, classes: int
) -> nn.Sequential:
    """Return the layers of a VGG that have parameters, without numbers."""
    layers: list[nn.Module] = []
    inputs = 3
    with torch.device("meta"):
        for count, outputs in zip(counts, channels, strict=True):
            for _ in range(count):
                layers.append(nn.Conv2d(inputs, outputs, 3))
                inputs = outputs
        layers.append(nn.Linear(inputs * cells**2, hidden))
        layers += [nn.Linear(hidden, hidden), nn.Linear(hidden, classes)]
    return nn.Sequential(*layers)


def _classifiers() -> list[tuple[nn.Sequential, int, int]]:
    """Return small classifiers, each with the channels and the side of its pictures."""
    by_hand = [nn.Conv2d(3, 4, 3, padding=1), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(64, 5)]
    deeper = [nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 2, 3), nn.ReLU()]
    deeper += [nn.Flatten(), nn.Linear(32, 6), nn.ReLU(), nn.Linear(6, 4), nn.ReLU()]
    deeper += [nn.Linear(4, 2)]
    no_bias = [nn.Conv2d(3, 2, 5, stride=2), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten()]
    no_bias += [nn.Linear(18, 3, bias=False), nn.ReLU(), nn.Linear(3, 3)]
    one_cell = [nn.Conv2d(2, 3, 3), nn.MaxPool2d(4), nn.Flatten(), nn.Linear(3, 4)]
    return [
        (nn.Sequential(*by_hand), 3, 8),
        (nn.Sequential(*deeper), 1, 14),
        (nn.Sequential(*no_bias), 3, 16),
        (nn.Sequential(*one_cell), 2, 6),
    ]


def _parts(classifier: nn.Sequential) -> tuple[nn.Sequential, nn.Sequential]:
    """Return the layers before the nn.Flatten and those behind it."""
    layers = list(classifier)
    place = [type(layer) for layer in layers].index(nn.Flatten)
    return nn.Sequential(*layers[:place]), nn.Sequential(*layers[place + 1 :])


def _slid(head: nn.Module, maps: Tensor, size: tuple[int, int], order: tuple[int, ...]) -> Tensor:
    """Give each piece of ``maps``, permuted to ``order`` and flattened, to ``head``."""
    height, width = size
    answers = [
        [
            head(maps[:, :, i : i + height, j : j + width].permute(order).flatten(1))
            for j in range(maps.shape[3] - width + 1)
        ]
        for i in range(maps.shape[2] - height + 1)
    ]
    return torch.stack([torch.stack(row, dim=2) for row in answers], dim=2)


def _answer(network: nn.Module, pictures: Tensor, failure: str) -> object:
    """Run a network; turn an error inside it into a sentence."""
    try:
        return network(pictures)
    except Exception as error:
        first = str(error).partition("\n")[0]
        size = " x ".join(map(str, pictures.shape[2:]))
        raise AssertionError(f"{failure} on pictures of {size} ({first}).") from error


def _fill(module: nn.Module, generator: torch.Generator) -> None:
    """Give a module random numbers, the same in every run."""
    with torch.no_grad():
        for weight in module.parameters():
            weight.copy_(_randn(*weight.shape, generator=generator))


def _randn(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, dtype=torch.double, generator=generator)


def _same(got: Tensor, wanted: Tensor) -> bool:
    """Compare up to what single precision rounds."""
    return bool(torch.allclose(got.double(), wanted.double(), rtol=1e-4, atol=1e-4))


def _rounded(got: float, wanted: float) -> bool:
    """Accept a ratio that was rounded to two or more decimals."""
    return any(got == round(wanted, digits) for digits in range(2, 8))
