"""What a caller hands a network, and the arguments of ``build_model``."""

import pytest
import torch
import torchvision
from reference_networks import randomise
from torch import nn

from fcnlib.models import (
    CAFFE,
    TORCHVISION,
    VGG,
    Normalization,
    Normalize,
    SqueezeNet,
    build_model,
)

NAMES = [
    "fcn32s",
    "fcn16s",
    "fcn8s",
    "fcn8s_atonce",
    "fcn_decoder",
    "fcn_resnet18",
    "fcn_resnet50",
]


def tiny(name: str, **options: object) -> nn.Module:
    return build_model(name, 3, **{"width": 0.03, **options})


# --- normalisation


def test_torchvisions_normalisation_is_torchvisions():
    weights = torchvision.models.VGG16_Weights.IMAGENET1K_V1
    presets = weights.transforms(crop_size=8, resize_size=8)
    x = torch.rand(2, 3, 8, 8)
    assert torch.allclose(Normalize()(x), presets(x), atol=1e-6)


def test_caffes_normalisation_by_hand():
    """Red comes last, and grey of about the mean is about zero."""
    x = torch.zeros(1, 3, 1, 1)
    x[0, 0] = 1  # pure red
    found = Normalize(CAFFE)(x).flatten().tolist()
    assert found == pytest.approx([-104.00699, -116.66877, 255 - 122.67892], abs=1e-4)


def test_normalising_leaves_the_picture_as_it_was():
    x = torch.rand(1, 3, 4, 4)
    before = x.clone()
    for normalization in (TORCHVISION, CAFFE):
        Normalize(normalization)(x)
        assert torch.equal(x, before)


@pytest.mark.parametrize("name", NAMES)
def test_networks_normalise_by_themselves(name):
    network = randomise(tiny(name, width=0.1))  # the scores, which start at zero, too
    x = torch.rand(1, 3, 40, 40)
    assert network.normalize.normalization == TORCHVISION
    with torch.no_grad():
        logits = network(x)
        ready = network.normalize(x)
        network.normalize = nn.Identity()
        assert torch.equal(network(ready), logits)
        assert not torch.equal(network(x), logits)
    assert not [key for key in network.state_dict() if key.startswith("normalize")]


def test_it_follows_the_network():
    network = tiny("fcn32s").double()
    assert network.normalize.mean.dtype == torch.float64
    assert network(torch.rand(1, 3, 8, 8, dtype=torch.float64)).dtype == torch.float64
    assert "BGR" in str(Normalize(CAFFE))


def test_order_is_rgb_or_bgr():
    with pytest.raises(ValueError, match=r"order must be 'RGB' or 'BGR', not 'GBR'\."):
        Normalize(Normalization("GBR", 1.0, (0, 0, 0), (1, 1, 1)))


CACHE: dict[str, nn.Module] = {}


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize(
    ("picture", "words"),
    [
        (torch.zeros(1, 3, 40, 40, dtype=torch.uint8), r"torch.uint8 of shape \(1, 3, 40, 40\)"),
        (torch.zeros(1, 3, 40, 40, dtype=torch.int64), "torch.int64"),
        (torch.zeros(3, 40, 40), r"torch.float32 of shape \(3, 40, 40\)"),
        (torch.zeros(1, 1, 40, 40), r"of shape \(1, 1, 40, 40\)"),
        (torch.zeros(1, 4, 40, 40), r"of shape \(1, 4, 40, 40\)"),
        (torch.zeros(1, 40, 40, 3), r"of shape \(1, 40, 40, 3\)"),
        (torch.zeros(40, 40), r"of shape \(40, 40\)"),
    ],
)
@pytest.mark.parametrize("training", [False, True])
def test_other_pictures_are_refused(name, picture, words, training):
    if name not in CACHE:
        CACHE[name] = tiny(name, backbone=None if "resnet" in name else "vgg11_bn")
    network = CACHE[name].train(training)
    with pytest.raises(ValueError, match=words) as error:
        network(picture)
    assert "RGB in 0..1" in str(error.value)
    assert "\n" not in str(error.value)


# --- build_model


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"name": "fcn4s"}, "name must be one of fcn32s, .*fcn_resnet50, not 'fcn4s'"),
        ({"name": "FCN8s"}, "name must be one of"),
        ({"name": None}, "name must be one of"),
        ({"num_classes": 0}, "num_classes must be 1 to 255, not 0"),
        ({"num_classes": 256}, "num_classes must be 1 to 255, not 256"),
        ({"backbone": "resnet18"}, "backbone of fcn8s must be one of vgg16, .*not 'resnet18'"),
        ({"backbone": "VGG16"}, "backbone of fcn8s"),
        ({"name": "fcn_decoder", "backbone": "squeezenet1_1"}, "backbone of fcn_decoder"),
        ({"name": "fcn_resnet18", "backbone": "resnet50"}, "must be one of resnet18, not"),
        ({"name": "fcn_resnet50", "backbone": "vgg16"}, "must be one of resnet50, not"),
        ({"geometry": "valid"}, "geometry must be 'paper' or 'same', not 'valid'"),
        ({"geometry": None}, "geometry must be"),
        ({"upsampling": "nearest"}, "upsampling must be 'bilinear' or 'learned', not 'nearest'"),
        ({"name": "fcn_decoder", "geometry": "paper"}, "geometry 'paper' is for .*fcn_decoder"),
        ({"name": "fcn_resnet18", "geometry": "paper"}, "geometry 'paper' is for"),
        ({"name": "fcn_resnet50", "geometry": "paper"}, "geometry 'paper' is for"),
        ({"name": "fcn_resnet50", "upsampling": "learned"}, "fcn_resnet50 .* no upsampling"),
        ({"width": 0}, "width must be greater than 0, not 0"),
        ({"width": -1.5}, r"width must be greater than 0, not -1\.5"),
        ({"width": float("nan")}, "width must be greater than 0, not nan"),
    ],
)
def test_bad_arguments(arguments, words):
    with pytest.raises(ValueError, match=words) as error:
        build_model(**{"name": "fcn8s", **arguments})
    assert str(error.value).endswith(".")
    assert "\n" not in str(error.value)


def test_bad_arguments_of_the_classifiers():
    for size in (0, 31, 100, -32):
        with pytest.raises(ValueError, match=f"image_size must be a multiple of 32, not {size}"):
            VGG("vgg11", image_size=size)
    with pytest.raises(ValueError, match=r"name must be one of vgg11, .*, not 'vgg12'"):
        VGG("vgg12")
    for make in (VGG, lambda _, width: SqueezeNet(width)):
        with pytest.raises(ValueError, match="width must be greater than 0"):
            make("vgg11", width=0)


@pytest.mark.parametrize("name", NAMES)
def test_defaults_and_width(name):
    with torch.device("meta"):
        network, half = build_model(name), build_model(name, width=0.5)

    def widest(network: nn.Module) -> int:
        return max(m.out_channels for m in network.modules() if isinstance(m, nn.Conv2d))

    assert widest(network) == 2 * widest(half)
    first = next(m for m in network.modules() if isinstance(m, nn.Conv2d))
    assert first.weight.shape[:2] == (64, 3)
