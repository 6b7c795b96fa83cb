"""Recipes: which parameter steps at which rate, and when."""

import copy

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW
from torchvision import tv_tensors

from fcnlib.losses import pixel_cross_entropy, sum_to_mean
from fcnlib.models import build_model
from fcnlib.recipes import RECIPES, set_rate

PAPER, MODERN = RECIPES["paper"], RECIPES["modern"]
NETWORKS = {
    # name of the case: (build_model's arguments, the layers that no classifier has)
    "fcn32s": (("fcn32s", 3, "vgg11"), {"score_fr"}),
    "fcn16s": (("fcn16s", 3, "vgg11_bn"), {"score_fr", "score_pool4"}),
    "fcn8s": (("fcn8s", 3, "squeezenet1_1"), {"score_fr", "score_fire5", "score_fire3"}),
    "fcn16s, fc6": (("fcn16s", 3, "squeezenet1_1_fc6"), {"score_fr", "score_fire5", "fc6"}),
    "fcn8s_atonce": (("fcn8s_atonce", 3, "vgg11"), {"score_fr", "score_pool4", "score_pool3"}),
    "fcn_decoder": (
        ("fcn_decoder", 3, "vgg11_bn"),
        {"classifier", *(f"{kind}{k}" for kind in ("deconv", "bn") for k in range(1, 6))},
    ),
    "fcn_resnet18": (("fcn_resnet18", 3), {"final_conv", "transpose_conv"}),
    "fcn_resnet50": (("fcn_resnet50", 3), {"classifier", "aux_classifier"}),
}
each_network = pytest.mark.parametrize("name", NETWORKS)


def build(name: str, **options: object) -> nn.Module:
    torch.manual_seed(0)
    return build_model(*NETWORKS[name][0], width=1 / 32, **options)


def rates(network: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, tuple[float, float]]:
    """The name of each parameter in the optimiser -> (rate, decay)."""
    names = {parameter: name for name, parameter in network.named_parameters()}
    found = [
        (names[parameter], (group["lr"], group["weight_decay"]))
        for group in optimizer.param_groups
        for parameter in group["params"]
    ]
    assert len(found) == len(dict(found))
    return dict(found)


def trainable(network: nn.Module) -> set[str]:
    return {name for name, parameter in network.named_parameters() if parameter.requires_grad}


# --- the paper's


@each_network
def test_paper_biases_step_at_twice_the_rate_and_do_not_decay(name):
    network = build(name)
    optimizer = PAPER.optimizer(network, 1e-10, 1.0)
    found = rates(network, optimizer)
    assert found.keys() == trainable(network)
    assert {key for key, (rate, _) in found.items() if rate == 2e-10} == {
        key for key in found if key.rpartition(".")[2] == "bias"
    }
    assert set(found.values()) == {(1e-10, 5e-4), (2e-10, 0.0)}
    assert type(optimizer) is SGD
    assert {group["momentum"] for group in optimizer.param_groups} == {0.99}


@pytest.mark.parametrize("upsampling", ["bilinear", "learned"])
@pytest.mark.parametrize("recipe", RECIPES.values(), ids=RECIPES)
def test_fixed_upsampling_is_no_parameter(recipe, upsampling):
    network = build("fcn8s", upsampling=upsampling)
    found = rates(network, recipe.optimizer(network, 1.0, 0.1))
    layers = {"upscore2.weight", "upscore_fire5.weight", "upscore4.weight"}
    assert layers <= dict(network.named_parameters()).keys()
    assert layers & found.keys() == (layers if upsampling == "learned" else set())


def test_paper_numbers():
    assert PAPER.lr_of_stage.get("fcn32s", PAPER.lr) == 1e-10
    assert PAPER.lr_of_stage["fcn16s"] == 1e-12
    assert PAPER.lr_of_stage["fcn8s"] == 1e-14
    assert (PAPER.batch_size, PAPER.crop, PAPER.reduction) == (1, 0, "sum")
    assert {PAPER.schedule(done) for done in (0.0, 0.01, 0.5, 1.0)} == {1.0}


def test_paper_pictures_keep_their_size_and_pixels():
    image = tv_tensors.Image(torch.randint(256, (3, 37, 53), dtype=torch.uint8))
    labels = tv_tensors.Mask(torch.randint(3, (37, 53), dtype=torch.uint8))
    shown, mask = PAPER.transforms(0, (0.5, 2.0))(image, labels)
    torch.testing.assert_close(
        shown.as_subclass(torch.Tensor), image.as_subclass(torch.Tensor) / 255
    )
    assert torch.equal(mask, labels.long())


def test_modern_pictures_are_cut_to_the_crop():
    image = tv_tensors.Image(torch.zeros(3, 37, 53, dtype=torch.uint8))
    labels = tv_tensors.Mask(torch.zeros(37, 53, dtype=torch.uint8))
    shown, mask = MODERN.transforms(48, (0.5, 0.5))(image, labels)
    assert (shown.shape, mask.shape) == ((3, 48, 48), (48, 48))
    # Half the size: 18 or 19 x 26 or 27 pixels are left of it.
    assert 18 * 26 <= (mask == 0).sum() <= 19 * 27
    assert (MODERN.batch_size, MODERN.crop, MODERN.reduction) == (8, 320, "mean")


def test_a_step_on_the_sum_is_a_step_on_the_mean_at_the_rate_of_sum_to_mean():
    torch.manual_seed(1)
    images, labels = torch.rand(1, 3, 40, 48).double(), torch.randint(3, (1, 40, 48))
    labels[:, :10] = 255
    lr, pixels = 1e-4, 30 * 48
    of_sum = build("fcn8s").double().eval()  # eval: without dropout
    nn.init.normal_(of_sum.score_fr.weight)
    of_mean = copy.deepcopy(of_sum)
    mean_lr, mean_decay = sum_to_mean(lr, 5e-4, pixels)
    sum_steps = PAPER.optimizer(of_sum, lr, 1.0)
    mean_steps = PAPER.optimizer(of_mean, mean_lr, 1.0)
    mean_steps.param_groups[0]["weight_decay"] = mean_decay
    before = copy.deepcopy(of_sum.state_dict())
    for network, optimizer, reduction in (
        (of_sum, sum_steps, "sum"),
        (of_mean, mean_steps, "mean"),
    ):
        for _ in range(2):  # the second with momentum
            optimizer.zero_grad()
            pixel_cross_entropy(network(images), labels, reduction).backward()
            optimizer.step()
    for name, numbers in of_sum.state_dict().items():
        torch.testing.assert_close(numbers, of_mean.state_dict()[name], rtol=1e-9, atol=1e-12)
    assert not torch.equal(of_sum.conv1.weight, before["conv1.weight"])


# --- the modern one


@each_network
def test_modern_pretrained_layers_step_at_the_smaller_rate(name):
    network = build(name)
    optimizer = MODERN.optimizer(network, 1e-3, 0.1)
    found = rates(network, optimizer)
    assert found.keys() == trainable(network)
    fast = {key.partition(".")[0] for key, (rate, _) in found.items() if rate == 1e-3}
    slow = {key.partition(".")[0] for key, (rate, _) in found.items() if rate == 1e-4}
    # Fixed upsampling of d2l's has a bias, which is trained.
    assert fast == NETWORKS[name][1]
    assert slow and not slow & fast
    assert {rate for rate, _ in found.values()} == {1e-3, 1e-4}
    assert {decay for _, decay in found.values()} == {0.01}
    assert type(optimizer) is AdamW


def test_modern_all_layers_step_alike_where_none_is_pretrained():
    network = build("fcn8s")
    assert {rate for rate, _ in rates(network, MODERN.optimizer(network, 1e-3, 1.0)).values()} == {
        1e-3
    }


def test_modern_rate_warms_up_then_falls():
    rate = MODERN.schedule
    assert rate(0.0) == 0
    assert rate(0.025) == pytest.approx(0.5)
    assert rate(0.05) == pytest.approx(1)
    assert rate(0.525) == pytest.approx(0.5**0.9)
    assert rate(1.0) == 0
    shares = torch.linspace(0, 1, 201).tolist()
    factors = [rate(share) for share in shares]
    assert max(factors) <= 1
    assert factors[:11] == sorted(factors[:11])
    assert factors[10:] == sorted(factors[10:], reverse=True)


def test_set_rate_is_a_factor_of_the_rate_at_the_beginning():
    network = build("fcn8s")
    optimizer = MODERN.optimizer(network, 1e-3, 0.1)
    for factor in (0.5, 1.0, 0.25):
        set_rate(optimizer, factor)
        assert [group["lr"] for group in optimizer.param_groups] == [1e-4 * factor, 1e-3 * factor]
    # Also for an optimiser that was stored and goes on.
    again = MODERN.optimizer(network, 1e-3, 0.1)
    again.load_state_dict(optimizer.state_dict())
    set_rate(again, 1.0)
    assert [group["lr"] for group in again.param_groups] == [1e-4, 1e-3]
