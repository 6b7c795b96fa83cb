"""Checkpoints: what is stored comes back, what is damaged is refused, no code is run."""

import json
import os
import pickle
import shutil
from collections.abc import Callable
from dataclasses import replace
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from training_cases import check_sentence, make_data, tiny

from fcnlib import checkpoint as checkpoints
from fcnlib.checkpoint import (
    FACTS,
    OPTIMIZER,
    WEIGHTS,
    Checkpoint,
    Classes,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from fcnlib.cli import main
from fcnlib.data import voc_colormap
from fcnlib.errors import CheckpointError, DataError
from fcnlib.losses import segmentation_loss
from fcnlib.models import CAFFE, TORCHVISION, Normalize, build_model
from fcnlib.recipes import RECIPES
from fcnlib.training import train

NETWORKS = {
    "fcn32s": {"backbone": "vgg11", "geometry": "paper"},
    "fcn16s": {"backbone": "vgg11_bn", "upsampling": "learned"},
    "fcn8s": {"backbone": "squeezenet1_1"},
    "fcn8s_atonce": {"backbone": "vgg11", "fc6_size": 1},
    "fcn_decoder": {"backbone": "vgg11_bn"},
    "fcn_resnet18": {"upsampling": "learned"},
    "fcn_resnet50": {},
}
CLASSES = Classes(("cat", "ground", "dog"), (8, 0, 12))


def stored(run: Path, name: str = "fcn8s", epoch: int = 1, **options: Any) -> nn.Module:
    """Store a network that a step was taken with; return it."""
    torch.manual_seed(0)
    given = {"width": 1 / 16} | NETWORKS[name] | options
    network = build_model(name, 3, **given)
    optimizer = RECIPES["modern"].optimizer(network, 1e-2, 0.1)
    images, labels = torch.rand(2, 3, 40, 48), torch.randint(3, (2, 40, 48))
    segmentation_loss(network(images), labels).backward()
    optimizer.step()
    run.mkdir(exist_ok=True)
    model = {"name": name, "num_classes": 3, **given}
    model.pop("fc6_size", None)  # as in a run: the weights tell it
    facts = Checkpoint(model, CLASSES, epoch, {"mean_iou": 0.5}, {"data": "d"})
    assert save_checkpoint(run, facts, network, optimizer) == run / f"epoch-{epoch:04}"
    return network


@pytest.fixture(scope="module")
def checkpoint_folder(tmp_path_factory):
    stored(folder := tmp_path_factory.mktemp("stored") / "run")
    return folder


@pytest.fixture
def run(checkpoint_folder, tmp_path):
    return shutil.copytree(checkpoint_folder, tmp_path / "run")


# --- what is stored comes back


@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_comes_back_bit_for_bit(tmp_path, name):
    network = stored(tmp_path / "run", name).eval()
    again = load_checkpoint(tmp_path / "run").network().eval()
    assert not hasattr(again, "fc6") or again.fc6.kernel_size == network.fc6.kernel_size
    images = torch.rand(1, 3, 37, 53)
    with torch.no_grad():
        expected = network(images)
        assert expected.abs().max() > 0
        assert torch.equal(again(images), expected)
    assert again.state_dict().keys() == network.state_dict().keys()


@pytest.mark.parametrize("normalization", [CAFFE, replace(TORCHVISION, scale=0.1)])
def test_the_normalisation_comes_back(tmp_path, normalization):
    network = build_model("fcn32s", 3, "squeezenet1_1", width=0.1)
    network.normalize = Normalize(normalization)
    network.score_fr.weight.data.normal_()
    model = {"name": "fcn32s", "num_classes": 3, "backbone": "squeezenet1_1", "width": 0.1}
    save_checkpoint(
        tmp_path, Checkpoint(model, CLASSES), network, torch.optim.SGD([network.score_fr.bias])
    )
    again = load_checkpoint(tmp_path).network()
    assert again.normalize.normalization == normalization
    images = torch.rand(1, 3, 20, 20)
    assert torch.equal(again.eval()(images), network.eval()(images))


def test_the_facts_come_back(run):
    found = load_checkpoint(run)
    assert found.classes == CLASSES
    assert (found.epoch, found.scores, found.settings) == (1, {"mean_iou": 0.5}, {"data": "d"})
    assert found.folder == run / "epoch-0001"
    assert load_checkpoint(run / "epoch-0001") == found
    facts = json.loads((found.folder / FACTS).read_text())
    assert facts["versions"]["torch"] == metadata.version("torch")
    assert {"python", "fcnlib", "torchvision", "numpy"} <= facts["versions"].keys()
    assert facts["git"].keys() <= {"commit", "changed"}


def test_classes_have_the_colours_of_their_numbers():
    assert CLASSES.colors == tuple(tuple(voc_colormap()[number].tolist()) for number in (8, 0, 12))
    assert CLASSES.palette()[8].tolist() == [64, 0, 0]
    labels = torch.tensor([[0, 1, 2, 255]])
    assert CLASSES.in_masks(labels).tolist() == [[8, 0, 12, 255]]
    own = Classes(("a", "b"), (5, 3), ((1, 2, 3), (4, 5, 6)))
    assert own.palette()[[5, 3]].tolist() == [[1, 2, 3], [4, 5, 6]]
    assert own.palette()[4].tolist() == voc_colormap()[4].tolist()


def test_some_classes_are_chosen_by_name():
    assert CLASSES.choose(None) == (CLASSES, None)
    chosen, positions = CLASSES.choose(("dog", "cat"))
    assert positions == (2, 0)
    assert (chosen.names, chosen.numbers) == (("dog", "cat"), (12, 8))
    assert chosen.colors == (CLASSES.colors[2], CLASSES.colors[0])
    with pytest.raises(DataError) as error:
        CLASSES.choose(("cow",))
    check_sentence(error.value, "The checkpoint has no class 'cow'", "cat, ground, dog")


def test_the_optimiser_comes_back(tmp_path):
    network = build_model("fcn8s", 3, "squeezenet1_1", width=0.1)
    optimizer = RECIPES["paper"].optimizer(network, 1e-3, 1.0)
    network(torch.rand(1, 3, 20, 20)).sum().backward()
    optimizer.step()
    save_checkpoint(tmp_path, Checkpoint({"num_classes": 3}, CLASSES), network, optimizer)
    state = load_checkpoint(tmp_path).optimizer_state()
    torch.testing.assert_close(state, optimizer.state_dict(), rtol=0, atol=0)


def test_weights_in_channels_last_are_stored_alike(tmp_path):
    torch.manual_seed(0)
    network = build_model("fcn_decoder", 3, "vgg11_bn", width=1 / 16)
    model = {"name": "fcn_decoder", "num_classes": 3, "backbone": "vgg11_bn", "width": 1 / 16}
    for name, memory_format in (("one", torch.contiguous_format), ("other", torch.channels_last)):
        network = network.to(memory_format=memory_format)
        (tmp_path / name).mkdir()
        optimizer = RECIPES["modern"].optimizer(network, 1e-2, 0.1)
        save_checkpoint(tmp_path / name, Checkpoint(model, CLASSES), network, optimizer)
    found = [(tmp_path / name / "epoch-0000" / WEIGHTS).read_bytes() for name in ("one", "other")]
    assert found[0] == found[1]
    assert load_checkpoint(tmp_path / "other").network()


# --- one after the other


def test_older_ones_go_when_the_new_one_is_there(run, monkeypatch):
    whole = shutil.rmtree

    def deleting(path: Path, **options: bool) -> None:
        if path.name == "epoch-0001":  # then the new one is whole
            assert {file.name for file in (run / "epoch-0002").iterdir()} == {
                WEIGHTS, FACTS, OPTIMIZER,
            }  # fmt: skip
            deleted.append(path.name)
        whole(path, **options)

    deleted: list[str] = []
    monkeypatch.setattr(checkpoints.shutil, "rmtree", deleting)
    stored(run, epoch=2)
    assert deleted == ["epoch-0001"]
    assert [path.name for path in run.iterdir()] == ["epoch-0002"]


def test_the_newest_is_found_and_copies_are_left_alone(run):
    for name in ("epoch-0001 (copy)", "epoch-0003-best", "epoch-best"):
        shutil.copytree(run / "epoch-0001", run / name)
    (run / "epoch-0004").write_text("a file")
    assert find_checkpoint(run) == run / "epoch-0001"
    stored(run, epoch=9999)
    stored(run, epoch=10000)
    shutil.copytree(run / "epoch-10000", run / "epoch-9999")
    assert find_checkpoint(run) == run / "epoch-10000"
    assert {path.name for path in run.iterdir()} == {
        "epoch-0001 (copy)", "epoch-0003-best", "epoch-best", "epoch-0004", "epoch-9999",
        "epoch-10000",
    }  # fmt: skip


def test_what_a_break_left_half_written_is_replaced(run):
    (run / ".epoch-0002").mkdir()
    (run / ".epoch-0002" / "rest").write_text("half")
    assert find_checkpoint(run) == run / "epoch-0001"
    stored(run, epoch=2)
    assert [path.name for path in run.iterdir()] == ["epoch-0002"]
    assert len(list((run / "epoch-0002").iterdir())) == 3


def test_a_training_that_goes_on_replaces_a_checkpoint_that_is_read(run):
    found = load_checkpoint(run)
    stored(run, epoch=2)
    with pytest.raises(CheckpointError) as error:
        found.network()
    check_sentence(error.value, run / "epoch-0001", "is gone", "the same command again")
    load_checkpoint(run).network()


def test_no_folder_and_no_checkpoint(tmp_path):
    assert find_checkpoint(tmp_path / "none") is None
    for path in (tmp_path, tmp_path / "none"):
        with pytest.raises(CheckpointError) as error:
            load_checkpoint(path)
        check_sentence(error.value, path, "holds no checkpoint", "fcn train")


# --- what is damaged, foreign or hostile


class Hostile:
    """Unpickled, it makes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return open, (str(self.path), "w")


def use(run: Path) -> None:
    checkpoint = load_checkpoint(run)
    checkpoint.network()
    checkpoint.optimizer_state()


def refused(run: Path, *words: object) -> None:
    """What is there is refused in one sentence and stays as it is; so says the command."""
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    with pytest.raises(CheckpointError) as error:
        use(run)
    check_sentence(error.value, run / "epoch-0001", *words)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before


@pytest.mark.parametrize("part", [0, 1, 7, 60, 0.1, 0.5, 0.9, -2])
@pytest.mark.parametrize("name", [WEIGHTS, FACTS, OPTIMIZER])
def test_a_truncated_file(run, name, part):
    path = run / "epoch-0001" / name
    size = path.stat().st_size
    os.truncate(path, int(part * size) if 0 < part < 1 else part % size)
    refused(run, name)


@pytest.mark.parametrize("name", [WEIGHTS, FACTS, OPTIMIZER])
@pytest.mark.parametrize("instead", [None, "folder"])
def test_a_missing_file(run, name, instead):
    (run / "epoch-0001" / name).unlink()
    if instead:
        (run / "epoch-0001" / name).mkdir()
    refused(run, name)


@pytest.mark.parametrize("name", [WEIGHTS, OPTIMIZER])
@pytest.mark.parametrize("protocol", [0, 2, 5])
def test_a_pickle_is_never_run(run, tmp_path, name, protocol):
    hostile = pickle.dumps(Hostile(tmp_path / "made"), protocol=protocol)
    (run / "epoch-0001" / name).write_bytes(hostile)
    refused(run, name)
    torch.save({"state": Hostile(tmp_path / "made"), "param_groups": []}, run / "epoch-0001" / name)
    refused(run, name)
    assert not (tmp_path / "made").exists()
    pickle.loads(hostile).close()  # it could have done it
    assert (tmp_path / "made").exists()


def change(state: dict[str, torch.Tensor], how: str) -> None:
    match how:
        case "shape":
            state["score_fr.weight"] = state["score_fr.weight"][:2].clone()
        case "missing":
            del state["fire4.squeeze.bias"]
        case "extra":
            state["fire99.bias"] = torch.zeros(2)
        case "all other":
            state.clear()
            state["a"] = torch.zeros(2)
        case "empty":
            state.clear()


@pytest.mark.parametrize(
    ("how", "word"),
    [
        ("shape", "score_fr.weight"),
        ("missing", "fire4.squeeze.bias"),
        ("extra", "fire99.bias"),
        ("all other", WEIGHTS),
        ("empty", WEIGHTS),
    ],
)
def test_weights_that_do_not_fit(run, how, word):
    state = load_file(path := run / "epoch-0001" / WEIGHTS)
    change(state, how)
    save_file(state, path)
    with pytest.raises(CheckpointError) as error:
        use(run)
    assert str(path) in str(error.value) and word in str(error.value)
    assert "\n" not in str(error.value)


def setting(*keys: str, to: Any) -> Callable[[Any], None]:
    def change(facts: Any) -> None:
        for key in keys[:-1]:
            facts = facts[key]
        facts[keys[-1]] = to

    return change


OTHER_FACTS: dict[str, Callable[[Any], Any]] = {
    **{f"{key} = {to!r}": setting(key, to=to) for to in (None, 5, "no", [1], {"a": {}})
       for key in ("format", "model", "classes", "normalization")},
    **{f"{key} = {to!r}": setting(key, to=to) for to in (None, 5, "no", [1])
       for key in ("scores", "settings")},
    **{f"epoch = {to!r}": setting("epoch", to=to) for to in (None, "no", [], float("inf"))},
    **{f"without {key}": lambda facts, key=key: facts.pop(key) and None
       for key in ("format", "model", "classes", "normalization", "epoch", "scores", "settings")},
    "another format": setting("format", to=2),
    "another network": setting("model", "name", to="fcn16s"),
    "no network": setting("model", "name", to="fcn4s"),
    "name of a wrong type": setting("model", "name", to=["fcn8s"]),
    "backbone of a wrong type": setting("model", "backbone", to={"a": 1}),
    "more classes in the model": setting("model", "num_classes", to=4),
    "num_classes of a wrong type": setting("model", "num_classes", to="3"),
    "another width": setting("model", "width", to=0.1),
    "width of a wrong type": setting("model", "width", to="wide"),
    "no width": setting("model", "width", to=0),
    "width not finite": setting("model", "width", to=float("inf")),
    "an unknown argument": setting("model", "depth", to=8),
    "weights as an argument": setting("model", "weights", to="imagenet"),
    "a class less": setting("classes", "names", to=["cat", "dog"]),
    "numbers too large": setting("classes", "numbers", to=[0, 1, 256]),
    "numbers below 0": setting("classes", "numbers", to=[0, 1, -1]),
    "void as a number": setting("classes", "numbers", to=[0, 1, 255]),
    "a number twice": setting("classes", "numbers", to=[0, 1, 1]),
    "numbers of a wrong type": setting("classes", "numbers", to=["a", "b", "c"]),
    "numbers not finite": setting("classes", "numbers", to=[0, 1, float("inf")]),
    "colors too large": setting("classes", "colors", to=[[0, 0, 0], [1, 1, 1], [0, 0, 256]]),
    "colors of two numbers": setting("classes", "colors", to=[[0, 0], [1, 1], [0, 0]]),
    "order unknown": setting("normalization", "order", to="RBG"),
    "order of a wrong type": setting("normalization", "order", to=["RGB"]),
    "scale of a wrong type": setting("normalization", "scale", to="large"),
    "two means": setting("normalization", "mean", to=[0.5, 0.5]),
    "means of a wrong type": setting("normalization", "mean", to=["a", "b", "c"]),
    "means in lists": setting("normalization", "mean", to=[[0.5], [0.5], [0.5]]),
    "no std": setting("normalization", "std", to=None),
}  # fmt: skip


@pytest.mark.parametrize("case", OTHER_FACTS)
def test_facts_of_another_shape(run, case):
    path = run / "epoch-0001" / FACTS
    facts = json.loads(path.read_text())
    OTHER_FACTS[case](facts)
    path.write_text(json.dumps(facts))
    refused(run)


@pytest.mark.parametrize("text", ["", "5", "null", "[]", "{}", "[" * 100_000, "hello", "{'a': 1}"])
def test_facts_that_are_none(run, text):
    (run / "epoch-0001" / FACTS).write_text(text)
    refused(run, FACTS)
    (run / "epoch-0001" / FACTS).write_bytes(b"\xff\xfe\x00")
    refused(run, FACTS)


# --- the same by way of a run


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("checkpoint") / "data")


@pytest.fixture(scope="module")
def finished(data, tmp_path_factory):
    """A run of one epoch of two: its settings say one, so two are another run's."""
    return train(tiny(data, epochs=1), tmp_path_factory.mktemp("finished") / "run")


def refused_command(arguments: list[str], capsys: pytest.CaptureFixture, *words: object) -> None:
    capsys.readouterr()
    assert main(arguments) == 1
    said = capsys.readouterr().err
    assert said.startswith("fcn: ") and said.count("\n") == 1
    check_sentence(said.strip(), *words)


OTHER_SETTINGS = {
    "data": 5, "model": 5, "backbone": 5, "geometry": 5, "width": "wide", "classes": 5,
    "recipe": ["modern"], "epochs": 1.5, "batch_size": "2", "crop": 2.5, "scale": 3, "lr": "fast",
    "pretrained_factor": None, "precision": ["fp32"], "seed": 0.5, "evaluate_every": {},
    "workers": 0.5, "dropout": "some", "depth": 3, "init_from": 7,
}  # fmt: skip


@pytest.mark.parametrize("name", OTHER_SETTINGS)
def test_settings_of_another_kind(finished, tmp_path, capsys, name):
    shutil.copytree(finished, run := tmp_path / "run")
    path = run / "epoch-0001" / FACTS
    facts = json.loads(path.read_text())
    facts["settings"][name] = OTHER_SETTINGS[name]
    path.write_text(json.dumps(facts))
    if name in ("model", "backbone", "geometry"):  # taken as they are, and unused
        assert main(["train", "--resume", "--out", str(run)]) == 0
    else:
        words = {"data": (5,), "recipe": ("recipe",), "precision": ("precision",)}.get(name, (run,))
        refused_command(["train", "--resume", "--out", str(run)], capsys, *words)


def edit_optimizer(change: Callable[[Any], Any]) -> Callable[[Path], None]:
    def edit(folder: Path) -> None:
        state = torch.load(folder / OPTIMIZER, weights_only=True)
        changed = change(state)
        torch.save(state if changed is None else changed, folder / OPTIMIZER)

    return edit


def of_other_network(folder: Path, **options: Any) -> None:
    network = build_model(**{"name": "fcn8s", "num_classes": 3, "backbone": "squeezenet1_1",
                             "width": 0.2} | options)  # fmt: skip
    optimizer = RECIPES["modern"].optimizer(network, 1e-2, 0.1)
    network(torch.rand(2, 3, 20, 20)).sum().backward()
    optimizer.step()
    torch.save(optimizer.state_dict(), folder / OPTIMIZER)


def of_paper(folder: Path) -> None:
    network = build_model("fcn8s", 3, "squeezenet1_1", width=0.1)
    torch.save(RECIPES["paper"].optimizer(network, 1e-2, 0.1).state_dict(), folder / OPTIMIZER)


FOREIGN_OPTIMIZERS = {
    "wider network": of_other_network,
    "another network": lambda folder: of_other_network(folder, backbone="vgg11", width=1 / 16),
    "another recipe": of_paper,
    "a tensor": edit_optimizer(lambda state: torch.zeros(3)),
    "a list": edit_optimizer(lambda state: [1, 2]),
    "no state": edit_optimizer(lambda state: {"param_groups": state["param_groups"]}),
    "state is a number": edit_optimizer(lambda state: state | {"state": 5}),
    "groups are a number": edit_optimizer(lambda state: state | {"param_groups": 5}),
    "a group less": edit_optimizer(lambda state: state["param_groups"].pop() and None),
    "a parameter less": edit_optimizer(lambda state: state["param_groups"][0]["params"].pop()
                                       and None),
    "a group without a rate": edit_optimizer(
        lambda state: state["param_groups"][1].pop("initial_lr") and None
    ),
    "a rate that is text": edit_optimizer(
        lambda state: state["param_groups"][1].update(initial_lr="x")
    ),
    "another rate": edit_optimizer(lambda state: state["param_groups"][1].update(initial_lr=9.0)),
    "moments that are text": edit_optimizer(lambda state: state["state"][0].update(exp_avg="x")),
    "no moments": edit_optimizer(lambda state: state["state"][0].clear()),
    "a moment less": edit_optimizer(lambda state: state["state"][0].__delitem__("exp_avg_sq")),
    "scalars as moments": edit_optimizer(
        lambda state: state["state"][0].update(exp_avg=torch.tensor(1.0))
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", FOREIGN_OPTIMIZERS)
def test_an_optimiser_of_another_network(data, tmp_path, capsys, half_way, case):
    shutil.copytree(half_way, run := tmp_path / "run")
    FOREIGN_OPTIMIZERS[case](run / "epoch-0001")
    weights = (run / "epoch-0001" / WEIGHTS).read_bytes()
    arguments = ["train", "--resume", "--out", str(run), "--workers", "0"]
    refused_command(arguments, capsys, run / "epoch-0001", "optimiser of another", "--init-from")
    assert (run / "epoch-0001" / WEIGHTS).read_bytes() == weights
    assert find_checkpoint(run).name == "epoch-0001"


@pytest.fixture(scope="module")
def half_way(data, tmp_path_factory):
    """A run of two epochs of which one is done."""
    run = tmp_path_factory.mktemp("half") / "run"
    from fcnlib import training

    whole = training._Trainer._train_epoch
    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):

        def stopping(self: Any, epoch: int, bar: Any) -> Any:
            if epoch == 2:
                raise KeyboardInterrupt
            return whole(self, epoch, bar)

        patch.setattr(training._Trainer, "_train_epoch", stopping)
        train(tiny(data), run)
    return run


@pytest.mark.parametrize("name", [WEIGHTS, FACTS, OPTIMIZER])
def test_a_damaged_checkpoint_does_not_go_on(data, tmp_path, capsys, half_way, name):
    shutil.copytree(half_way, run := tmp_path / "run")
    os.truncate(run / "epoch-0001" / name, 100)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    refused_command(["train", "--resume", "--out", str(run)], capsys, run / "epoch-0001" / name)
    assert {path: path.read_bytes() for path in run.rglob("*") if path.is_file()} == before
    if name != OPTIMIZER:
        out = tmp_path / "new"
        arguments = ["train", "--init-from", str(run), "--data", str(data), "--out", str(out)]
        refused_command([*arguments, "--batch-size", "2"], capsys, run / "epoch-0001" / name)
        assert find_checkpoint(out) is None


def test_without_a_checkout_there_is_no_commit(monkeypatch):
    """Installed into an environment inside somebody's repository, git would name theirs."""
    assert checkpoints._git().keys() <= {"commit", "changed"}
    monkeypatch.setattr(checkpoints, "checkout", lambda: None)
    assert checkpoints._git() == {}
