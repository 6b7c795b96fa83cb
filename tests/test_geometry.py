import inspect
import math
import re
from dataclasses import replace
from fractions import Fraction

import pytest
import torch
import torchvision
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor, nn
from transposed_cases import SAME_CASES

import fcnlib.geometry
from fcnlib.bilinear import BilinearUpsample
from fcnlib.geometry import PICTURE, POINTWISE, Geometry, Layer, crop, geometry

# --- VGG16 and its FCN: where 404, 19, 5, 27, 9 and 31 come from

CONV, POOL = Layer(3, padding=1), Layer(2, 2)
TO_POOL3 = [CONV, CONV, POOL, CONV, CONV, POOL, CONV, CONV, CONV, POOL]
TO_POOL4 = [*TO_POOL3, CONV, CONV, CONV, POOL]
TO_POOL5 = [*TO_POOL4, CONV, CONV, CONV, POOL]
FC6 = Layer(7)


def vgg16_features(padding: int) -> nn.Sequential:
    """torchvision's, without numbers; ``padding`` is that of the first convolution."""
    with torch.device("meta"):
        features = torchvision.models.vgg16(weights=None).features
    features[0].padding = (padding, padding)
    return features


def typed(padding: int) -> list[list[Layer]]:
    first = CONV._replace(padding=padding)
    return [[first, *chain[1:]] for chain in (TO_POOL3, TO_POOL4, TO_POOL5)]


def torchvisions(padding: int) -> list[nn.Sequential]:
    features = vgg16_features(padding)
    return [features[:17], features[:24], features]


def deconvolution(stride: int) -> Layer:
    """As in the paper: without padding."""
    return Layer(2 * stride, stride, transposed=True)


@pytest.mark.parametrize("chains", [typed, torchvisions])
def test_numbers_of_the_paper(chains):
    pool3, pool4, pool5 = (geometry(chain) for chain in chains(100))
    assert pool5 == Geometry(Fraction(212), Fraction(32), Fraction(31, 2) - 99)
    fc6 = geometry([FC6], start=pool5)
    assert fc6 == Geometry(Fraction(404), Fraction(32), Fraction(25, 2))
    assert crop(geometry([deconvolution(32)], start=fc6), PICTURE) == 19

    upscore2 = geometry([deconvolution(2)], start=fc6)
    assert (upscore2.stride, upscore2.offset) == (16, Fraction(-23, 2))
    assert pool4.offset == Fraction(-183, 2)
    assert crop(pool4, upscore2) == 5
    assert crop(geometry([deconvolution(16)], start=upscore2), PICTURE) == 27

    upscore_pool4 = geometry([deconvolution(2)], start=upscore2)
    assert (upscore_pool4.stride, upscore_pool4.offset) == (8, Fraction(-47, 2))
    assert pool3.offset == Fraction(-191, 2)
    assert crop(pool3, upscore_pool4) == 9
    assert crop(geometry([deconvolution(8)], start=upscore_pool4), PICTURE) == 31


@pytest.mark.parametrize("chains", [typed, torchvisions])
def test_nothing_to_crop_in_the_unpadded_design(chains):
    pool3, pool4, pool5 = (geometry(chain) for chain in chains(1))
    fc6 = geometry([FC6._replace(padding=3)], start=pool5)
    assert fc6.receptive_field == 404
    upscore2 = geometry(BilinearUpsample(21, 2), start=fc6)
    upscore_pool4 = geometry(BilinearUpsample(21, 2), start=upscore2)
    for branch, reference in (
        (geometry(BilinearUpsample(21, 32), start=fc6), PICTURE),
        (pool4, upscore2),
        (geometry(BilinearUpsample(21, 16), start=upscore2), PICTURE),
        (pool3, upscore_pool4),
        (geometry(BilinearUpsample(21, 8), start=upscore_pool4), PICTURE),
    ):
        assert crop(branch, reference) == crop(reference, branch) == 0


def test_the_source_contains_none_of_these_numbers():
    assert not re.findall(r"\b(404|212|19|27|31)\b", inspect.getsource(fcnlib.geometry))


def test_text_and_centres():
    fc6 = geometry([FC6], start=geometry(typed(100)[2]))
    assert str(fc6) == "receptive field 404, stride 32, offset 12.5"
    assert [fc6.centre(m) for m in (0, 1, 2)] == [12.5, 44.5, 76.5]
    assert geometry([]) == PICTURE
    assert [PICTURE.centre(m) for m in (-1, 0, 7)] == [-1, 0, 7]


# --- random chains of real modules, along rows or along columns


def module(kind: type, axis: int, kernel: int, stride: int, padding: int, dilation: int):
    """A module that does something along one axis and nothing along the other."""
    kernel, stride, padding, dilation = (
        (number, idle) if axis == 0 else (idle, number)
        for number, idle in ((kernel, 1), (stride, 1), (padding, 0), (dilation, 1))
    )
    if kind is nn.AvgPool2d:
        return nn.AvgPool2d(kernel, stride, padding)
    if kind is nn.MaxPool2d:
        return nn.MaxPool2d(kernel, stride, padding, dilation)
    made = kind(1, 1, kernel, stride, padding, dilation=dilation, bias=False).double()
    with torch.no_grad():  # positive and symmetric, so that the middle is the centre of mass
        weight = torch.rand_like(made.weight) + 0.1
        made.weight.copy_(weight + weight.flip(-2, -1))
    return made


@st.composite
def chains(draw: st.DrawFn, *kinds: type, down_first: bool = False) -> tuple[int, nn.Sequential]:
    """Return an axis and a chain of one to four modules.

    With ``down_first``, strides before transposed convolutions only, as in every FCN.
    """
    axis = draw(st.integers(0, 1))
    torch.manual_seed(draw(st.integers(0, 999)))
    parts: list[nn.Module] = []
    upsampled = False
    for kind in draw(st.lists(st.sampled_from(kinds), min_size=1, max_size=4)):
        kernel, stride = draw(st.integers(1, 4)), draw(st.integers(1, 3))
        dilation = 1 if kind is nn.AvgPool2d else draw(st.integers(1, 2))
        if kind is nn.ConvTranspose2d:
            upsampled = True
        elif upsampled and down_first:
            stride = 1
        most = {nn.Conv2d: 3, nn.ConvTranspose2d: dilation * (kernel - 1) // 2}
        padding = draw(st.integers(0, most.get(kind, kernel // 2)))
        parts.append(module(kind, axis, kernel, stride, padding, dilation))
        if draw(st.booleans()):
            parts = [nn.Sequential(*parts), nn.ReLU()]
    return axis, nn.Sequential(*parts)


def strides(chain: nn.Sequential, *kinds: type) -> int:
    """The product of the strides of the modules of these kinds."""
    return math.prod(max(part.stride) for part in chain.modules() if isinstance(part, kinds))


def influence(axis: int, chain: nn.Sequential, g: Geometry) -> tuple[Tensor, range]:
    """Push each pixel through alone; return (pixels, answers) and the answers in the middle.

    All that these depend on lies inside the picture. They contain a whole period: pixels
    shifted by the strides of the convolutions shift the answers by those of the transposed.
    """
    down = strides(chain, nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d)
    n = 3 * (math.ceil(g.receptive_field) + down)
    shape = (n, 1, n, 1) if axis == 0 else (n, 1, 1, n)
    with torch.no_grad():
        answers = chain(torch.eye(n, dtype=torch.float64).reshape(shape)).flatten(1)
    middle = [m for m in range(answers.shape[1]) if n / 3 <= g.centre(m) <= 2 * n / 3]
    period = strides(chain, nn.ConvTranspose2d)
    assert len(middle) >= period
    return answers, range(middle[0], middle[0] + period)


@hypothesis_settings(SAME_CASES, max_examples=200)
@given(chains(nn.Conv2d, nn.AvgPool2d, nn.MaxPool2d))
def test_convolutions_and_pools_look_at_exactly_the_receptive_field(axis_and_chain):
    axis, chain = axis_and_chain
    g = geometry(chain, axis=axis)
    other = geometry(chain, axis=1 - axis)
    assert other.receptive_field == other.stride == 1  # where the modules are idle
    answers, (m,) = influence(axis, chain, g)
    pixels = answers[:, m].nonzero()
    first, last = int(pixels[0]), int(pixels[-1])
    assert last - first + 1 == g.receptive_field
    assert Fraction(first + last, 2) == g.centre(m)


@hypothesis_settings(SAME_CASES, max_examples=200)
@given(chains(nn.Conv2d, nn.MaxPool2d, nn.ConvTranspose2d, nn.ConvTranspose2d))
def test_transposed_convolutions_look_at_no_more_than_the_receptive_field(axis_and_chain):
    """Which of the pixels it is depends on the phase: that is, on m modulo the strides."""
    axis, chain = axis_and_chain
    g = geometry(chain, axis=axis)
    answers, period = influence(axis, chain, g)
    reach = (g.receptive_field - 1) / 2
    seen = [pixel - g.centre(m) for m in period for pixel in answers[:, m].nonzero()[:, 0].tolist()]
    assert all(abs(distance) <= reach for distance in seen)
    if strides(chain, nn.Conv2d, nn.MaxPool2d) == 1:  # otherwise a phase may be left out
        assert (min(seen), max(seen)) == (-reach, reach)


@hypothesis_settings(SAME_CASES, max_examples=200)
@given(chains(nn.Conv2d, nn.AvgPool2d, nn.ConvTranspose2d, down_first=True))
def test_centre_of_mass(axis_and_chain):
    """Over one period of phases, what pixels weigh is balanced around the centres.

    A single phase may look to one side: of a factor 2, each other number more to the left.
    Without transposed convolutions there is one phase, which is balanced by itself. A
    stride behind a transposed convolution would pick some phases only: not balanced.
    """
    axis, chain = axis_and_chain
    g = geometry(chain, axis=axis)
    answers, period = influence(axis, chain, g)
    pixels = torch.arange(len(answers), dtype=torch.float64)
    distance = torch.stack([pixels - float(g.centre(m)) for m in period], 1)
    weight = answers[:, period.start : period.stop]
    assert weight.sum() > 0
    assert abs((weight * distance).sum() / weight.sum()) < 1e-9


def test_a_bilinear_layer_looks_at_its_own_place_in_each_phase():
    """Its weights make up for the phase: each number's centre of mass is its centre."""
    upsample = BilinearUpsample(1, 4).double()
    g = geometry(upsample)
    for axis, x in ((0, torch.eye(9).reshape(9, 1, 9, 1)), (1, torch.eye(9).reshape(9, 1, 1, 9))):
        answers = upsample(x.double().expand(-1, -1, 9, 9)).detach()
        answers = answers[:, 0, :, 18] if axis == 0 else answers[:, 0, 18]
        for m in range(8, 28):
            place = (answers[:, m] * torch.arange(9)).sum() / answers[:, m].sum()
            assert float(place) == pytest.approx(float(g.centre(m)))


def test_receptive_field_of_three_upsamplings():
    """As in FCN-8s: its phases together, not each by itself, decide."""
    chain = nn.Sequential(*(module(nn.ConvTranspose2d, 0, 2 * s, s, 0, 1) for s in (2, 2, 8)))
    answers, period = influence(0, chain, geometry(chain))
    most = max(len(answers[:, m].nonzero()) for m in period)
    assert most == 3  # pixels of the coarse map
    assert geometry(chain).receptive_field >= most


def test_a_rectangular_chain_on_a_picture():
    chain = nn.Sequential(
        nn.Conv2d(1, 1, (3, 5), (2, 1), (0, 2), (1, 3), bias=False),
        nn.AvgPool2d((2, 3), (3, 2)),
    ).double()
    nn.init.ones_(chain[0].weight)
    rows, columns = geometry(chain), geometry(chain, axis=1)
    assert (rows.receptive_field, rows.stride) == (5, 6)
    assert (columns.receptive_field, columns.stride) == (15, 2)
    x = torch.zeros(1, 1, 41, 45, dtype=torch.float64, requires_grad=True)
    chain(x)[0, 0, 3, 9].backward()
    for found, g, m in zip(x.grad[0, 0].nonzero().T, (rows, columns), (3, 9), strict=True):
        assert int(found.max() - found.min()) + 1 == g.receptive_field
        assert Fraction(int(found.min() + found.max()), 2) == g.centre(m)


def test_the_gradient_of_one_number_of_fc6():
    """A column of VGG16 as in the paper, with random positive symmetric kernels."""
    torch.manual_seed(0)
    kinds = [(nn.AvgPool2d if layer == POOL else nn.Conv2d, layer) for layer in TO_POOL5]
    padded = [(nn.Conv2d, CONV._replace(padding=100)), *kinds[1:], (nn.Conv2d, FC6)]
    column = nn.Sequential(*(module(kind, 0, *layer[:4]) for kind, layer in padded))
    g = geometry(column)
    x = torch.ones(1, 1, 900, 1, dtype=torch.float64, requires_grad=True)
    answers = column(x).flatten()
    m = len(answers) // 2
    answers[m].backward()
    weight = x.grad.flatten()
    pixels = weight.nonzero().flatten().tolist()
    assert pixels[-1] - pixels[0] + 1 == g.receptive_field == 404
    place = (weight * torch.arange(900)).sum() / weight.sum()
    assert float(place) == pytest.approx(float(g.centre(m)), abs=1e-9)


# --- one pixel through real networks, for every size of picture


def untouched(kernel: int, padding: int) -> nn.Conv2d:
    """A convolution along the rows of which only the middle weight is there: it is 1."""
    made = nn.Conv2d(1, 1, (kernel, 1), padding=(padding, 0), bias=False).double()
    nn.init.zeros_(made.weight)
    made.weight.data[0, 0, kernel // 2] = 1
    return made


def halved() -> nn.AvgPool2d:
    """In place of max pooling, which is not linear; rounds up as in the paper."""
    return nn.AvgPool2d((2, 1), ceil_mode=True, count_include_pad=False)


def column(repeats: tuple[int, ...], first_padding: int | None = None) -> nn.Sequential:
    """Blocks of as many convolutions, each with a pooling behind."""
    parts: list[nn.Module] = []
    for repeat in repeats:
        parts += [*(untouched(3, 1) for _ in range(repeat)), halved()]
    if first_padding is not None:
        parts[0] = untouched(3, first_padding)
    return nn.Sequential(*parts)


def bilinear(stride: int, padding: int) -> nn.ConvTranspose2d:
    made = nn.ConvTranspose2d(1, 1, (2 * stride, 1), (stride, 1), (padding, 0), bias=False).double()
    row = [1 - abs(i - (stride - 0.5)) / stride for i in range(2 * stride)]
    made.weight.data.copy_(torch.tensor(row).reshape(1, 1, -1, 1))
    return made


class Branch:
    """What each pixel of a picture, pushed through alone, leaves in a branch of a network."""

    def __init__(self, answers: Tensor, geometry: Geometry) -> None:
        self.answers = answers  # (pixels, 1, rows, 1)
        self.geometry = geometry

    def __len__(self) -> int:
        return self.answers.shape[2]

    @property
    def centres(self) -> Tensor:
        centres = [float(self.geometry.centre(m)) for m in range(len(self))]
        return torch.tensor(centres, dtype=torch.float64)

    @property
    def centres_of_mass(self) -> Tensor:
        """Where in the picture the answers to each pixel have their middle."""
        mass = self.answers.flatten(1)
        return (mass @ self.centres) / mass.sum(1)

    def through(self, chain: nn.Module) -> "Branch":
        return Branch(chain(self.answers), geometry(chain, start=self.geometry))

    def cropped(self, rows: int, size: int) -> "Branch":
        assert rows + size <= len(self)  # as many are there
        return Branch(
            self.answers[:, :, rows : rows + size],
            replace(self.geometry, offset=self.geometry.centre(rows)),
        )

    def check_cells(self) -> None:
        """A pixel is in the one cell whose middle is less than half a stride away."""
        pixels = torch.arange(len(self.answers))[:, None]
        near = (pixels - self.centres).abs() < float(self.geometry.stride) / 2
        assert (near.sum(1) == 1).all()
        assert torch.equal(self.answers.flatten(1) > 0, near)

    def upsampled(self, chain: nn.ConvTranspose2d) -> "Branch":
        """Each cell becomes a hat: it falls from 1 at its middle to 0 at the next ones."""
        finer = self.through(chain)
        distance = (self.centres[:, None] - finer.centres).abs() / float(self.geometry.stride)
        hats = (1 - distance).clamp(min=0)
        assert torch.equal(finer.answers.flatten(1), self.answers.flatten(1) @ hats)
        if chain.padding == (0, 0):  # then no hat is cut off, and its middle is seen directly
            assert torch.equal(finer.centres_of_mass, self.centres_of_mass)
        return finer


def check_network(n: int, padded: bool) -> None:
    """FCN-32s, 16s and 8s for a picture of n rows; each branch on its own way to the end."""

    def up(stride: int) -> nn.ConvTranspose2d:
        return bilinear(stride, 0 if padded else stride // 2)

    picture = Branch(torch.eye(n, dtype=torch.float64).reshape(n, 1, n, 1), PICTURE)
    pool3 = picture.through(column((2, 2, 3), 100 if padded else 1))
    pool4 = pool3.through(column((3,)))
    fc6 = pool4.through(nn.Sequential(column((3,)), untouched(7, 0 if padded else 3)))
    for branch in (pool3, pool4, fc6):
        branch.check_cells()

    def finish(branches: list[Branch], stride: int) -> None:
        for branch in branches:
            output = branch.upsampled(up(stride))
            output = output.cropped(crop(output.geometry, PICTURE), n)
            assert torch.equal(output.centres, torch.arange(n))

    def join(coarse: list[Branch], skip: Branch) -> list[Branch]:
        """Upsample twice and align with the skip, whose cells must all remain of use."""
        coarse = [branch.upsampled(up(2)) for branch in coarse]
        rows = crop(skip.geometry, coarse[0].geometry)
        size = min(len(coarse[0]), len(skip) - rows)
        if padded:
            assert size == len(coarse[0])  # the paper crops only the skip
        else:
            assert (rows, size) == (0, len(skip))  # and here the skip is never the larger one
        joined = [branch.cropped(0, size) for branch in coarse] + [skip.cropped(rows, size)]
        joined[-1].check_cells()  # no pixel was cut off
        for branch in joined:
            assert torch.equal(branch.centres, joined[0].centres)
        return joined

    finish([fc6], 32)
    fused4 = join([fc6], pool4)
    finish(fused4, 16)
    finish(join(fused4, pool3), 8)


@pytest.mark.slow
@pytest.mark.parametrize("padded", [True, False], ids=["paper", "same"])
@torch.no_grad()
def test_a_pixel_arrives_at_its_place_in_pictures_of_every_size(padded):
    for n in range(1, 261):
        check_network(n, padded)


@pytest.mark.parametrize("padded", [True, False], ids=["paper", "same"])
@pytest.mark.parametrize("n", [1, 2, 31, 32, 33, 47, 96, 200])
@torch.no_grad()
def test_a_pixel_arrives_at_its_place_quick(padded, n):
    check_network(n, padded)


# --- modules


@pytest.mark.parametrize(
    ("one", "layer"),
    [
        (nn.Conv2d(1, 1, 3, padding="valid"), Layer(3)),
        (nn.Conv2d(1, 1, 3, padding="same"), Layer(3, padding=1)),
        (nn.Conv2d(1, 1, 4, padding="same"), Layer(4, padding=1)),
        (nn.Conv2d(1, 1, 4, padding="same", dilation=3), Layer(4, padding=4, dilation=3)),
        (nn.MaxPool2d(3, 2, 1, 2, ceil_mode=True), Layer(3, 2, 1, 2)),
        (nn.MaxPool2d(3), Layer(3, 3)),
        (nn.AvgPool2d(3), Layer(3, 3)),
        (nn.AvgPool2d(4, 2, 1, ceil_mode=True), Layer(4, 2, 1)),
        (nn.ConvTranspose2d(1, 1, 4, 2, 1, 1, dilation=3), Layer(4, 2, 1, 3, transposed=True)),
        (BilinearUpsample(1, 4), Layer(8, 4, 2, transposed=True)),
        (BilinearUpsample(1, 3, padding=0), Layer(5, 3, transposed=True)),
    ],
    ids=str,
)
@pytest.mark.parametrize("axis", [0, 1])
def test_a_module_is_its_layer(one, layer, axis):
    assert geometry(one, axis=axis) == geometry([one], axis=axis) == geometry([layer], axis=axis)
    assert geometry([layer]) == PICTURE.after(layer)


@pytest.mark.filterwarnings("ignore:Using padding='same' with even kernel lengths")
@pytest.mark.parametrize("kernel", [2, 3, 4])
@pytest.mark.parametrize("dilation", [1, 2, 3])
def test_padding_same_is_where_pytorch_puts_it(kernel, dilation):
    conv = nn.Conv2d(1, 1, (kernel, 1), 1, "same", (dilation, 1), bias=False)
    nn.init.ones_(conv.weight)
    pixels = conv(torch.eye(21).reshape(21, 1, 21, 1))[:, 0, 10, 0].nonzero().flatten()
    assert float(pixels.float().mean()) == geometry(conv).centre(10)


def test_sequences_nest_and_pointwise_modules_change_nothing():
    flat = [nn.Conv2d(3, 8, 3, 2), nn.MaxPool2d(2), nn.ConvTranspose2d(8, 3, 4, 2)]
    nested = nn.Sequential(
        nn.Sequential(flat[0], nn.BatchNorm2d(8), nn.ReLU()),
        nn.Sequential(nn.Sequential(nn.Sequential(), flat[1]), nn.Dropout2d(), nn.Identity()),
        nn.Sequential(flat[2], nn.Sigmoid()),
    )
    assert geometry(nested) == geometry(flat) == geometry(nn.Sequential(*flat))
    assert geometry(part for part in nested) == geometry(flat)
    for kind in POINTWISE:
        one = kind(8) if kind is nn.BatchNorm2d else kind()
        assert geometry(one) == PICTURE
        same = one.eval()(torch.zeros(1, 8, 5, 6))
        assert same.shape == (1, 8, 5, 6)


# --- errors


class Forked(nn.Module):
    """Its forward decides what runs."""


@pytest.mark.parametrize(
    "unknown", [nn.Linear(3, 3), nn.AdaptiveAvgPool2d(7), nn.Conv1d(1, 1, 3), Forked()], ids=str
)
def test_unknown_modules_are_refused(unknown):
    for chain in (unknown, [unknown], nn.Sequential(nn.ReLU(), nn.Sequential(unknown))):
        with pytest.raises(ValueError) as error:
            geometry(chain)
        sentence = str(error.value)
        assert sentence.startswith(f"{type(unknown).__name__} is not a convolution")
        assert sentence.count(".") == 1
        assert sentence.endswith(".")


def at(stride: int, offset: Fraction | int) -> Geometry:
    return Geometry(Fraction(1), Fraction(stride), Fraction(offset))


@pytest.mark.parametrize(
    ("branch", "reference", "words"),
    [
        (at(8, 0), at(16, 0), ["strides", "8", "16"]),
        (at(8, 0), at(8, 4), ["1/2 rows", "whole number"]),
        (at(1, 0), at(1, Fraction(1, 2)), ["1/2 rows", "whole number"]),
        (at(8, 16), at(8, 0), ["2 rows inside", "pad the branch"]),
    ],
)
def test_crops_that_do_not_exist_are_refused(branch, reference, words):
    with pytest.raises(ValueError) as error:
        crop(branch, reference)
    sentence = str(error.value)
    assert all(word in sentence for word in words), sentence
    assert sentence.endswith(".")


def test_crop_counts_rows_of_the_branch():
    assert crop(at(8, -24), at(8, 0)) == 3
    assert crop(at(8, 5), at(8, 5)) == 0
    assert geometry([Layer(1)], start=at(8, 5)) == at(8, 5)
