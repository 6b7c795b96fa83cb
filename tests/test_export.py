"""ONNX files: the same numbers as PyTorch at any size, whole or not at all."""

import json
import logging
import sys
import warnings

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from reference_networks import randomise
from torch import Tensor, nn

from fcnlib import export
from fcnlib.errors import UserError
from fcnlib.export import CHECKED, EXAMPLE, export_onnx
from fcnlib.models import build_model
from fcnlib.models.normalization import CAFFE, Normalize

SIZES = [  # pictures, height, width: none of those that export_onnx itself looks at
    (1, 1, 1),
    (1, 2, 3),
    (3, 16, 17),
    (1, 17, 18),
    (1, 5, 300),
    (2, 33, 40),
    (1, 375, 500),
    (1, 513, 513),
]
NETWORKS = [
    ("fcn16s", "vgg16_bn", "same"),
    ("fcn8s", "vgg11", "same"),
    ("fcn8s", "vgg16_bn", "paper"),
    ("fcn8s_atonce", "vgg11", "paper"),
    ("fcn_decoder", "vgg11_bn", "same"),
    ("fcn_resnet18", None, "same"),
    ("fcn_resnet50", None, "same"),
    ("fcn8s", "squeezenet1_1", "same"),
    ("fcn32s", "squeezenet1_1", "paper"),
    ("fcn32s", "vgg11", "paper"),
    ("fcn32s", "vgg11", "same"),
    ("fcn16s", "vgg11", "paper"),
    ("fcn16s", "squeezenet1_1", "same"),
    ("fcn8s_atonce", "squeezenet1_1", "same"),
    ("fcn8s", "squeezenet1_1_fc6", "same"),
]


def narrow(name: str, backbone: str | None, geometry: str, **options: str) -> nn.Module:
    """A network in which every layer counts: the score layers would start at zero."""
    torch.manual_seed(0)
    width = 0.25 if backbone == "squeezenet1_1" else 1 / 16
    return randomise(
        build_model(name, 4, backbone, geometry=geometry, width=width, **options)
    ).eval()


class Small(nn.Module):
    """Stands for a network where the export itself is not in question."""

    def __init__(self) -> None:
        super().__init__()
        self.normalize = Normalize(CAFFE)
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.bn = nn.BatchNorm2d(4)

    def forward(self, x: Tensor) -> Tensor:
        return self.bn(self.conv(self.normalize(x)))


@pytest.fixture
def small() -> nn.Module:
    return randomise(Small())


CLASSES = ["background", "cat", "dog", "café"]


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    """The file of ``small``."""
    path = tmp_path_factory.mktemp("onnx") / "small.onnx"
    export_onnx(randomise(Small()), path, CLASSES)
    return path


def run(path, x: Tensor) -> Tensor:
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(None, {"image": x.numpy()})[0])


@torch.no_grad()
def check_file(path, network: nn.Module) -> None:
    for pictures, height, width in SIZES:
        x = torch.rand(pictures, 3, height, width)
        expected, found = network(x), run(path, x)
        assert found.shape == expected.shape and found.dtype == torch.float32
        assert expected.std() > 0
        assert (found - expected).abs().max() <= 1e-5 * expected.abs().max()


# --- the same numbers


def test_a_small_network(small, tmp_path, capfd, caplog):
    path = tmp_path / "small.onnx"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        difference = export_onnx(small, path)
    assert 0 < difference < 1e-3  # of logits of hundreds
    assert capfd.readouterr() == ("", "")
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]
    check_file(path, small)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "backbone", "geometry"), NETWORKS)
def test_every_network_at_any_size(name, backbone, geometry, tmp_path, capfd):
    network = narrow(name, backbone, geometry)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        export_onnx(network, path := tmp_path / "fcn.onnx")
    assert capfd.readouterr() == ("", "")
    check_file(path, network)


@pytest.mark.slow
def test_learned_upsampling_in_train_mode_and_channels_last(tmp_path):
    network = narrow("fcn16s", "vgg11_bn", "same", upsampling="learned")
    network = network.to(memory_format=torch.channels_last).train()
    export_onnx(network, path := tmp_path / "fcn.onnx")
    check_file(path, network.eval())


def test_what_the_function_looks_at_is_not_what_these_tests_look_at():
    assert not {shape[2:] for shape in (*CHECKED, EXAMPLE)} & {shape[1:] for shape in SIZES}


def test_returns_the_largest_difference(small, exported):
    """Here to a network that is not quite that of the file."""
    with torch.no_grad():
        small.bn.bias[2] += 1e-2
        largest = export._compare(small, exported)
    assert largest == pytest.approx(1e-2, rel=0.05)


# --- what is in the file


def test_names_shapes_classes_and_nothing_of_this_machine(exported):
    onnx.checker.check_model(exported, full_check=True)
    session = onnxruntime.InferenceSession(exported)
    (image,), (logits,) = session.get_inputs(), session.get_outputs()
    assert (image.name, image.type) == ("image", "tensor(float)")
    assert image.shape == ["batch", 3, "height", "width"]
    assert (logits.name, logits.type) == ("logits", "tensor(float)")
    assert logits.shape == ["batch", 4, "height", "width"]
    metadata = session.get_modelmeta().custom_metadata_map
    assert json.loads(metadata["classes"]) == CLASSES
    assert list(exported.parent.iterdir()) == [exported]  # no second file with the numbers
    contents = exported.read_bytes()
    assert not [
        mark for mark in (b".py", b"fcnlib/", b"site-packages", b"stack_trace") if mark in contents
    ]


def test_without_classes_there_is_no_metadata(small, tmp_path):
    export_onnx(small, str(tmp_path / "small.onnx"))
    assert not onnx.load(tmp_path / "small.onnx").metadata_props


def test_the_normalisation_is_in_the_file(small, exported):
    x = torch.rand(1, 3, 8, 9)
    with torch.no_grad():
        expected = small.bn(small.conv(255 * x.flip(1) - small.normalize.mean))
    np.testing.assert_allclose(run(exported, x), expected, rtol=1e-4, atol=1e-3)


# --- the model stays as it is


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64])
def test_the_model_stays_as_it_is(small, tmp_path, dtype):
    small = small.to(dtype, memory_format=torch.channels_last).train()
    small.bn.eval()  # frozen, as some train
    before = {name: numbers.clone() for name, numbers in small.state_dict().items()}
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    export_onnx(small, tmp_path / "small.onnx")
    assert torch.equal(torch.rand(1), expected)  # the state of the random numbers too
    assert small.training and small.conv.training and not small.bn.training
    assert small.conv.weight.is_contiguous(memory_format=torch.channels_last)
    for name, numbers in small.state_dict().items():
        assert numbers.dtype == before[name].dtype and torch.equal(numbers, before[name])
    assert all(parameter.requires_grad for parameter in small.parameters())


def test_what_is_switched_on_around_it_does_not_matter(small, tmp_path):
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu", dtype=torch.bfloat16):
            export_onnx(small, path := tmp_path / "small.onnx")
    finally:
        torch.set_default_dtype(torch.float32)
    check_file(path, small)


# --- refusals: one sentence, and no file


def refused(network: nn.Module, path, match: str, kind: type = UserError) -> None:
    """The export is refused, and the folder holds what it held."""
    before = {file: file.read_bytes() for file in path.parent.iterdir()}
    with pytest.raises(kind, match=match) as error:
        export_onnx(network, path, ["a", "b"] if kind is ValueError else ())
    assert "\n" not in str(error.value)
    assert {file: file.read_bytes() for file in path.parent.iterdir()} == before


@pytest.mark.parametrize("there", [False, True])
def test_a_file_that_deviates_is_not_written(small, tmp_path, monkeypatch, there):
    path = tmp_path / "small.onnx"
    if there:
        path.write_text("the old file")
    serialized = export._serialized

    def wrong(network, classes):
        contents = serialized(network, classes)
        with torch.no_grad():
            network.bn.bias += 1
        return contents

    monkeypatch.setattr(export, "_serialized", wrong)
    refused(small, path, r"differs from PyTorch by 1 .*so it was not written")


def test_nor_one_whose_logits_have_another_shape(small, tmp_path, monkeypatch):
    serialized = export._serialized

    def wrong(network, classes):
        contents = serialized(network, classes)
        network.conv.padding = (0, 0)
        return contents

    monkeypatch.setattr(export, "_serialized", wrong)
    refused(small, tmp_path / "small.onnx", "differs from PyTorch by inf")


def test_a_file_is_replaced_only_by_a_good_one(small, tmp_path):
    path = tmp_path / "small.onnx"
    path.write_text("the old file")
    export_onnx(small, path)
    check_file(path, small)


@pytest.mark.parametrize("package", ["onnx", "onnxscript", "onnxruntime"])
def test_a_missing_package(small, tmp_path, monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    refused(small, tmp_path / "small.onnx", f'{package}.*pip install "onnx>=.*" "onnxscript>=')


def test_a_path_that_cannot_be_written(small, tmp_path, monkeypatch):
    with pytest.raises(UserError, match=r"nothere.small.onnx cannot be written: No such file"):
        export_onnx(small, tmp_path / "nothere" / "small.onnx")
    with pytest.raises(UserError, match="is a folder: name a file in it"):
        export_onnx(small, tmp_path)
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="cannot be written: Not a directory"):
        export_onnx(small, tmp_path / "file" / "small.onnx")

    def full(path, contents):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(export.Path, "write_bytes", full)
    refused(small, tmp_path / "small.onnx", "cannot be written: No space left on device")


def test_weights_that_are_not_numbers(small, tmp_path):
    with torch.no_grad():
        small.conv.weight[0, 0, 0, 0] = float("nan")
    refused(small, tmp_path / "small.onnx", "not finite")


def test_a_network_of_2_gb(tmp_path, monkeypatch, small):
    monkeypatch.setattr(export, "LARGEST", 100)
    refused(small, tmp_path / "small.onnx", "export a narrower one")


def test_class_names_must_be_as_many_as_classes(small, tmp_path):
    refused(small, tmp_path / "small.onnx", "2 names, but the network has 4", ValueError)


def test_what_pytorch_cannot_export(tmp_path):
    class Undecided(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return x if x.sum() > 0 else -x

    refused(Undecided(), tmp_path / "small.onnx", "cannot export this network")
