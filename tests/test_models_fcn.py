"""The paper's networks: names, zero scores, crops, alignment, and how one starts from another."""

import tokenize
from pathlib import Path

import pytest
import torch
from reference_networks import randomise
from torch import Tensor, nn
from torch.nn import functional as F

import fcnlib.models
from fcnlib.bilinear import BilinearUpsample
from fcnlib.errors import WeightsError
from fcnlib.models import CAFFE, FCN, TORCHVISION, VGG, Normalize, build_model, init_from

CONVOLUTIONS = {  # of VGG16
    f"conv{stage}_{number}"
    for stage, count in enumerate((2, 2, 3, 3, 3), start=1)
    for number in range(1, count + 1)
}
SCORES = {
    "fcn32s": {"score_fr"},
    "fcn16s": {"score_fr", "score_pool4"},
    "fcn8s": {"score_fr", "score_pool4", "score_pool3"},
}
UPSAMPLINGS = {
    "fcn32s": {"upscore32"},
    "fcn16s": {"upscore2", "upscore16"},
    "fcn8s": {"upscore2", "upscore_pool4", "upscore8"},
}
for names in (SCORES, UPSAMPLINGS):
    names["fcn8s_atonce"] = names["fcn8s"]
each_name = pytest.mark.parametrize("name", SCORES)
each_geometry = pytest.mark.parametrize("geometry", ["same", "paper"])


def tiny(name: str, backbone: str = "vgg11", **options: object) -> FCN:
    torch.manual_seed(0)
    return build_model(name, 3, backbone, **{"width": 0.05, **options})


def random(name: str, backbone: str = "vgg11", **options: object) -> FCN:
    return randomise(tiny(name, backbone, **options))


# --- names and first numbers


@each_name
@each_geometry
@pytest.mark.parametrize("upsampling", ["bilinear", "learned"])
def test_names_of_the_paper(name, geometry, upsampling):
    fcn = tiny(name, "vgg16", geometry=geometry, upsampling=upsampling, width=0.02)
    with_numbers = {key.rpartition(".")[0] for key in fcn.state_dict()}
    scores, upsamplings = SCORES[name], UPSAMPLINGS[name]
    assert with_numbers == CONVOLUTIONS | {"fc6", "fc7"} | scores | upsamplings
    assert {stage.stage for stage in fcn.skips} == {score[6:] for score in scores - {"score_fr"}}
    for score in scores:
        layer = getattr(fcn, score)
        assert layer.kernel_size == (1, 1)
        assert not layer.weight.any()
        assert not layer.bias.any()
    for upscore in upsamplings:
        layer = getattr(fcn, upscore)
        assert isinstance(layer, BilinearUpsample)
        assert layer.weight.requires_grad == (upsampling == "learned")
        number = upscore.removeprefix("upscore")
        assert layer.stride[0] == (int(number) if number.isdigit() else 2)
        assert layer.kernel_size[0] == 2 * layer.stride[0]
    assert fcn.fc6.kernel_size == (7, 7)
    assert fcn.conv1_1.padding[0] == (100 if geometry == "paper" else 1)
    assert fcn.fc6.padding[0] == (0 if geometry == "paper" else 3)
    assert isinstance(fcn.drop6, nn.Dropout)  # of single numbers, not of whole channels
    assert fcn.drop6.p == fcn.drop7.p == 0.5
    assert not any(isinstance(module, nn.Dropout2d) for module in fcn.modules())


def test_names_over_squeezenet():
    fcn = tiny("fcn8s", "squeezenet1_1")
    assert [skip.stage for skip in fcn.skips] == ["fire5", "fire3"]
    assert [fcn.get_submodule(skip.upsampling).stride[0] for skip in fcn.skips] == [2, 2]
    assert fcn.last_upsampling == "upscore4"
    assert [tiny(name, "squeezenet1_1").last_upsampling for name in ("fcn32s", "fcn16s")] == [
        "upscore16",
        "upscore8",
    ]


@torch.no_grad()
def test_fc6_over_squeezenet():
    """Each score sees 2 x 6 cells of 16 pixels more: as typed out, and as a pixel's reach."""
    fcn = random("fcn32s", "squeezenet1_1_fc6").double()
    assert fcn.new_layers == ("score_", "upscore", "fc6")
    x = torch.rand(1, 3, 95, 127, dtype=torch.float64)
    cells = fcn.features(x)["fire9"]
    seen = F.conv2d(cells, fcn.fc6.weight, fcn.fc6.bias, padding=6, dilation=6).relu()
    assert torch.equal(fcn.features(x)["head"], seen)
    assert seen.shape[-2:] == cells.shape[-2:] and seen.std() > 0
    for backbone, pixels in (("squeezenet1_1", 207), ("squeezenet1_1_fc6", 207 + 12 * 16)):
        fcn = without_biases(random("fcn32s", backbone)).double()
        x = torch.zeros(1, 3, 640, 32, dtype=torch.float64)
        x[..., 320, 16] = 1e3
        zero = fcn.features(0 * x)["head"]
        rows = (fcn.features(x)["head"] - zero).abs().sum(dim=(0, 1, 3)).nonzero().flatten()
        assert pixels - 16 <= (rows.max() - rows.min() + 1) * 16 <= pixels + 16


@each_name
def test_an_untrained_network_says_nothing(name):
    assert not tiny(name).eval()(torch.rand(1, 3, 40, 50)).any()


def test_at_once_scales_the_features():
    assert [skip.scale for skip in tiny("fcn8s_atonce").skips] == [0.01, 0.0001]
    assert [skip.scale for skip in tiny("fcn8s").skips] == [1, 1]
    at_once, plain = random("fcn8s_atonce"), random("fcn8s")
    x = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        for stage, scale in (("pool4", 0.01), ("pool3", 0.0001)):
            plain.get_submodule(f"score_{stage}").weight.mul_(scale)
    assert torch.allclose(at_once(x), plain(x), atol=1e-5)


# --- scores are added


@each_geometry
@pytest.mark.parametrize("backbone", ["vgg11", "squeezenet1_1"])
@torch.no_grad()
def test_logits_are_linear_in_each_score_layer(backbone, geometry):
    fcn = random("fcn8s", backbone, geometry=geometry).double()
    x = torch.rand(1, 3, 70, 97, dtype=torch.float64)
    scores = [f"score_{skip.stage}" for skip in fcn.skips] + ["score_fr"]
    for name in scores:
        layer = fcn.get_submodule(name)
        first, second = torch.randn_like(layer.weight), torch.randn_like(layer.weight)

        def logits(weight: Tensor, layer: nn.Conv2d = layer) -> Tensor:
            layer.weight.copy_(weight)
            return fcn(x)

        zero = logits(torch.zeros_like(first))
        one, two = logits(first) - zero, logits(second) - zero
        assert one.std() > 1e-3
        assert torch.allclose(logits(2 * first - second) - zero, 2 * one - two)


@torch.no_grad()
def test_a_skip_alone_is_its_enlarged_scores():
    fcn = random("fcn8s")
    x = torch.rand(1, 3, 64, 96)
    nn.init.zeros_(fcn.score_fr.weight)
    nn.init.zeros_(fcn.score_fr.bias)
    nn.init.zeros_(fcn.score_pool4.weight)
    nn.init.zeros_(fcn.score_pool4.bias)
    pool3 = fcn.features(x)["pool3"]
    assert torch.allclose(fcn(x), fcn.upscore8(fcn.score_pool3(pool3)), atol=1e-5)


# --- crops


@pytest.mark.parametrize("backbone", ["vgg11", "vgg13", "vgg16", "vgg19", "vgg16_bn"])
def test_crops_of_the_paper_follow(backbone):
    crops = {}
    for name in ("fcn32s", "fcn16s", "fcn8s", "fcn8s_atonce"):
        fcn = tiny(name, backbone, geometry="paper", width=0.02)
        assert all(skip.rows == 0 for skip in fcn.skips)  # only the finer map is cropped
        crops[name] = [*(skip.finer_rows for skip in fcn.skips), fcn.last_rows]
    assert crops["fcn32s"] == [19]
    assert crops["fcn16s"] == [5, 27]
    assert crops["fcn8s"] == crops["fcn8s_atonce"] == [5, 9, 31]


@each_name
@pytest.mark.parametrize("backbone", ["vgg16", "squeezenet1_1"])
def test_nothing_to_crop_in_the_other_geometry(name, backbone):
    fcn = tiny(name, backbone, width=0.02)
    assert fcn.last_rows == 0
    assert all(skip.rows == skip.finer_rows == 0 for skip in fcn.skips)


def test_the_source_contains_none_of_these_numbers():
    numbers = set()
    for path in Path(fcnlib.models.__file__).parent.glob("*.py"):
        with path.open("rb") as file:
            tokens = list(tokenize.tokenize(file.readline))
        numbers |= {token.string for token in tokens if token.type == tokenize.NUMBER}
    assert "100" in numbers  # so they are found
    assert not numbers & {"404", "212", "19", "5", "27", "9", "31"}


# --- alignment


def blot(height: int, width: int, top: int, left: int, size: int = 24) -> Tensor:
    """A picture of a few random pixels on zeros."""
    torch.manual_seed(2)
    x = torch.zeros(1, 3, height, width)
    x[..., top : top + size, left : left + size] = torch.randn(3, size, size)
    return x


def without_biases(network: nn.Module) -> nn.Module:
    """Of zeros, zeros: then nothing comes from beyond the border."""
    network.normalize = nn.Identity()
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.ConvTranspose2d) and module.bias is not None:
            nn.init.zeros_(module.bias)
        if isinstance(module, nn.BatchNorm2d):
            nn.init.zeros_(module.bias)
            nn.init.zeros_(module.running_mean)
    return network


ALIGNED = [  # name, backbone, geometry, stride of the coarsest map, reach
    *((name, "vgg11", geometry, 32) for name in SCORES for geometry in ("same", "paper")),
    ("fcn8s", "squeezenet1_1", "same", 16),
    ("fcn8s", "squeezenet1_1", "paper", 16),
    ("fcn16s", "squeezenet1_1", "same", 16),
    ("fcn8s", "squeezenet1_1_fc6", "same", 16),
    ("fcn8s", "squeezenet1_1_fc6", "paper", 16),
    ("fcn_decoder", "vgg11", "same", 32),
    ("fcn_resnet18", None, "same", 32),
    ("fcn_resnet50", None, "same", 8),
]


@pytest.mark.parametrize(("name", "backbone", "geometry", "stride"), ALIGNED)
@pytest.mark.parametrize("axis", [2, 3])
@torch.no_grad()
def test_a_shifted_picture_shifts_the_logits(name, backbone, geometry, stride, axis):
    """By the stride of the coarsest map, on a picture so long that the borders are far away."""
    network = without_biases(random(name, backbone, geometry=geometry))
    x = blot(1024, 32, 500, 4)
    if axis == 3:
        x = x.mT
    logits, shifted = network(x), network(x.roll(stride, axis))
    spread = logits.std()
    assert spread > 0
    assert (shifted - logits.roll(stride, axis)).abs().max() < 1e-4 * spread
    assert (shifted - logits.roll(stride - 1, axis)).abs().max() > spread / 100


@pytest.mark.slow
@each_name
@pytest.mark.parametrize(
    ("backbone", "stride"), [("vgg11", 32), ("squeezenet1_1", 16), ("squeezenet1_1_fc6", 16)]
)
@torch.no_grad()
def test_both_geometries_look_at_the_same_place(name, backbone, stride):
    """They divide the picture into cells alike, but the paper's pad is no multiple of the stride.

    Shift the picture by what is left over, and the logits follow.
    """
    same, paper = (
        without_biases(random(name, backbone, geometry=geometry)).double()
        for geometry in ("same", "paper")
    )
    more = 100 - same.get_submodule("conv1_1" if backbone == "vgg11" else "conv1").padding[0]
    x, left = blot(1024, 1024, 500, 480).double(), (more % stride, more % stride)
    found, expected = same(x.roll(left, (2, 3))), paper(x).roll(left, (2, 3))
    spread = expected.std()
    assert spread > 0
    assert (found - expected).abs().max() < 1e-9 * spread


FLIPPED = [  # backbone, geometry, sizes at which the cells lie symmetrically in the picture
    ("vgg11", "same", (32, 96, 224)),
    ("vgg11_bn", "same", (32, 96)),
    ("vgg11", "paper", (26, 58, 122)),  # with 198 more, a multiple of 32
    ("squeezenet1_1", "same", (31, 47, 111)),  # each 3x3 layer ends exactly at the border
    ("squeezenet1_1", "paper", (7, 39, 103)),  # with 200 more, one less than a multiple of 16
    ("squeezenet1_1_fc6", "same", (31, 47, 111)),
    ("squeezenet1_1_fc6", "paper", (23, 39, 103)),  # not 7: fc6 sees what PadEnd adds there
]


@each_name
@pytest.mark.parametrize(("backbone", "geometry", "sizes"), FLIPPED)
@torch.no_grad()
def test_a_flipped_picture_flips_the_logits(name, backbone, geometry, sizes):
    """With symmetric kernels: so no map lies to one side."""
    fcn = random(name, backbone, geometry=geometry)
    for module in fcn.modules():
        if isinstance(module, nn.Conv2d):
            weight = module.weight
            weight.copy_((weight + weight.flip(2) + weight.flip(3) + weight.flip(2, 3)) / 4)
    for height, width in zip(sizes, sizes[::-1], strict=True):
        x = torch.rand(1, 3, height, width)
        logits = fcn(x)
        for axes in ((2,), (3,)):
            error = (fcn(x.flip(axes)) - logits.flip(axes)).abs().max()
            assert error < 1e-4 * logits.std()


# --- a finer network starts from a coarser one


@each_geometry
@pytest.mark.parametrize("backbone", ["vgg11_bn", "squeezenet1_1"])
@torch.no_grad()
def test_from_coarse_to_fine(backbone, geometry):
    coarse, middle, fine = (
        tiny(name, backbone, geometry=geometry) for name in ("fcn32s", "fcn16s", "fcn8s")
    )
    randomise(coarse).normalize = Normalize(CAFFE)
    assert init_from(middle, coarse) is middle
    check_copied(middle, coarse, 0)
    nn.init.normal_(middle.get_submodule(f"score_{middle.skips[0].stage}").weight)
    assert init_from(fine, middle) is fine
    check_copied(fine, middle, 1)


def check_copied(fine: FCN, coarse: FCN, skip: int) -> None:
    numbers, expected = fine.state_dict(), coarse.state_dict()
    new = f"score_{fine.skips[skip].stage}."
    for name, found in numbers.items():
        if name.startswith(new):
            assert not found.any()
        elif name in expected:
            assert torch.equal(found, expected[name])
            assert found is not expected[name]
        else:
            assert name.startswith("upscore")
    missing = set(expected) - set(numbers)
    assert missing == {f"{coarse.last_upsampling}.weight"}
    assert fine.normalize.normalization == CAFFE


@torch.no_grad()
def test_zero_skips_leave_the_prediction_nearly_unchanged():
    coarse = random("fcn32s")
    fine = init_from(tiny("fcn16s"), coarse).eval()
    x = torch.rand(1, 3, 160, 160)
    before, after = coarse(x), fine(x)
    inside = (..., slice(32, -32), slice(32, -32))
    difference = (before - after)[inside].std() / before[inside].std()
    assert 0 < difference < 1 / 4  # 2 x 16 is not 32 times


def test_learned_upsampling_is_copied():
    coarse = tiny("fcn16s", upsampling="learned")
    nn.init.normal_(coarse.upscore2.weight)
    fine = init_from(tiny("fcn8s", upsampling="learned"), coarse)
    assert torch.equal(fine.upscore2.weight, coarse.upscore2.weight)
    assert fine.upscore2.weight.requires_grad


@pytest.mark.parametrize(
    ("model", "source", "words"),
    [
        (
            ("fcn16s", 4, "vgg11"),
            ("fcn32s", 3, "vgg11"),
            r"score_fr.weight, .* is \(4, 205, 1, 1\)",
        ),
        (
            ("fcn16s", 3, "vgg11_bn"),
            ("fcn32s", 3, "vgg11"),
            "bn1_1.weight is missing in the source",
        ),
        (("fcn16s", 3, "vgg11"), ("fcn32s", 3, "vgg11_bn"), "bn1_1.weight.* missing in the model"),
        (("fcn16s", 3, "vgg13"), ("fcn32s", 3, "vgg11"), "conv1_2.weight is missing in the source"),
        (("fcn16s", 3, "vgg11"), ("fcn32s", 3, "vgg13"), "conv1_2.weight.* missing in the model"),
        (("fcn16s", 3, "squeezenet1_1"), ("fcn32s", 3, "vgg11"), "is missing in the model"),
        (("fcn32s", 3, "vgg11"), ("fcn16s", 3, "vgg11"), "score_pool4.weight.* missing in the mod"),
        (("fcn16s", 3, "vgg11"), ("fcn8s", 3, "vgg11"), "score_pool3.weight.* missing in the mod"),
        (("fcn8s", 3, "vgg11"), ("fcn8s_atonce", 3, "vgg11"), "multiplies pool4 by 1, .* by 0.01"),
        (("fcn8s_atonce", 3, "vgg11"), ("fcn16s", 3, "vgg11"), "multiplies pool4 by 0.01, .* by 1"),
    ],
)
def test_another_network_is_no_start(model, source, words):
    model, source = build_model(*model, width=0.05), build_model(*source, width=0.05)
    source.normalize = Normalize(CAFFE)
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with pytest.raises(WeightsError, match=words) as error:
        init_from(model, source)
    sentence = str(error.value)
    assert sentence.startswith("The model cannot start from this source: ")
    assert "\n" not in sentence
    assert all(torch.equal(before[name], new) for name, new in model.state_dict().items())
    assert model.normalize.normalization == TORCHVISION


def test_fcn_of_a_classifier_by_hand():
    with pytest.raises(ValueError, match=r"geometry must be 'paper' or 'same', not 'valid'"):
        FCN(VGG("vgg11", width=0.03), geometry="valid")
    with pytest.raises(ValueError, match=r"upsampling must be .*, not 'nearest'"):
        FCN(VGG("vgg11", width=0.03), upsampling="nearest")


# --- how the numbers lie in memory


@pytest.mark.parametrize(
    ("name", "backbone"),
    [("fcn8s", "vgg11"), ("fcn8s", "squeezenet1_1"), ("fcn_decoder", "vgg11_bn")],
)
def test_the_body_computes_in_channels_last_where_nothing_asks_for_gradients(name, backbone):
    torch.manual_seed(0)
    network = randomise(build_model(name, 3, backbone, width=0.25)).eval()
    x = torch.rand(2, 3, 97, 131)
    with_gradients = network(x)

    last = {}
    for key, layer in network.named_modules():
        if isinstance(layer, nn.MaxPool2d) or key == "fc6":
            layer.register_forward_hook(
                lambda _, inputs, __, key=key: last.update(
                    {key: inputs[0].is_contiguous(memory_format=torch.channels_last)}
                )
            )
    with torch.no_grad():
        alone = network(x)
    assert last and last.pop("fc6", False) is False
    assert all(last.values())
    largest = with_gradients.abs().max().item()
    torch.testing.assert_close(alone, with_gradients, rtol=0, atol=1e-5 * largest)

    last.clear()
    network(x)
    assert last and not any(last.values())
