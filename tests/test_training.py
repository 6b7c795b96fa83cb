"""The training loop: the numbers of a plain one, and runs that go on, begin from others, end."""

import builtins
import json
import math
import os
import shutil
import threading
from contextlib import suppress
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn
from training_cases import (
    CLASSES,
    arguments,
    check_equal_runs,
    check_sentence,
    log_of,
    make_data,
    tiny,
    weights_of,
)

from fcnlib import training
from fcnlib.checkpoint import find_checkpoint, load_checkpoint
from fcnlib.cli import main
from fcnlib.data import SegmentationFolder, save_labels, to_float
from fcnlib.data.loader import epoch_batches, mixed_seed, train_loader
from fcnlib.errors import CheckpointError, RunError, WeightsError
from fcnlib.evaluation import evaluate, evaluating, scores
from fcnlib.losses import pixel_cross_entropy
from fcnlib.models import CAFFE, Normalize, build_model
from fcnlib.precision import auto_memory_format
from fcnlib.recipes import RECIPES, set_rate
from fcnlib.run import LOG, read_log
from fcnlib.settings import Settings, settings_for
from fcnlib.training import train


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("training") / "data")


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    """A run of three epochs from beginning to end."""
    return train(tiny(data, epochs=3), tmp_path_factory.mktemp("unbroken") / "run")


@pytest.fixture(autouse=True)
def quick(request, monkeypatch):
    """Most runs draw no samples, which takes longer than all the rest."""
    if "samples" not in request.node.name:
        monkeypatch.setattr(training, "save_samples", lambda *drawn: None)


class Stopped(Exception):
    """Stands for all that can end a run."""


def stop_before(monkeypatch, epoch: int) -> None:
    """Have runs stop before this epoch."""
    whole = training._Trainer._train_epoch

    def until(self, number, bar):
        if number == epoch:
            raise Stopped
        return whole(self, number, bar)

    monkeypatch.setattr(training._Trainer, "_train_epoch", until)


def stopped_run(settings, out, epoch):
    with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
        stop_before(patch, epoch)
        train(settings, out)
    return out


# --- the numbers


def plain_loop(settings: Settings) -> tuple[nn.Module, list[float]]:
    """The training written out: the network, and the sum of the losses of each step."""
    torch.set_flush_denormal(True)
    recipe = RECIPES[settings.recipe]
    transforms = recipe.transforms(settings.crop, settings.scale)
    folder = SegmentationFolder(settings.data, "train", transforms)
    loader = train_loader(folder, settings.batch_size, settings.seed)
    torch.manual_seed(settings.seed)
    network = build_model(settings.model, 3, settings.backbone, width=settings.width)
    network = network.to(memory_format=auto_memory_format("cpu"))
    optimizer = recipe.optimizer(network, settings.lr, 1.0)
    losses = []
    for epoch in range(1, settings.epochs + 1):
        torch.manual_seed(mixed_seed(settings.seed, epoch, 0))
        network.train()
        for step, (images, labels) in enumerate(epoch_batches(loader, epoch)):
            done = (epoch - 1 + (step + 0.5) / len(loader)) / settings.epochs
            set_rate(optimizer, recipe.schedule(done))
            loss = pixel_cross_entropy(network(images), labels, recipe.reduction)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
    return network, losses


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"backbone": "vgg11_bn", "width": 1 / 16, "seed": 7},
        {"recipe": "paper", "lr": 1e-6, "batch_size": 1, "crop": 0},
    ],
    ids=["squeezenet", "vgg_bn", "paper"],
)
def test_the_numbers_of_a_plain_loop_bit_for_bit(data, tmp_path, changes):
    settings = tiny(data, evaluate_every=2, **changes)
    network, losses = plain_loop(settings)
    stored = weights_of(train(settings, tmp_path / "run"), epoch=2)
    for name, numbers in network.state_dict().items():
        assert torch.equal(numbers, stored[name]), name
    first, second = log_of(tmp_path / "run")
    if not changes:  # then each batch counts as the mean that it is
        assert losses[0] == pytest.approx(math.log(3))  # the scores begin at zero
    if settings.recipe == "paper":
        pixels = sum(
            int((labels != 255).sum())
            for _, labels in SegmentationFolder(data, "train", to_float())
        )
        assert first["loss"] == pytest.approx(sum(losses[:6]) / pixels)
        assert second["loss"] == pytest.approx(sum(losses[6:]) / pixels)
        assert second["lr"] == 1e-6
    matrix = evaluate(network, val := SegmentationFolder(data, "val", to_float()))
    assert {name: second[name] for name in scores(matrix, val.classes)} == scores(matrix, CLASSES)
    assert matrix.counts.sum() == sum(int((labels != 255).sum()) for _, labels in val)
    assert "mean_iou" not in first


@pytest.mark.slow
def test_it_learns_what_a_few_pictures_show(data, tmp_path):
    settings = tiny(
        data, backbone="vgg11_bn", width=1 / 16, epochs=16, evaluate_every=16, dropout=0.0
    )
    records = log_of(train(settings, tmp_path / "run"))
    assert records[-1]["loss"] < 0.5 * records[0]["loss"]
    assert records[-1]["mean_iou"] > records[-1]["baseline"]["mean_iou"] + 0.1


def test_the_log_has_a_line_per_epoch(unbroken):
    records = read_log(unbroken)
    assert [record["epoch"] for record in records] == [1, 2, 3]
    for record in records:
        assert 0 < record["loss"] < 2
        assert record["seconds"] > 0
        assert record["images_per_second"] > 0
        assert 0 <= record["waited_for_data"] <= 1
        assert record["iou_per_class"].keys() == set(CLASSES)
        assert record["baseline"]["always"] == "background"
    schedule = RECIPES["modern"].schedule
    # Of the last of three steps.
    assert [record["lr"] for record in records] == [
        pytest.approx(0.01 * schedule((epoch - 0.5 / 3) / 3)) for epoch in (1, 2, 3)
    ]


def test_a_run_leaves_one_checkpoint_samples_and_tensorboard(unbroken):
    names = {path.name for path in unbroken.iterdir() if not path.name.startswith(".")}
    assert names == {"epoch-0003", LOG, "samples", "tensorboard"}
    checkpoint = load_checkpoint(unbroken)
    assert checkpoint.epoch == 3
    assert checkpoint.scores["mean_iou"] == read_log(unbroken)[-1]["mean_iou"]
    samples = sorted((unbroken / "samples").iterdir())
    assert [path.name for path in samples] == [f"epoch-000{k}.png" for k in (1, 2, 3)]
    with Image.open(samples[0]) as picture:
        pixels = np.array(picture.convert("RGB"))
    assert pixels.shape[1] > 600
    assert len(np.unique(pixels.reshape(-1, 3), axis=0)) > 100
    assert any((unbroken / "tensorboard").iterdir())


def test_samples_show_labels_in_the_colours_of_the_masks(data, tmp_path):
    """Of the classes (dark, background), dark is label 0, and 1 in the masks: VOC's red."""
    settings = tiny(data, epochs=1, classes=("dark", "background"))
    with Image.open(train(settings, tmp_path / "run") / "samples" / "epoch-0001.png") as picture:
        colors = {tuple(color) for color in np.array(picture.convert("RGB")).reshape(-1, 3)}
    assert (128, 0, 0) in colors
    assert (0, 128, 0) not in colors
    assert log_of(tmp_path / "run")[0]["iou_per_class"].keys() == {"dark", "background"}


def test_without_tensorboard(data, tmp_path, monkeypatch, unbroken):
    whole_import = builtins.__import__

    def without(name, *rest, **more):
        if "tensorboard" in name:
            raise ImportError(name)
        return whole_import(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    train(tiny(data, epochs=3), tmp_path / "run")
    monkeypatch.undo()
    assert not (tmp_path / "run" / "tensorboard").exists()
    check_equal_runs(tmp_path / "run", unbroken, 3)


def test_evaluation_leaves_the_mode_as_it_was(data):
    network = build_model("fcn8s", 3, "vgg11_bn", width=1 / 16)
    val = SegmentationFolder(data, "val", to_float())
    for mode in (True, False):
        network.train(mode)
        before = {name: numbers.clone() for name, numbers in network.state_dict().items()}
        evaluate(network, val)
        assert {module.training for module in network.modules()} == {mode}
        for name, numbers in network.state_dict().items():
            assert torch.equal(numbers, before[name]), name
    network.train()
    with pytest.raises(Stopped), evaluating(network):
        assert not network.training
        assert not network(torch.rand(1, 3, 20, 20)).requires_grad
        raise Stopped
    assert network.training


def test_scores_are_written_every_few_epochs_and_at_the_end(data, tmp_path):
    records = log_of(train(tiny(data, epochs=3, evaluate_every=2), tmp_path / "run"))
    assert ["mean_iou" in record for record in records] == [False, True, True]


def test_other_lists_can_be_trained_and_scored_with(data, tmp_path):
    root = shutil.copytree(data, tmp_path / "data")
    lists = root / "ImageSets" / "Segmentation"
    for before, after in (("train", "mine"), ("val", "yours")):
        (lists / f"{before}.txt").rename(lists / f"{after}.txt")
    usual = train(tiny(data, epochs=1), tmp_path / "usual")
    named = train(tiny(root, epochs=1, train_split="mine", val_split="yours"), tmp_path / "named")
    for key in ("loss", "mean_iou"):
        assert read_log(usual)[0][key] == read_log(named)[0][key]


def test_a_split_that_is_all_void_has_no_score(data, tmp_path, capsys):
    root = make_data(tmp_path / "void")
    for path in (root / "SegmentationClass").glob("val*.png"):
        save_labels(path, np.full(np.array(Image.open(path)).shape, 255))
    train(tiny(root, epochs=1), tmp_path / "run")
    assert log_of(tmp_path / "run")[0]["mean_iou"] is None
    assert "epoch 1/1: loss" in capsys.readouterr().out


@pytest.mark.slow
def test_dropout_can_be_set(data, tmp_path):
    runs = [
        weights_of(train(tiny(data, epochs=1, dropout=p), tmp_path / str(p)), 1)
        for p in (None, 0.5, 0.0)
    ]
    assert torch.equal(runs[0]["conv1.weight"], runs[1]["conv1.weight"])
    assert not torch.equal(runs[0]["conv1.weight"], runs[2]["conv1.weight"])


@pytest.mark.slow
def test_one_process_can_train_in_two_precisions(data, tmp_path):
    found = [
        log_of(train(tiny(data, epochs=1, precision=p), tmp_path / p))[0]["loss"]
        for p in ("bf16", "fp32")
    ]
    assert found[0] != found[1]
    assert found[0] == pytest.approx(found[1], abs=0.05)


def test_a_precision_that_a_cpu_has_not(data, tmp_path):
    with pytest.raises(RunError) as error:
        train(tiny(data, precision="fp16"), tmp_path / "run")
    check_sentence(error.value, "cpu does not train in fp16", "choose auto")


# --- going on


@pytest.mark.parametrize("workers", [0, pytest.param(2, marks=pytest.mark.slow)])
@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_a_run_that_goes_on_ends_where_an_unbroken_one_does(
    data, tmp_path, unbroken, epoch, workers
):
    out = stopped_run(settings := tiny(data, epochs=3, workers=workers), tmp_path / "run", epoch)
    assert find_checkpoint(out).name == f"epoch-000{epoch - 1}"
    train(settings, out, resume=True)
    check_equal_runs(out, unbroken, 3)


def test_a_finished_run_that_goes_on_stays_as_it_is(data, tmp_path):
    out = train(settings := tiny(data, epochs=1), tmp_path / "run")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    train(settings, out, resume=True)
    after = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert {path: after[path] for path in before} == before
    assert {path.parent.name for path in after.keys() - before.keys()} <= {"tensorboard"}


@pytest.mark.parametrize(
    "torn",
    [
        b'{"epoch": 2, "lo',
        *(pytest.param(t, marks=pytest.mark.slow) for t in (b"\0\0\0", b"5\n", b"\xff\xfe\n")),
    ],
)
def test_a_log_whose_last_line_is_torn_is_mended(data, tmp_path, unbroken, torn):
    out = stopped_run(settings := tiny(data, epochs=3), tmp_path / "run", 3)
    lines = (out / LOG).read_bytes().splitlines(keepends=True)
    (out / LOG).write_bytes(lines[0] + lines[1] + torn)
    assert [record["epoch"] for record in read_log(out)] == [1, 2]
    train(settings, out, resume=True)
    check_equal_runs(out, unbroken, 3)


def test_an_epoch_that_is_in_the_log_but_in_no_checkpoint_is_written_once(data, tmp_path, unbroken):
    out = stopped_run(settings := tiny(data, epochs=3), tmp_path / "run", 2)
    with (out / LOG).open("a") as file:
        file.write(json.dumps({"epoch": 2, "loss": 9.0}) + "\n")
    train(settings, out, resume=True)
    check_equal_runs(out, unbroken, 3)


def test_options_are_those_of_the_run_where_none_is_given(data, tmp_path):
    out = stopped_run(settings := tiny(data, lr=0.02, seed=3), tmp_path / "run", 2)
    assert settings_for(out, {}, resume=True) == settings.complete()
    assert (
        settings_for(out, {"lr": 0.02, "workers": 1}, True).complete()
        == replace(settings, workers=1).complete()
    )


DIFFERENT = {
    "model": "fcn16s", "backbone": "vgg11", "geometry": "paper", "upsampling": "learned",
    "width": 0.2, "recipe": "paper", "epochs": 5, "batch_size": 3, "crop": 40,
    "scale": (1.0, 2.0), "lr": 0.5, "pretrained_factor": 0.2, "precision": "auto", "seed": 4,
    "evaluate_every": 2, "dropout": 0.1, "classes": CLASSES[:2],
    "train_split": "val", "val_split": "train",
}  # fmt: skip


@pytest.mark.parametrize("name", DIFFERENT)
def test_another_option_is_refused_by_its_name(data, unbroken, name):
    """Those that a run can begin with alone, weights and init_from, need files."""
    before = weights_of(unbroken, 3)
    wanted = settings_for(unbroken, {name: DIFFERENT[name]}, resume=True)
    assert asdict(Settings("")).keys() - DIFFERENT == {"data", "workers", "weights", "init_from"}
    with pytest.raises(RunError) as error:
        train(wanted, unbroken, resume=True)
    check_sentence(error.value, unbroken, f"has {name} ", f"not {DIFFERENT[name]}", "--init-from")
    assert torch.equal(weights_of(unbroken, 3)["conv1.weight"], before["conv1.weight"])


def test_a_run_that_is_done_says_so(data, unbroken, capsys):
    before = weights_of(unbroken, 3)
    train(settings_for(unbroken, {}, resume=True), unbroken, resume=True)
    assert capsys.readouterr().out == f"All 3 epochs are done: see {unbroken}\n"
    assert torch.equal(weights_of(unbroken, 3)["conv1.weight"], before["conv1.weight"])


def test_data_may_move_but_not_change_its_classes(data, tmp_path):
    out = stopped_run(tiny(data), tmp_path / "run", 1)
    moved = make_data(tmp_path / "moved")
    train(settings_for(out, {"data": str(moved)}, resume=True), out, resume=True)
    (moved / "labels.txt").write_text("background\nlight\ndark\n")
    with pytest.raises(RunError) as error:
        train(settings_for(out, {"data": str(moved)}, resume=True), out, resume=True)
    named = "background (0), dark (1), light (2)", "background (0), light (1), dark (2)"
    check_sentence(error.value, *named)


def test_masks_may_not_change_their_numbers(data, tmp_path):
    """The checkpoint would give its masks the old ones."""
    kept = ("background", "light")
    out = stopped_run(tiny(data, classes=kept), tmp_path / "run", 1)
    moved = make_data(tmp_path / "moved")
    (moved / "labels.txt").write_text("background\nlight\ndark\n")
    with pytest.raises(RunError) as error:
        train(settings_for(out, {"data": str(moved)}, resume=True), out, resume=True)
    check_sentence(error.value, "background (0), light (2)", "background (0), light (1)")


def test_a_run_begins_with_one_of_the_same_classes_alone(data, unbroken, tmp_path):
    """Scores are copied by their place, so another order would be another meaning."""
    other = tiny(data, init_from=str(unbroken), classes=("background", "light", "dark"))
    with pytest.raises(RunError) as error:
        train(other, tmp_path / "run")
    check_sentence(error.value, unbroken, "dark (1), light (2)", "light (2), dark (1)")
    assert find_checkpoint(tmp_path / "run") is None


# --- beginning


def test_a_folder_with_a_run_is_refused(data, unbroken):
    before = (unbroken / LOG).read_bytes()
    with pytest.raises(RunError) as error:
        train(tiny(data), unbroken)
    check_sentence(error.value, unbroken, "--resume", "another folder")
    assert (unbroken / LOG).read_bytes() == before


@pytest.mark.parametrize("resume", [False, True])
@pytest.mark.parametrize("name", ["holiday.jpg", LOG])
def test_a_folder_with_other_things_is_refused(data, tmp_path, name, resume):
    (out := tmp_path / "mine").mkdir()
    (out / name).write_text('{"epoch": 1, "loss": 0.5}\n')
    with pytest.raises(RunError) as error:
        train(tiny(data), out, resume)
    check_sentence(error.value, out, "not empty", "new folder")
    assert (out / name).read_text() == '{"epoch": 1, "loss": 0.5}\n'
    assert {path.name for path in out.iterdir()} <= {name, ".lock"}


def test_resume_where_a_run_wrote_no_checkpoint_yet(data, tmp_path):
    (out := tmp_path / "run").mkdir()
    (out / LOG).write_text("")
    (out / "tensorboard").mkdir()
    (out / ".epoch-0000").mkdir()
    train(tiny(data, epochs=1), out, resume=True)
    assert find_checkpoint(out).name == "epoch-0001"


def test_a_file_where_the_folder_should_be(data, tmp_path):
    (tmp_path / "run").write_text("mine")
    with pytest.raises(RunError) as error:
        train(tiny(data), tmp_path / "run")
    check_sentence(error.value, tmp_path / "run", "File exists")
    assert (tmp_path / "run").read_text() == "mine"


WRONG = {
    "epochs": 0, "batch_size": 0, "lr": -1.0, "width": math.inf, "evaluate_every": 0, "crop": -1,
    "seed": 2**64, "workers": -1, "pretrained_factor": math.nan, "scale": (2.0, 1.0),
    "dropout": 1.0, "recipe": "magic", "precision": "fp8", "model": "fcn4s", "backbone": "resnet9",
    "geometry": "flat", "upsampling": "nearest",
}  # fmt: skip


@pytest.mark.parametrize("name", WRONG)
def test_a_setting_that_cannot_be_is_one_sentence(data, tmp_path, name):
    with pytest.raises(RunError) as error:
        train(tiny(data, **{name: WRONG[name]}), tmp_path / "run")
    check_sentence(error.value, "name" if name == "model" else name)
    assert find_checkpoint(tmp_path / "run") is None


def test_weights_and_a_run_to_start_from_exclude_each_other(data, tmp_path):
    with pytest.raises(RunError) as error:
        train(tiny(data, weights="w.pth", init_from="r"), tmp_path / "run")
    check_sentence(error.value, "not both")


def test_without_data_there_is_nothing_to_do(tmp_path, capsys):
    assert main(["train", "--out", str(tmp_path / "run")]) == 2
    assert main(["train", "--out", str(tmp_path / "run"), "--resume"]) == 2
    said = capsys.readouterr().err.splitlines()
    assert said == ["fcn: There is no data to train on: name its folder (--data)."] * 2
    assert not (tmp_path / "run").exists()


def test_numbers_may_be_of_numpy(data, tmp_path):
    given = {"seed": np.int64(3), "epochs": np.int64(1), "lr": np.float32(0.5)}
    train(tiny(data, **given), tmp_path / "run")
    stored = load_checkpoint(tmp_path / "run").settings
    assert (stored["seed"], stored["epochs"], stored["lr"]) == (3, 1, 0.5)


def test_paths_may_be_paths(data, tmp_path):
    settings = replace(tiny(data, epochs=1), data=data)
    train(settings, tmp_path / "run")
    assert load_checkpoint(tmp_path / "run").settings["data"] == str(data)


def test_the_command_says_how_far_it_is(data, tmp_path, capsys):
    settings = tiny(data, scale=(0.8, 1.2), dropout=0.0)
    assert main(arguments(settings, tmp_path / "run")) == 0
    said = capsys.readouterr().out.splitlines()
    assert [line.partition(",")[0][:16] for line in said] == [
        "epoch 1/2: loss ",
        "epoch 2/2: loss ",
    ]
    assert "mIoU" in said[0] and "(always background" in said[0]
    assert load_checkpoint(tmp_path / "run").settings == json.loads(
        json.dumps(asdict(settings.complete()))
    )


# --- beginning from another run


@pytest.mark.slow
def test_from_32s_to_16s_to_8s(data, tmp_path):
    """Each stage begins where the coarser one ended: its zeros add nothing."""
    runs = {}
    options = {"backbone": "vgg11", "width": 1 / 16, "geometry": "paper"}
    classes = ("background", "light")
    val = SegmentationFolder(data, "val", to_float(), classes)
    source = None
    for model in ("fcn32s", "fcn16s", "fcn8s"):
        given = {"data": str(data), "model": model, "epochs": 1, "batch_size": 2, "crop": 32,
                 "precision": "fp32", "workers": 0}  # fmt: skip
        if source is None:
            given |= options | {"classes": classes}
        else:
            given["init_from"] = str(source)
        out = tmp_path / model
        settings = settings_for(out, given, resume=False)
        stopped_run(settings, out, 1)
        if source is not None:
            coarse, fine = load_checkpoint(source), load_checkpoint(out)
            assert fine.model == {**coarse.model, "name": model}
            assert {name: fine.model[name] for name in options} == options
            assert fine.classes == coarse.classes
            ours, theirs = weights_of(out, 0), weights_of(source, 1)
            shared = ours.keys() & theirs.keys()
            assert {"conv1_1.weight", "fc6.weight", "fc7.bias", "score_fr.weight"} <= shared
            assert theirs["score_fr.weight"].any()
            for name in shared:
                assert torch.equal(ours[name], theirs[name]), name
            new = {name for name in ours.keys() - theirs.keys() if name.startswith("score_")}
            assert {name.split(".")[0] for name in new} == {
                {"fcn16s": "score_pool4", "fcn8s": "score_pool3"}[model]
            }
            assert not any(ours[name].any() for name in new)
            # Pretrained layers go at a tenth of the rate.
            state = torch.load(out / "epoch-0000" / "optimizer.pt", weights_only=True)
            assert [group["lr"] for group in state["param_groups"]] == [1e-4, 1e-3]
        source = train(settings, out, resume=True)
        runs[model] = evaluate(load_checkpoint(source).network(), val).counts
    assert all(counts.sum() == runs["fcn32s"].sum() > 0 for counts in runs.values())


@pytest.mark.parametrize(
    "options",
    [
        {"upsampling": "learned"},
        {"model": "fcn_decoder", "backbone": "vgg11_bn", "width": 1 / 16},
        pytest.param(
            {"model": "fcn_resnet50", "backbone": None, "width": 1 / 32, "crop": 48},
            marks=pytest.mark.slow,
        ),
    ],
    ids=["learned", "decoder", "resnet50"],
)
def test_the_same_network_begins_with_all_numbers(data, tmp_path, options):
    source = train(tiny(data, epochs=1, **options), tmp_path / "source")
    given = {"data": str(data), "init_from": str(source), "workers": 0, "crop": 48,
             "model": options.get("model", "fcn8s"), "batch_size": 2}  # fmt: skip
    out = stopped_run(settings_for(tmp_path / "run", given, False), tmp_path / "run", 1)
    ours, theirs = weights_of(out, 0), weights_of(source, 1)
    assert ours.keys() == theirs.keys()
    for name, numbers in ours.items():
        assert torch.equal(numbers, theirs[name]), name
    if "upsampling" in options:
        fixed = build_model("fcn8s", 3, "squeezenet1_1", width=0.1).state_dict()
        assert not torch.equal(ours["upscore4.weight"], fixed["upscore4.weight"])


def test_fc6_of_another_size_is_handed_on(data, tmp_path):
    network = build_model("fcn32s", 3, "vgg11", width=1 / 16, fc6_size=2)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    options = {"backbone": "vgg11", "width": 1 / 16, "epochs": 1}
    source = train(
        tiny(data, model="fcn32s", weights=str(tmp_path / "weights.pth"), **options),
        tmp_path / "source",
    )
    out = train(tiny(data, model="fcn16s", init_from=str(source), **options), tmp_path / "run")
    assert weights_of(out, 1)["fc6.weight"].shape[-1] == 2


@pytest.mark.slow
def test_the_normalisation_is_handed_on(data, tmp_path, monkeypatch):
    whole = build_model

    def expecting_caffe(*given, **options):
        network = whole(*given, **options)
        network.normalize = Normalize(CAFFE)
        return network

    with monkeypatch.context() as patch:
        patch.setattr(training, "build_model", expecting_caffe)
        source = train(tiny(data, epochs=1), tmp_path / "source")
    assert load_checkpoint(source).network().normalize.normalization == CAFFE
    out = train(tiny(data, epochs=1, init_from=str(source)), tmp_path / "run")
    assert load_checkpoint(out).network().normalize.normalization == CAFFE


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"model": "fcn32s"}, "score_fire5"),
        ({"width": 0.2}, "conv1"),
        ({"backbone": "vgg11"}, "pad"),
    ],
    ids=["finer", "width", "backbone"],
)
def test_a_source_that_does_not_fit(data, tmp_path, unbroken, options, word):
    with pytest.raises(WeightsError) as error:
        train(tiny(data, init_from=str(unbroken), **options), tmp_path / "run")
    check_sentence(error.value, "cannot start from this source", "" if word == "pad" else word)
    assert find_checkpoint(tmp_path / "run") is None


def test_a_source_that_is_none(data, tmp_path):
    with pytest.raises(CheckpointError) as error:
        settings_for(tmp_path / "run", {"data": str(data), "init_from": str(data)}, False)
    check_sentence(error.value, data, "holds no checkpoint")


# --- ending


def test_a_loss_that_is_no_number_ends_the_run(data, tmp_path, monkeypatch):
    whole, steps = training.segmentation_loss, []

    def breaking(*given, **options):
        steps.append(1)
        return whole(*given, **options) * (math.nan if len(steps) == 5 else 1.0)

    monkeypatch.setattr(training, "segmentation_loss", breaking)
    with pytest.raises(RunError) as error:
        train(tiny(data), tmp_path / "run")
    check_sentence(error.value, "The loss became nan", "0.01", tmp_path / "run")
    assert find_checkpoint(tmp_path / "run").name == "epoch-0001"
    assert [record["epoch"] for record in log_of(tmp_path / "run")] == [1]
    assert all(n.isfinite().all() for n in weights_of(tmp_path / "run", 1).values())


def test_a_rate_that_is_too_large_ends_the_run(data, tmp_path, capsys):
    given = arguments(tiny(data, recipe="paper", lr=1e15), tmp_path / "run")
    assert main(given) == 1
    check_sentence(said := capsys.readouterr().err.strip(), "The loss became", "1000000000000000.0")
    assert said.startswith("fcn: ")
    assert load_checkpoint(tmp_path / "run").network()


def test_batch_norm_with_a_single_value_is_one_sentence(data, tmp_path):
    settings = tiny(data, backbone="vgg11_bn", width=1 / 16, crop=16, batch_size=1)
    with pytest.raises(RunError) as error:
        train(settings, tmp_path / "run")
    assert "BatchNorm needs more than one value" in str(error.value)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB ..."),
        RuntimeError("[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate"),
    ],
)
def test_a_full_memory_is_one_sentence(data, tmp_path, monkeypatch, error):
    def full(*given, **options):
        raise error

    monkeypatch.setattr(training, "segmentation_loss", full)
    with pytest.raises(RunError) as raised:
        train(tiny(data), tmp_path / "run")
    check_sentence(raised.value, "memory of cpu is full", "smaller batch or crop")


def test_a_reader_that_is_killed_is_one_sentence(data, tmp_path, monkeypatch):
    """As when memory is short, or a container's shared memory."""
    whole = training._Trainer._step

    def killing(self, images, labels):
        for worker in self.loader._iterator._workers:
            worker.kill()
        return whole(self, images, labels)

    monkeypatch.setattr(training._Trainer, "_step", killing)
    with pytest.raises(RunError) as error:
        train(tiny(data, workers=1, epochs=50), tmp_path / "run")
    check_sentence(error.value, "was killed", "--resume --workers 0")


def test_a_reader_that_is_cut_off_before_it_has_ended_is_the_same_sentence(
    data, tmp_path, monkeypatch
):
    """Its connection breaks, and only a moment later it ends and PyTorch's handler raises."""

    readers = []

    def cut_off(self, images, labels):
        readers.extend(self.loader._iterator._workers)
        threading.Timer(0.2, readers[0].kill).start()
        raise ConnectionResetError(104, "Connection reset by peer")

    monkeypatch.setattr(training._Trainer, "_step", cut_off)
    with pytest.raises(RunError) as error:
        train(tiny(data, workers=1), tmp_path / "run")
    with suppress(ChildProcessError):  # it has ended; else its end raises PyTorch's error here
        os.waitid(os.P_PID, readers[0].pid, os.WEXITED | os.WNOWAIT)
    check_sentence(error.value, "was killed", "--resume --workers 0")


@pytest.mark.parametrize("kind", [ConnectionResetError, ConnectionRefusedError, EOFError])
def test_a_reader_killed_while_it_hands_over_is_the_same_sentence(
    data, tmp_path, monkeypatch, kind
):
    def broken(self, images, labels):
        raise kind(104, "Connection reset by peer")

    monkeypatch.setattr(training._Trainer, "_step", broken)
    with pytest.raises(RunError) as error:
        train(tiny(data), tmp_path / "run")
    check_sentence(error.value, "was killed", "--resume --workers 0")
