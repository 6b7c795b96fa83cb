"""The classifiers that the course hands out are the files that their facts describe."""

import hashlib
import json

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from fcnlib.course import pretrain
from fcnlib.data import SHAPE_CLASSES
from fcnlib.models import build_model

HANDED_OUT = ("vgg11_bn", "resnet18")


@pytest.mark.parametrize("backbone", HANDED_OUT)
def test_a_classifier_is_as_good_as_its_facts_say(backbone):
    path = pretrain.classifier_file(backbone)
    facts = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    assert hashlib.sha256(path.read_bytes()).hexdigest() == facts["sha256"]
    assert tuple(facts["classes"]) == SHAPE_CLASSES
    assert path.stat().st_size < 5e6
    network = pretrain.new_classifier(backbone)
    network.load_state_dict(load_file(path))
    measured = pretrain.accuracy(network)
    assert measured > 0.95 and abs(measured - facts["validation_accuracy"]) < 0.005


@pytest.mark.parametrize(
    ("backbone", "name", "part"),
    [
        ("vgg13_bn", "fcn_decoder", "pretrained_net"),
        ("resnet18", "fcn_resnet18", "backbone"),
        ("resnet50", "fcn_resnet50", "backbone"),
    ],
)
def test_a_network_begins_with_its_classifiers_layers(tmp_path, backbone, name, part):
    torch.manual_seed(1)
    classifier = pretrain.new_classifier(backbone)
    torch.save(classifier.state_dict(), tmp_path / "weights.pth")
    network = build_model(name, 8, backbone, tmp_path / "weights.pth", width=pretrain.WIDTH)
    body = network.get_submodule(part)
    assert isinstance(body, nn.Module)
    expected = classifier.state_dict()
    for key, numbers in body.state_dict().items():
        assert torch.equal(numbers, expected[key]), key


def test_names_that_it_does_not_know_are_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["pretrain", "resnet18", "alexnet"])
    with pytest.raises(SystemExit):
        pretrain.main()
    assert "alexnet is none of vgg11, " in capsys.readouterr().err
