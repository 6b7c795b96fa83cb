"""Logits of the picture's size, for every size, and a clear refusal where BatchNorm has one value.

Rows and columns never meet in the size arithmetic of these networks. So of the 4,900 pictures
of up to 70 x 70, each height comes with a width from a permutation and with a width of 70, and
each width with a height of 1.
"""

from unittest import mock

import pytest
import torch
from reference_networks import randomise
from torch import Tensor, nn

import fcnlib.models.decoder
import fcnlib.models.fcn
import fcnlib.models.fcn_resnet
from fcnlib.models import FCN, VGG, build_model
from fcnlib.models.vgg import VGG_NAMES

SKIPPING = ("fcn32s", "fcn16s", "fcn8s", "fcn8s_atonce")
CASES = [  # name, backbone, geometry
    *((name, "vgg11", geometry) for name in SKIPPING for geometry in ("same", "paper")),
    *((name, "squeezenet1_1", geometry) for name in SKIPPING for geometry in ("same", "paper")),
    *(("fcn8s", "squeezenet1_1_fc6", geometry) for geometry in ("same", "paper")),
    ("fcn_decoder", "vgg11", "same"),
    ("fcn_resnet18", None, "same"),
    ("fcn_resnet50", None, "same"),
]
OTHER_BACKBONES = [
    (name, backbone, "same")
    for name in ("fcn8s", "fcn_decoder")
    for backbone in VGG_NAMES
    if backbone != "vgg11"
]
TO_70 = range(1, 71)
SIZES = sorted(
    {(h, (29 * h) % 71) for h in TO_70}  # 71 is a prime: a permutation
    | {size for n in TO_70 for size in ((n, 70), (1, n))}
)
LARGE = [(97, 131), (224, 224), (375, 500), (500, 375), (513, 513)]


def tiny(name: str, backbone: str | None, geometry: str = "same", classes: int = 2) -> nn.Module:
    torch.manual_seed(0)
    return build_model(name, classes, backbone, geometry=geometry, width=0.03)


def check_size(network: nn.Module, height: int, width: int, count: int = 1) -> None:
    with torch.no_grad():
        logits = network(torch.rand(count, 3, height, width))
    assert logits.shape == (count, 2, height, width)
    assert logits.isfinite().all()


def test_sizes_hold_what_they_promise():
    assert {h for h, _ in SIZES} == {w for _, w in SIZES} == set(TO_70)
    assert sum(h == 35 for h, _ in SIZES) == 2
    assert sum(w == 35 for _, w in SIZES) == 2


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backbone", "geometry"), CASES)
def test_every_size(name, backbone, geometry):
    network = randomise(tiny(name, backbone, geometry))
    for height, width in SIZES:
        check_size(network, height, width)
    network.train()
    for height in (1, 2, 17, 32, 33, 70):
        check_size(network, height, 29 * height % 71, count=2)


@pytest.mark.parametrize(("name", "backbone", "geometry"), CASES)
def test_large_sizes(name, backbone, geometry):
    network = randomise(tiny(name, backbone, geometry))
    for height, width in LARGE:
        check_size(network, height, width)
    network.train()
    check_size(network, *LARGE[0], count=2)


@pytest.mark.parametrize(("name", "backbone", "geometry"), OTHER_BACKBONES)
def test_other_backbones(name, backbone, geometry):
    network = randomise(tiny(name, backbone, geometry))
    for height, width in ((1, 1), (31, 33), (70, 64), (97, 131)):
        check_size(network, height, width)
    network.train()
    check_size(network, 1, 17)
    check_size(network, 31, 2, count=2)


@pytest.mark.parametrize("cells", [1, 2, 3, 4, 5])
@pytest.mark.parametrize("geometry", ["same", "paper"])
@pytest.mark.parametrize("skips", [(), (1.0,), (1.0, 1.0)])
def test_classifiers_trained_on_other_sizes(cells, geometry, skips):
    """fc6 has as many cells a side, an even number too."""
    fcn = randomise(FCN(VGG("vgg11", 3, 0.03, 32 * cells), 2, skips, geometry))
    for height, width in ((1, 1), (32, 33), (70, 131)):
        check_size(fcn, height, width)


# --- BatchNorm

WITH_BATCH_NORM = [
    ("fcn32s", "vgg11_bn", "same"),
    ("fcn8s", "vgg11_bn", "same"),
    ("fcn8s", "vgg11_bn", "paper"),
    ("fcn_decoder", "vgg11_bn", "same"),
    ("fcn_decoder", "vgg11", "same"),
    ("fcn_resnet18", None, "same"),
    ("fcn_resnet50", None, "same"),
]


def train_all(network: nn.Module) -> None:
    network.train()


def train_scores_only(network: nn.Module) -> None:
    """As many do in fine-tuning: dropout is on, all BatchNorm layers are off."""
    network.train()
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.eval()


def train_but_not_the_backbone(network: nn.Module) -> None:
    network.train()
    for name in ("backbone", "pretrained_net"):
        getattr(network, name, nn.Identity()).eval()


@pytest.mark.parametrize("mode", [train_all, train_scores_only, train_but_not_the_backbone])
@pytest.mark.parametrize(("name", "backbone", "geometry"), WITH_BATCH_NORM)
def test_refuses_where_pytorch_would_and_nowhere_else(name, backbone, geometry, mode):
    network = tiny(name, backbone, geometry)
    mode(network)
    refused = 0
    for size in ((1, 1), (1, 8), (8, 9), (8, 8), (16, 16), (17, 16), (16, 17), (32, 32), (1, 33)):
        for count in (0, 1, 2):
            x = torch.rand(count, 3, *size)
            ours, theirs = refusal(network, x), pytorchs_refusal(network, x)
            assert bool(ours) == bool(theirs), (size, count, ours, theirs)
            if ours:
                refused += 1
                assert "Expected more than 1 value per channel" in theirs
                assert f"{count} picture of {size[0]} x {size[1]}" in ours
                for words in ("BatchNorm", "two pictures", "eval()"):
                    assert words in ours
    if mode is train_all:
        assert bool(refused) == (geometry == "same" and backbone != "vgg11")
    if mode is train_scores_only:
        assert not refused


def refusal(network: nn.Module, x: Tensor) -> str:
    try:
        with torch.no_grad():
            network(x)
    except ValueError as error:
        return str(error)
    return ""


def pytorchs_refusal(network: nn.Module, x: Tensor) -> str:
    with (
        mock.patch.object(fcnlib.models.fcn, "require_values"),
        mock.patch.object(fcnlib.models.decoder, "require_values"),
        mock.patch.object(fcnlib.models.fcn_resnet, "require_values"),
    ):
        return refusal(network, x)


@pytest.mark.parametrize(("name", "backbone", "geometry"), WITH_BATCH_NORM)
def test_eval_mode_takes_a_single_pixel(name, backbone, geometry):
    check_size(tiny(name, backbone, geometry).eval(), 1, 1)
