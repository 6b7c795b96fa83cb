"""fcn train, evaluate, predict, export and plot, as a reader with data of their own runs them."""

import json
import shutil
import subprocess
import sys
import urllib.request
from dataclasses import fields
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image
from reference_networks import randomise
from safetensors.torch import save_file
from training_cases import few_pictures

from fcnlib import prediction, training
from fcnlib.checkpoint import load_checkpoint
from fcnlib.cli import main
from fcnlib.course.pretrain import classifier_file
from fcnlib.data import (
    SegmentationFolder,
    read_labels,
    save_labels,
    shapes,
    to_float,
    voc_colormap,
)
from fcnlib.evaluation import evaluate, scores
from fcnlib.models.build import BACKBONES
from fcnlib.run import read_log
from fcnlib.settings import Settings

COMMANDS = ("train", "evaluate", "predict", "export", "plot")
NAMES = ("background", *(f"part {k}" for k in range(1, 12)))
TINY = ["--model", "fcn8s", "--backbone", "squeezenet1_1", "--width", ".1", "--epochs", "1"]
TINY += ["--batch-size", "2"]
ANIMALS = ("background", "person", "cat", "cow", "dog", "horse", "sheep")


def fcn(*arguments: object) -> int:
    return main([str(argument) for argument in arguments])


def draw(root: Path, pictures: int = 6) -> Path:
    """A folder in VOC layout: 480 x 360, twelve classes, two pictures for validation."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for k in range(pictures):
        labels = np.zeros((360, 480), np.uint8)
        for label in range(1, 12):
            y, x = random.integers(0, 300), random.integers(0, 400)
            labels[y : y + 60, x : x + 80] = label
        noise = random.integers(0, 60, (360, 480, 3))
        pixels = labels[..., None] * (16, 11, 7) + noise
        Image.fromarray(pixels.astype(np.uint8)).save(root / "JPEGImages" / f"{k}.jpg")
        save_labels(root / "SegmentationClass" / f"{k}.png", labels)
    ids = [f"{k}\n" for k in range(pictures)]
    (root / "ImageSets/Segmentation/train.txt").write_text("".join(ids[:-2]))
    (root / "ImageSets/Segmentation/val.txt").write_text("".join(ids[-2:]))
    (root / "labels.txt").write_text("\n".join(NAMES) + "\n")
    return root


def give_opinions(run: Path) -> Path:
    """Have a run's network, which learned too short, answer with many classes."""
    checkpoint = load_checkpoint(run)
    torch.manual_seed(0)
    network = randomise(checkpoint.network()).eval()
    with torch.no_grad():
        network.score_fr.bias -= network(torch.rand(1, 3, 200, 200)).mean(dim=(0, 2, 3))
    save_file(network.state_dict(), checkpoint.folder / "model.safetensors")
    return run


@pytest.fixture(scope="module")
def own(tmp_path_factory) -> Path:
    return draw(tmp_path_factory.mktemp("own") / "data")


@pytest.fixture(scope="module")
def run(own) -> Path:
    out = own.parent / "run"
    assert fcn("train", "--data", own, *TINY, "--crop", 64, "--workers", 0, "--out", out) == 0
    return give_opinions(out)


@pytest.fixture
def spoiled(own, tmp_path) -> Path:
    return shutil.copytree(own, tmp_path / "spoiled")


def sentence(capsys) -> str:
    """What was said: one sentence after "fcn: "."""
    said = capsys.readouterr().err.strip().splitlines()
    assert len(said) == 1, said
    assert said[0].startswith("fcn: ")
    assert said[0].endswith(".")
    return said[0]


# --- your own data


def test_training_leaves_a_log_samples_and_a_checkpoint(run):
    assert sorted(p.name for p in run.iterdir() if p.name[0] not in ".t") == [
        "epoch-0001",
        "log.jsonl",
        "samples",
    ]
    checkpoint = load_checkpoint(run)
    assert checkpoint.classes.names == NAMES
    assert checkpoint.classes.numbers == tuple(range(12))
    assert np.array_equal(checkpoint.classes.colors, voc_colormap()[:12])


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_prints_and_writes_the_same_numbers(own, run, tmp_path, capsys, workers):
    file = tmp_path / "scores.json"
    arguments = ["--checkpoint", run, "--data", own, "--workers", workers, "--json", file]
    assert fcn("evaluate", *arguments) == 0
    lines = capsys.readouterr().out.splitlines()

    def refuse(constant: str) -> None:
        raise AssertionError(f"{constant} is not JSON")

    found = json.loads(file.read_text(), parse_constant=refuse)
    network = load_checkpoint(run).network()
    folder = SegmentationFolder(own, "val", to_float())
    assert found == scores(evaluate(network, folder), NAMES)
    assert len({round(iou, 3) for iou in found["iou_per_class"].values()}) > 3
    printed = {line[:22].strip(): line[22:].split() for line in lines}
    for name, iou in found["iou_per_class"].items():
        assert printed[name][0] == f"{iou:.3f}"
    for title in ("pixel accuracy", "mean accuracy", "mean IoU", "frequency weighted IoU"):
        key = title.lower().replace(" ", "_")
        expected = [f"{found[key]:.3f}", f"{found['baseline'][key]:.3f}"]
        assert printed[title] == expected


def test_evaluation_of_another_split(own, run, tmp_path):
    arguments = ["evaluate", "--checkpoint", run, "--data", own, "--workers", 0, "--json"]
    assert fcn(*arguments, tmp_path / "val.json") == 0
    assert fcn(*arguments, tmp_path / "train.json", "--split", "train") == 0
    assert (tmp_path / "val.json").read_text() != (tmp_path / "train.json").read_text()


def test_a_part_of_the_classes_by_name(own, run, tmp_path):
    chosen = ("part 3", "background", "part 1")
    names = ",".join(chosen)
    arguments = ["--checkpoint", run, "--classes", names]
    file = tmp_path / "scores.json"
    assert fcn("evaluate", *arguments, "--data", own, "--workers", 0, "--json", file) == 0
    found = json.loads(file.read_text())
    assert tuple(found["iou_per_class"]) == chosen
    folder = SegmentationFolder(own, "val", to_float(), chosen)
    network = load_checkpoint(run).network()
    assert found == scores(evaluate(network, folder, (3, 0, 1)), chosen)
    assert fcn("predict", *arguments, own / "JPEGImages" / "4.jpg", "--out", tmp_path) == 0
    assert set(np.unique(Image.open(tmp_path / "4.png"))) == {0, 1, 3}


def test_a_run_with_some_of_the_classes_keeps_their_names_and_numbers(own, tmp_path):
    out, chosen = tmp_path / "run", ("part 3", "background", "part 1")
    arguments = [*TINY, "--crop", 64, "--workers", 0, "--classes", ", ".join(chosen)]
    assert fcn("train", "--data", own, *arguments, "--out", out) == 0
    classes = load_checkpoint(give_opinions(out)).classes
    assert (classes.names, classes.numbers) == (chosen, (3, 0, 1))
    file = tmp_path / "scores.json"
    evaluated = ["--checkpoint", out, "--data", own, "--workers", 0, "--json", file]
    assert fcn("evaluate", *evaluated) == 0
    assert tuple(json.loads(file.read_text())["iou_per_class"]) == chosen
    masks = tmp_path / "masks"
    assert fcn("predict", "--checkpoint", out, own / "JPEGImages" / "4.jpg", "--out", masks) == 0
    mask = Image.open(masks / "4.png")
    assert set(np.unique(mask)) == {0, 1, 3}
    assert mask.getpalette() == Image.open(own / "SegmentationClass" / "4.png").getpalette()


def test_prediction_of_files_and_folders(own, run, tmp_path, capsys):
    other, out = tmp_path / "other", tmp_path / "deep" / "out"
    other.mkdir()
    Image.new("L", (30, 20)).save(other / "grey.png")
    (other / "notes.txt").write_text("no picture")
    shutil.copy(own / "JPEGImages" / "0.jpg", tmp_path / "zero.jpg")
    arguments = ["predict", "--checkpoint", run, other, tmp_path / "zero.jpg", "--out", out]
    assert fcn(*arguments) == 0
    assert f"2 of 2 pictures segmented: see {out}" in capsys.readouterr().out
    names = ["grey.png", "grey_overlay.jpg", "zero.png", "zero_overlay.jpg"]
    assert sorted(p.name for p in out.iterdir()) == names
    labels = read_labels(out / "zero.png", 12)
    assert labels.shape == (360, 480)
    assert len(labels.unique()) > 3
    assert fcn(*arguments, "--probabilities") == 0
    shares = np.load(out / "zero_probabilities.npy").astype(np.float32)
    assert np.allclose(shares.sum(axis=0), 1, atol=0.01)
    of_mask = np.take_along_axis(shares, labels.long().numpy()[None], axis=0)
    assert np.array_equal(of_mask[0], shares.max(axis=0))


def test_one_damaged_picture_among_good_ones(spoiled, run, tmp_path, capsys):
    pictures, out = spoiled / "JPEGImages", tmp_path / "out"
    (pictures / "1.jpg").write_bytes((pictures / "1.jpg").read_bytes()[:2000])
    assert fcn("predict", "--checkpoint", run, pictures, "--out", out) == 1
    captured = capsys.readouterr()
    said = [line for line in captured.err.splitlines() if line.startswith("fcn: ")]
    assert len(said) == 1
    assert "1.jpg is damaged" in said[0]
    assert "5 of 6 pictures segmented" in captured.out
    assert {p.name for p in out.glob("*.png")} == {f"{k}.png" for k in (0, 2, 3, 4, 5)}


# --- mistakes in the data


def label_too_large(root: Path) -> None:
    save_labels(root / "SegmentationClass" / "1.png", np.full((360, 480), 12))
    save_labels(root / "SegmentationClass" / "4.png", np.full((360, 480), 12))


def other_size(root: Path) -> None:
    save_labels(root / "SegmentationClass" / "1.png", np.zeros((360, 479)))
    save_labels(root / "SegmentationClass" / "4.png", np.zeros((360, 479)))


def mask_missing(root: Path) -> None:
    (root / "SegmentationClass" / "1.png").unlink()
    (root / "SegmentationClass" / "4.png").unlink()


def windows_lines(root: Path) -> None:
    for split in ("train", "val"):
        path = root / "ImageSets" / "Segmentation" / f"{split}.txt"
        path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("spoil", [label_too_large, other_size, mask_missing, windows_lines])
@pytest.mark.parametrize("command", ["train", "evaluate"])
def test_a_mistake_is_the_sentence_of_the_check(spoiled, run, capsys, command, spoil, workers):
    spoil(spoiled)
    fcn("data", "check", spoiled)
    listed = capsys.readouterr().err.splitlines()
    if command == "train":
        given = [*TINY, "--batch-size", 4, "--crop", 64, "--out", spoiled.parent / "new"]
    else:
        given = ["--checkpoint", run]
    assert fcn(command, "--data", spoiled, *given, "--workers", workers) == 1
    assert sentence(capsys) in listed


# --- wrong use

WRONG_TRAINING = {
    # name: (arguments, words of the sentence)
    "no epochs": ("--epochs 0", "epochs"),
    "rate no number": ("--lr nan", "lr"),
    "unknown model": ("--model fcn4s", "must be one of fcn32s, fcn16s"),
    "backbone of another": ("--backbone resnet50", "backbone of fcn8s must be one of vgg16"),
    "geometry of another": (
        "--model fcn_resnet18 --backbone resnet18 --geometry paper",
        "geometry 'paper' is for fcn32s",
    ),
    "weights missing": ("--weights gone.pth", "gone.pth: there is no such file of weights"),
    "no run to start from": ("--init-from gone", "gone holds no checkpoint"),
    "batch too large": ("--batch-size 9", "set the batch size to 4 or less"),
    "scale reversed": ("--scale 2 1", "scale"),
    "scale beyond all": ("--scale 1e12 1e12", "scale must be two factors"),
    "crop beyond all": ("--crop 4000000000", "crop must be 0 or more and less than 65,536"),
    "width beyond all": ("--width 1e17", "width must be more than 0 and less than 1,024"),
    "unknown class": (
        "--classes background,unicorn",
        "has no class 'unicorn': choose among its classes",
    ),
    "class twice": ("--classes background,background", "'background' is named twice"),
    "no class": ("--classes ,", "has no class ''"),
    "data missing": ("--data gone", "gone is missing: give the folder"),
    "crop too small": (
        "--model fcn32s --backbone vgg11_bn --width .02 --crop 8 --batch-size 1",
        "BatchNorm",
    ),
}


WRONG_USE = {  # whatever the data: status 2
    "no epochs",
    "rate no number",
    "unknown model",
    "backbone of another",
    "geometry of another",
    "scale reversed",
    "scale beyond all",
    "crop beyond all",
    "width beyond all",
}


@pytest.mark.parametrize("name", WRONG_TRAINING)
def test_wrong_training_is_one_sentence(own, tmp_path, capsys, name):
    arguments, words = WRONG_TRAINING[name]
    given = [*TINY, "--workers", 0, "--crop", 64, *arguments.split()]
    status = 2 if name in WRONG_USE else 1
    assert fcn("train", "--data", own, "--out", tmp_path / "run", *given) == status
    assert words in sentence(capsys)


def test_imagenet_weights_without_a_network(own, tmp_path, capsys, monkeypatch):
    # urllib keeps what it first learned of proxies: let it learn anew, and forget it again.
    monkeypatch.setattr(urllib.request, "_opener", None)
    for name in ("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    for name in ("no_proxy", "NO_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    given = ["--backbone", "squeezenet1_1", "--weights", "imagenet", "--workers", 0]
    given += ["--batch-size", 2]
    assert fcn("train", "--data", own, "--out", tmp_path / "run", *given) == 1
    said = sentence(capsys)
    assert "ImageNet weights of squeezenet1_1 cannot be downloaded" in said
    assert "put that file into" in said


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ("evaluate --checkpoint gone --data {own}", "gone holds no checkpoint"),
        ("evaluate --checkpoint {run} --data gone", "gone is missing: give the folder"),
        ("evaluate --checkpoint {run} --data {own} --split test", "a split that is there"),
        (
            "evaluate --checkpoint {run} --data {own} --classes background,cat",
            "The checkpoint has no class 'cat': choose among its classes, background, part 1",
        ),
        (
            "evaluate --checkpoint {run} --data {own} --classes background,background",
            "'background' is named twice",
        ),
        (
            "evaluate --checkpoint {run} --data {own} --workers 0 --json gone/scores.json",
            "gone is no folder: make it",
        ),
        ("evaluate --checkpoint {run} --data {own} --workers 0 --json {own}", "Is a directory"),
        ("predict --checkpoint gone {own}/JPEGImages --out out", "gone holds no checkpoint"),
        ("predict --checkpoint {run} gone.jpg --out out", "gone.jpg is missing"),
        ("predict --checkpoint {run} {own} --out out", "holds no pictures"),
        ("predict --checkpoint {run} {own}/JPEGImages --out {own}/labels.txt", "another folder"),
        ("predict --checkpoint {run} {own}/JPEGImages --out out --classes x", "no class 'x'"),
        (
            "predict --checkpoint {run} {own}/JPEGImages/1.jpg {own}/SegmentationClass --out out",
            "have the same name",
        ),
        (
            "predict --checkpoint {run} {own}/SegmentationClass --out {own}/SegmentationClass",
            "is the folder of 0.png",
        ),
        ("export --checkpoint gone --onnx out.onnx", "gone holds no checkpoint"),
        ("plot gone", "gone holds no log of a run"),
        ("plot {run} --out curves.xyz", "Format 'xyz' is not supported"),
        ("plot {run} --out gone/curves.png", "gone/curves.png: No such file or directory"),
        ("plot {run} --out {own}", "Is a directory"),
    ],
)
def test_what_cannot_be_done_is_one_sentence(
    own, run, tmp_path, monkeypatch, capsys, arguments, words
):
    monkeypatch.chdir(tmp_path)
    assert fcn(*arguments.format(own=own, run=run).split()) == 1
    assert words in sentence(capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [
        *COMMANDS,
        "train --out run --epochs two",
        "train --out run --recipe sloppy",
        "train --out run --precision fp8",
        "train --out run --scale 1",
        "evaluate --checkpoint run --data data --workers -1",
        "predict --checkpoint run --out out",
    ],
)
def test_wrong_use_is_status_2(arguments, capsys):
    with pytest.raises(SystemExit) as stopped:
        fcn(*arguments.split())
    assert stopped.value.code == 2
    assert f"usage: fcn {arguments.split()[0]} " in capsys.readouterr().err


def test_stopping_it_is_status_130_and_leaves_nothing_half(own, run, tmp_path, capsys, monkeypatch):
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(prediction, "overlay", stop)
    out = tmp_path / "out"
    assert fcn("predict", "--checkpoint", run, own / "JPEGImages", "--out", out) == 130
    assert sentence(capsys) == "fcn: stopped."
    assert list(out.iterdir()) == []


def test_stopping_a_training_says_how_to_go_on(own, tmp_path, capsys, monkeypatch):
    def stop(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train", stop)
    assert fcn("train", "--data", own, "--out", tmp_path / "run") == 130
    assert sentence(capsys) == f"fcn: stopped; --resume goes on with {tmp_path / 'run'}."


# --- help

HELP = """
import contextlib, io, sys
from fcnlib.cli import main
for command in sys.argv[1:]:
    with contextlib.suppress(SystemExit):
        main([command, "--help"])
heavy = {"torch", "torchvision", "numpy", "matplotlib", "PIL", "accelerate"}
print("imported:", sorted(heavy & set(sys.modules)))
"""


def test_help_of_every_command_imports_nothing_large():
    done = subprocess.run(
        [sys.executable, "-c", HELP, *COMMANDS], capture_output=True, text=True, check=True
    )
    assert done.stdout.endswith("imported: []\n")
    for command in COMMANDS:
        assert f"usage: fcn {command} " in done.stdout


def test_the_help_of_train_names_every_setting_and_every_network(capsys):
    with pytest.raises(SystemExit):
        fcn("train", "--help")
    said = capsys.readouterr().out
    for setting in fields(Settings):
        assert f"--{setting.name.replace('_', '-')} " in said
    for model, backbones in BACKBONES.items():
        assert model in said
        if "vgg16" in backbones:
            assert {"vgg11", "squeezenet1_1"} <= set(said.replace(",", " ").split())


# --- export and plot


@pytest.mark.slow
def test_export(run, tmp_path, capsys):
    file = tmp_path / "fcn.onnx"
    assert fcn("export", "--checkpoint", run, "--onnx", file) == 0
    assert f"{file}: logits differ" in capsys.readouterr().out
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    assert json.loads(session.get_modelmeta().custom_metadata_map["classes"]) == list(NAMES)
    x = torch.rand(1, 3, 50, 70, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = load_checkpoint(run).network().eval()(x)
    found = session.run(None, {"image": x.numpy()})[0]
    assert np.allclose(found, expected, atol=1e-4 * float(expected.abs().max()))


@pytest.mark.parametrize("name", ["curves.svg", "curves"])
def test_plot(run, tmp_path, capsys, name):
    again = shutil.copytree(run, tmp_path / "again")
    assert fcn("plot", run, again, "--out", tmp_path / name) == 0
    assert capsys.readouterr().out == f"The curves are in {tmp_path / name}\n"
    if name.endswith("svg"):
        assert "<svg" in (tmp_path / name).read_text()
    else:
        with Image.open(tmp_path / name) as picture:
            assert picture.format == "PNG"
            assert min(picture.size) > 500


# --- real data


@pytest.mark.slow
@pytest.mark.real_data
def test_animals_with_pretrained_weights(real_data, tmp_path, capsys):
    """Seven of VOC's classes, in another order: no step is a special case."""
    source, root = real_data / "voc2012-animals", tmp_path / "animals"
    wanted = {"train": 8, "val": 4}
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    for split, count in wanted.items():
        folder = SegmentationFolder(source, split)
        persons = [k for k in range(120) if 15 in np.unique(Image.open(folder.label_paths[k]))][
            :count
        ]
        ids = [folder.ids[k] for k in persons]
        (root / "ImageSets/Segmentation" / f"{split}.txt").write_text("\n".join(ids) + "\n")
        for k in persons:
            for path in (folder.image_paths[k], folder.label_paths[k]):
                shutil.copy(path, root / path.parent.name)
    weights = real_data / "weights" / "squeezenet1_1_caffe_notop.pth"
    run, file, masks = tmp_path / "run", tmp_path / "scores.json", tmp_path / "masks"
    given = ["--backbone", "squeezenet1_1", "--weights", weights, "--classes", ",".join(ANIMALS)]
    given += ["--crop", 96, "--epochs", 1, "--batch-size", 4, "--lr", 0.01, "--out", run]
    assert fcn("train", "--data", root, *given) == 0
    checkpoint = load_checkpoint(run)
    assert checkpoint.classes.names == ANIMALS
    assert checkpoint.classes.numbers == (0, 15, 8, 10, 12, 13, 17)
    assert checkpoint.classes.colors[1] == (192, 128, 128)
    assert checkpoint.network().normalize.normalization.order == "BGR"

    assert fcn("evaluate", "--checkpoint", run, "--data", root, "--json", file) == 0
    found = json.loads(file.read_text())
    assert tuple(found["iou_per_class"]) == ANIMALS
    assert found["mean_iou"] == pytest.approx(checkpoint.scores["mean_iou"])
    labels = np.concatenate(
        [np.array(Image.open(path)).ravel() for path in SegmentationFolder(root, "val").label_paths]
    )
    kept = np.isin(labels, checkpoint.classes.numbers)
    assert found["baseline"]["pixel_accuracy"] == pytest.approx((labels[kept] == 0).mean())

    give_opinions(run)
    arguments = ["--checkpoint", run, "--classes", "background,person,sheep"]
    assert fcn("predict", *arguments, root / "JPEGImages", "--out", masks) == 0
    shown = [read_labels(path, 21) for path in masks.glob("*.png")]
    assert len(shown) == 12
    assert {int(k) for mask in shown for k in mask.unique()} == {0, 15, 17}


@pytest.mark.slow
@pytest.mark.real_data
@pytest.mark.parametrize(
    "network",
    [
        ("fcn32s", "vgg11_bn"),
        ("fcn16s", "vgg11_bn"),
        ("fcn8s", "vgg11_bn"),
        ("fcn_decoder", "vgg11_bn"),
        ("fcn_resnet18", "resnet18"),
        ("fcn_resnet50", "resnet50"),
    ],
    ids=lambda network: network[0],
)
def test_every_network_trains_on_scenes_and_on_photographs(network, real_data, tmp_path):
    """One command, and nothing in it changes but --data. (ResNet-50 begins at random.)"""
    model, backbone = network
    given = ["--model", model, "--width", 0.25]
    given += [] if backbone == "resnet50" else ["--weights", classifier_file(backbone)]
    given += [] if backbone.startswith("resnet") else ["--backbone", backbone]
    given += ["--epochs", 4, "--evaluate-every", 4, "--crop", 96, "--batch-size", 4, "--lr", 0.01]
    given += ["--workers", 0]
    for name, source in {"scenes": shapes(), "photographs": real_data / "voc2012-animals"}.items():
        root, out = few_pictures(source, tmp_path / name), tmp_path / f"run-{name}"
        assert fcn("train", "--data", root, *given, "--out", out) == 0
        losses = [record["loss"] for record in read_log(out)]
        assert losses[-1] < losses[0] - 0.2
        checkpoint = load_checkpoint(out)
        pictures = SegmentationFolder(root, "val", to_float())
        assert checkpoint.classes.names == tuple(pictures.classes)
        matrix = evaluate(checkpoint.network().eval(), pictures)
        asked = sum(int((labels != 255).sum()) for _, labels in pictures)
        assert int(matrix.counts.sum()) == asked
        assert matrix.mean_iou() == pytest.approx(checkpoint.scores["mean_iou"])
