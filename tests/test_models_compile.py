"""torch.compile, torch.export and autocast: what users put around a network."""

import pytest
import torch
import torch.fx.experimental._config as symbolic_shapes
from reference_networks import randomise
from torch import Tensor, nn

from fcnlib.models import build_model

NETWORKS = [
    ("fcn32s", "vgg11_bn", "paper"),
    ("fcn16s", "vgg11", "same"),
    ("fcn8s", "vgg11", "same"),
    ("fcn8s", "vgg11", "paper"),
    ("fcn8s", "squeezenet1_1", "same"),
    ("fcn8s", "squeezenet1_1_fc6", "same"),
    ("fcn8s_atonce", "vgg11", "same"),
    ("fcn_decoder", "vgg11_bn", "same"),
    ("fcn_resnet18", None, "same"),
    ("fcn_resnet50", None, "same"),
]
each_network = pytest.mark.parametrize(("name", "backbone", "geometry"), NETWORKS)


def tiny(name: str, backbone: str | None, geometry: str, width: float = 0.05) -> nn.Module:
    torch.manual_seed(0)
    return randomise(build_model(name, 4, backbone, geometry=geometry, width=width))


def pictures(height: int = 65, width: int = 79) -> Tensor:
    torch.manual_seed(1)
    return torch.rand(2, 3, height, width)


def check_close(found: Tensor, expected: Tensor, tolerance: float = 1e-5) -> None:
    assert found.shape == expected.shape
    assert (found - expected).abs().max() <= tolerance * expected.std()


@pytest.fixture
def fresh_compiler():
    torch.compiler.reset()
    yield
    torch.compiler.reset()


# --- compile


@pytest.mark.slow
@each_network
def test_compiles_as_one_graph(name, backbone, geometry, fresh_compiler):
    network, x = tiny(name, backbone, geometry), pictures()
    compiled = torch.compile(network, backend="eager", fullgraph=True, dynamic=False)
    with torch.no_grad():
        check_close(compiled(x), network(x))
    network.train()
    torch.manual_seed(2)
    expected = network(x)
    torch.manual_seed(2)
    found = compiled(x)
    check_close(found, expected, 1e-4)
    found.square().mean().backward()
    assert all(
        parameter.grad is not None and parameter.grad.isfinite().all()
        for parameter_name, parameter in network.named_parameters()
        if parameter.requires_grad and not parameter_name.startswith("aux_classifier")
    )


@pytest.mark.slow
def test_compiles_with_inductor(fresh_compiler):
    network, x = tiny("fcn32s", "vgg11", "same"), pictures()
    with torch.no_grad():
        check_close(torch.compile(network, fullgraph=True, dynamic=False)(x), network(x), 1e-4)


@pytest.mark.slow
def test_compiled_networks_refuse_as_others_do(fresh_compiler):
    network = tiny("fcn_resnet18", None, "same").train()
    compiled = torch.compile(network, backend="eager", dynamic=False)
    with pytest.raises(ValueError, match="BatchNorm needs more than one value"):
        compiled(pictures(16, 16)[:1])


# --- export


@pytest.mark.slow
@each_network
@torch.no_grad()
def test_exports_with_any_height_and_width(name, backbone, geometry):
    """In contiguous format and with sizes of 1 not set apart.

    Otherwise PyTorch asks on the way how maps lie in memory, which depends on whether a side
    is 1 or a crop cuts nothing, and the program refuses pictures that would answer it otherwise.
    """
    network = tiny(name, backbone, geometry)
    dynamic = torch.export.Dim.DYNAMIC
    with symbolic_shapes.patch(backed_size_oblivious=True):
        exported = torch.export.export(
            network, (pictures(),), dynamic_shapes=({2: dynamic, 3: dynamic},)
        )
    program = exported.module()
    for size in ((1, 1), (2, 3), (16, 17), (33, 40), (64, 64), (65, 79), (97, 131), (50, 224)):
        check_close(program(x := pictures(*size)), network(x))


# --- autocast


@each_network
@torch.no_grad()
def test_bf16_autocast(name, backbone, geometry):
    network, x = tiny(name, backbone, geometry, width=0.1), pictures()
    expected = network(x)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = network(x)
    # The decoder ends with a convolution, all others with the upsampling.
    assert found.dtype == (torch.bfloat16 if name == "fcn_decoder" else torch.float32)
    assert not torch.equal(found, expected)  # so autocast is on
    difference = found - expected
    assert difference.std() < 0.03 * expected.std()
    assert difference.abs().max() < 0.3 * expected.std()


@pytest.mark.parametrize("name", ["fcn8s", "fcn_resnet18", "fcn_resnet50"])
@torch.no_grad()
def test_upsampling_under_autocast_is_that_of_fp32(name):
    """The last layer adds no rounding: its answer takes more values than bf16 has."""
    network = tiny(name, None if "resnet" in name else "vgg11", "same")
    with torch.autocast("cpu", dtype=torch.bfloat16):
        logits = network(pictures())
    assert (logits != logits.bfloat16()).float().mean() > 0.9


@pytest.mark.parametrize(("name", "backbone", "geometry"), NETWORKS[2:])
def test_on_the_meta_device(name, backbone, geometry):
    """Where PyTorch computes shapes alone, such as to count operations."""
    with torch.device("meta"):
        network = build_model(name, 4, backbone, geometry=geometry)
        assert network(torch.empty(2, 3, 97, 131)).shape == (2, 4, 97, 131)
