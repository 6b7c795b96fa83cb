"""Counts of parameters, and equality with independent networks that have the same weights."""

import copy

import pytest
import torch
import torchvision
from reference_networks import (
    PublishedFCN,
    TutorialDecoder,
    d2l_resnet18,
    randomise,
    torchvision_vgg,
)
from torch import Tensor, nn

from fcnlib.errors import WeightsError
from fcnlib.models import (
    CAFFE,
    FCN,
    TORCHVISION,
    VGG,
    FCNDecoder,
    SqueezeNet,
    build_model,
    load_reference_weights,
)
from fcnlib.models.vgg import VGG_NAMES, VGGFeatures

FCNS = ("fcn32s", "fcn16s", "fcn8s", "fcn8s_atonce")
KINDS = {name: name.removeprefix("fcn") for name in FCNS}


def pictures(height: int, width: int, count: int = 2) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(count, 3, height, width)


def normalised(x: Tensor) -> Tensor:
    return torchvision.transforms.functional.normalize(
        x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )


def caffe(x: Tensor) -> Tensor:
    """BGR in 0..255 minus the mean, as the reference release prepares a picture."""
    bgr = torch.stack([x[:, 2], x[:, 1], x[:, 0]], dim=1) * 255
    return bgr - torch.tensor([104.00699, 116.66877, 122.67892])[:, None, None]


def check_equal(ours: Tensor, theirs: Tensor, tolerance: float = 1e-5) -> None:
    """Within a tolerance relative to the spread, which must be there."""
    assert ours.shape == theirs.shape
    spread = theirs.std()
    assert spread > 1e-3
    assert (ours - theirs).abs().max() <= tolerance * spread


def count(network: nn.Module) -> int:
    return sum(parameter.numel() for parameter in network.parameters())


# --- counts


def test_parameters_of_vgg16():
    with torch.device("meta"):
        vgg = VGG("vgg16")
    assert count(vgg) == 138_357_544
    assert count(vgg.features) == 14_714_688
    parts = [count(vgg.classifier[number]) for number in (0, 3, 6)]
    assert parts == [102_764_544, 16_781_312, 4_097_000]


@pytest.mark.parametrize("name", VGG_NAMES)
def test_parameters_of_each_vgg_are_torchvisions(name):
    with torch.device("meta"):
        ours, theirs = VGG(name), getattr(torchvision.models, name)(weights=None)
    shapes = {key: tensor.shape for key, tensor in theirs.state_dict().items()}
    assert {key: tensor.shape for key, tensor in ours.state_dict().items()} == shapes


def on_meta(name: str, *arguments: object, **options: object) -> nn.Module:
    with torch.device("meta"):
        return build_model(name, *arguments, **options)


@pytest.mark.parametrize("geometry", ["same", "paper"])
def test_converted_layers_have_as_many_parameters(geometry):
    fcn = on_meta("fcn8s", geometry=geometry)
    assert (count(fcn.fc6), count(fcn.fc7)) == (102_764_544, 16_781_312)
    convolutions = [layer for name, layer in fcn.named_children() if name.startswith("conv")]
    assert sum(count(layer) for layer in convolutions) == 14_714_688
    scores = 21 * (4096 + 512 + 256 + 3)
    upsamplings = 21 * (4**2 + 4**2 + 16**2)  # a kernel for each class, none between classes
    assert count(fcn) == 138_357_544 - 4_097_000 + scores + upsamplings


def test_parameters_of_the_resnets():
    assert count(on_meta("fcn_resnet50")) == 35_322_218
    assert count(on_meta("fcn_resnet18")) == 12_993_642
    assert count(d2l_resnet18(21)) == 12_993_642


# --- backbones


@pytest.mark.parametrize("name", VGG_NAMES)
def test_vgg_is_torchvisions(name):
    ours = VGG(name, num_classes=5, width=0.1)
    theirs = randomise(torchvision_vgg(name, 5, width=0.1, hidden=ours.hidden))
    ours.load_state_dict(theirs.state_dict(), strict=True)
    ours.eval()
    # At 256 cells are averaged; at 99 they are also repeated.
    for size in ((224, 224), (256, 320), (99, 64)):
        x = pictures(*size)
        check_equal(ours(x), theirs(normalised(x)))


@pytest.mark.slow
def test_vgg16_in_full_width_is_torchvisions():
    ours = VGG("vgg16").eval()
    with torch.device("meta"):
        theirs = torchvision.models.vgg16(weights=None).eval()
    theirs.load_state_dict(ours.state_dict(), assign=True)
    x = pictures(224, 224, count=1)
    check_equal(ours(x), theirs(normalised(x)))


def test_squeezenet_is_torchvisions():
    theirs = randomise(torchvision.models.squeezenet1_1(weights=None))
    ours = SqueezeNet().eval()
    ours.features.load_state_dict(theirs.features.state_dict(), strict=True)
    for size in ((224, 224), (97, 131), (17, 18)):
        x = pictures(*size)
        check_equal(ours(x), theirs.features(normalised(x)))
    # The network built over it only pads the end: the same numbers, and perhaps one more row.
    fcn = FCN(ours, 3).eval()
    maps = fcn.features(x := pictures(97, 131))
    for stage, last in (("fire3", 5), ("fire5", 8), ("fire9", 13)):
        expected = theirs.features[:last](normalised(x))
        rows, columns = expected.shape[-2:]
        found = maps[stage]
        assert 0 <= found.shape[-2] - rows <= 1
        assert 0 <= found.shape[-1] - columns <= 1
        check_equal(found[..., : rows - 1, : columns - 1], expected[..., :-1, :-1])


# --- networks


@torch.no_grad()
def test_fcn_resnet50_is_torchvisions():
    theirs = torchvision.models.segmentation.fcn_resnet50(
        weights=None, weights_backbone=None, num_classes=5, aux_loss=True
    )
    randomise(theirs)
    ours = build_model("fcn_resnet50", num_classes=5)
    ours.load_state_dict(theirs.state_dict(), strict=True)
    ours.eval()
    for size in ((65, 97), (8, 1)):
        x = pictures(*size)
        main, auxiliary = ours(x, auxiliary=True)
        expected = theirs(ours.normalize(x))
        assert expected["out"].std() > 1e-3
        assert torch.equal(main, expected["out"])
        assert torch.equal(auxiliary, expected["aux"])
        assert torch.equal(ours(x), main)


@torch.no_grad()
def test_fcn_resnet18_is_d2ls():
    theirs = randomise(d2l_resnet18(5))
    ours = build_model("fcn_resnet18", num_classes=5, upsampling="learned").eval()
    assert str(ours.load_state_dict(theirs.state_dict())) == "<All keys matched successfully>"
    for size in ((64, 96), (320, 480), (33, 70)):
        x = pictures(*size)
        expected = theirs(normalised(x))[..., : size[0], : size[1]]
        check_equal(ours(x), expected)


def test_fcn_resnet18_starts_bilinear():
    up = build_model("fcn_resnet18", num_classes=3, width=0.03).transpose_conv
    published = nn.ConvTranspose2d(3, 3, 64, 32, 16, bias=False)
    nn.init.zeros_(published.weight)
    hat = 1 - (torch.arange(64) - 31.5).abs() / 32
    for channel in range(3):
        published.weight.data[channel, channel] = torch.outer(hat, hat)
    x = torch.randn(1, 3, 3, 4)
    assert torch.allclose(up(x), published(x), atol=1e-6)
    assert not up.weight.requires_grad
    assert up.bias.requires_grad
    learned = build_model("fcn_resnet18", width=0.03, upsampling="learned")
    assert learned.transpose_conv.weight.requires_grad


@torch.no_grad()
@pytest.mark.parametrize("backbone", ["vgg11", "vgg16_bn", "vgg19"])
def test_decoder_is_the_tutorials(backbone):
    features = torchvision_vgg(backbone, 5, width=0.1, hidden=1).features
    theirs = randomise(TutorialDecoder(features, num_classes=5, width=0.1))
    ours = build_model("fcn_decoder", num_classes=5, backbone=backbone, width=0.1).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    for size in ((32, 32), (64, 96), (224, 160)):
        x = pictures(*size)
        check_equal(ours(x), theirs(normalised(x)))


def published_and_ours(name: str, geometry: str = "paper") -> tuple[PublishedFCN, FCN]:
    torch.manual_seed(0)
    theirs = PublishedFCN(KINDS[name], num_classes=4, width=0.05).eval()
    ours = build_model(name, 4, "vgg16", geometry=geometry, width=0.05).eval()
    return theirs, load_reference_weights(ours, theirs.state_dict())


@torch.no_grad()
@pytest.mark.parametrize("name", FCNS)
def test_published_weights_give_the_same_logits(name):
    theirs, ours = published_and_ours(name)
    assert ours.normalize.normalization == CAFFE
    for size in ((1, 1), (32, 32), (97, 131), (50, 33), (224, 160)):
        x = pictures(*size)
        check_equal(ours(x), theirs(caffe(x)), 1e-4)
    if name != "fcn32s":  # each number counts: without one of them the answer is another
        for layer in ("score_pool4", "score_fr"):
            changed = copy.deepcopy(ours)
            nn.init.zeros_(changed.get_submodule(layer).weight)
            assert (changed(x) - ours(x)).std() > 1e-3 * ours(x).std()


@torch.no_grad()
@pytest.mark.parametrize("name", FCNS)
def test_published_weights_in_the_other_geometry(name):
    """All that differs is how far zeros reach in: nothing, in the middle of a large picture."""
    theirs, ours = published_and_ours(name, "same")
    x = pictures(1, 1, count=1).expand(1, 3, 544, 544)  # of one colour, as the phase differs
    middle = (..., slice(268, 276), slice(268, 276))
    assert torch.allclose(ours(x)[middle], theirs(caffe(x))[middle], rtol=1e-3)


def test_published_weights_of_another_network_leave_the_model_as_it_was():
    theirs, _ = published_and_ours("fcn16s")
    published = theirs.state_dict()
    mixing = {name: tensor.clone() for name, tensor in published.items()}
    mixing["upscore16.weight"][0, 1, 3, 3] = 0.1
    wider = PublishedFCN("16s", 4, width=0.06).state_dict()
    classes = PublishedFCN("16s", 3, width=0.05).state_dict()
    finer = PublishedFCN("8s", 4, width=0.05).state_dict()
    fresh = build_model("fcn16s", 4, "vgg16", geometry="paper", width=0.05)
    before = {name: tensor.clone() for name, tensor in fresh.state_dict().items()}
    for state, words in (
        (mixing, "upscore16.weight mixes channels"),
        (wider, "size mismatch"),
        (classes, "size mismatch"),
        (finer, "upscore8.weight"),
        ({}, "Missing key"),
    ):
        with pytest.raises(WeightsError, match=words) as error:
            load_reference_weights(fresh, state)
        assert "\n" not in str(error.value)
        assert str(error.value).startswith("The reference state_dict does not fit")
        assert all(torch.equal(before[name], new) for name, new in fresh.state_dict().items())
        assert fresh.normalize.normalization == TORCHVISION
    assert published.keys() == theirs.state_dict().keys()  # ours to keep
    with pytest.raises(WeightsError, match="does not fit"):
        load_reference_weights(build_model("fcn16s", 4, "vgg13", width=0.05), published)


# --- the classifier that an FCN is built from


@pytest.mark.parametrize("classifier", [lambda: VGG("vgg11_bn", 3, 0.05), lambda: SqueezeNet(0.1)])
@pytest.mark.parametrize("geometry", ["same", "paper"])
def test_building_does_not_change_the_classifier(classifier, geometry):
    classifier = randomise(classifier())
    before = copy.deepcopy(classifier.state_dict())
    x = pictures(64, 80)
    with torch.no_grad():
        answer, text = classifier(x), str(classifier)
        fcn = FCN(classifier, 3, (1, 1), geometry)
        for parameter in fcn.parameters():
            parameter.add_(1)
        fcn.train()(x)
    after = classifier.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert str(classifier) == text  # paddings, too
    assert not classifier.training
    assert torch.equal(classifier(x), answer)


@pytest.mark.parametrize("image_size", [32, 64, 96, 128, 224])
@torch.no_grad()
def test_fcn_is_the_classifier_on_each_window(image_size):
    """Without padding fc6 gives the classifier's scores on the size that it was trained on."""
    vgg = randomise(VGG("vgg11", 3, 0.05, image_size))
    fcn = FCN(vgg, 3).eval()
    fcn.fc6.padding = (0, 0)
    fcn.score_fr.weight.copy_(vgg.classifier[-1].weight[..., None, None])
    fcn.score_fr.bias.copy_(vgg.classifier[-1].bias)
    x = pictures(image_size, image_size)
    scores = fcn.score_fr(fcn.features(x)["head"])
    assert scores.shape == (2, 3, 1, 1)
    check_equal(scores.flatten(1), vgg(x))


def test_the_decoder_takes_the_encoders_own_layers():
    encoder = VGGFeatures("vgg11", 0.05, ceil_mode=True)
    assert FCNDecoder(encoder, 3, 0.05).pretrained_net is encoder
