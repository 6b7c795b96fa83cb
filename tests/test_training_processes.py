"""Several processes train as one: the same losses, and every picture is counted once."""

import json
import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from training_cases import (
    PROCESSES,
    arguments,
    check_sentence,
    finish,
    log_of,
    make_data,
    said_of,
    start,
    tiny,
    weights_of,
)

from fcnlib.checkpoint import find_checkpoint, load_checkpoint
from fcnlib.cli import main
from fcnlib.data import SegmentationFolder, to_float
from fcnlib.evaluation import evaluate, scores
from fcnlib.settings import Settings

SAME = {"dropout": 0.0, "batch_size": 4, "evaluate_every": 2}
"""Each process draws its own dropout; with BatchNorm, too, two would differ from one."""


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("processes") / "data", train=9, val=5)


@pytest.fixture(scope="module")
def alone(data, tmp_path_factory):
    """The run of one process."""
    out = tmp_path_factory.mktemp("alone") / "run"
    assert finish(tiny(data, **SAME), out) == 0
    return out


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def environments(count: int) -> list[dict[str, str]]:
    """What torchrun tells each process."""
    port = str(free_port())
    return [
        {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(count),
         "LOCAL_WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
        for rank in range(count)
    ]  # fmt: skip


def finish_together(settings: Settings, out: Path, count: int = 2, **more: Any) -> list[int]:
    """Train in several processes; return their statuses."""
    processes = [start(settings, out, environment=each, **more) for each in environments(count)]
    for process in processes:
        process.join(120)
        process.kill()
    return [process.exitcode for process in processes]


def check_like_one(out: Path, alone: Path) -> None:
    ours, theirs = log_of(out), log_of(alone)
    assert [record["epoch"] for record in ours] == [1, 2]
    for one, other in zip(ours, theirs, strict=True):
        assert one["loss"] == pytest.approx(other["loss"], abs=1e-5)
        assert one["lr"] == other["lr"]
        assert one.keys() == other.keys()
    assert ours[1]["baseline"] == theirs[1]["baseline"]  # each pixel was counted once
    for metric in ("pixel_accuracy", "mean_accuracy", "mean_iou", "frequency_weighted_iou"):
        assert ours[1][metric] == pytest.approx(theirs[1][metric], abs=1e-3)
    found, expected = weights_of(out, 2), weights_of(alone, 2)
    assert found.keys() == expected.keys()
    for name, numbers in found.items():
        torch.testing.assert_close(numbers, expected[name], rtol=1e-3, atol=1e-4)


def test_two_processes_train_as_one(data, alone, tmp_path):
    assert finish_together(tiny(data, **SAME), tmp_path / "run") == [0, 0]
    check_like_one(tmp_path / "run", alone)
    assert load_checkpoint(tmp_path / "run").settings == load_checkpoint(alone).settings


def test_the_sum_of_the_paper_is_that_of_one(data, tmp_path):
    settings = tiny(data, **SAME | {"recipe": "paper", "lr": 1e-6, "crop": 32})
    assert finish(settings, tmp_path / "one") == 0
    assert finish_together(settings, tmp_path / "two") == [0, 0]
    check_like_one(tmp_path / "two", tmp_path / "one")


def test_the_score_is_that_of_the_network_that_is_saved(data, tmp_path):
    """Each process has BatchNorm's means of its own, and scores some of the pictures."""
    settings = tiny(
        data,
        model="fcn_decoder",
        backbone="vgg11_bn",
        width=1 / 16,
        batch_size=2,
        epochs=3,
        lr=0.01,
    )
    assert finish_together(settings, tmp_path / "run") == [0, 0]
    checkpoint = load_checkpoint(tmp_path / "run")
    folder = SegmentationFolder(data, "val", to_float())
    matrix = evaluate(checkpoint.network(), folder)
    assert scores(matrix, folder.classes) == checkpoint.scores
    assert matrix.counts[:, 1:].sum() > 0  # not all background


def test_one_goes_on_where_two_stopped(data, alone, tmp_path):
    out = tmp_path / "run"
    settings = tiny(data, **SAME)
    statuses = finish_together(settings, out, fault=AfterFirst())
    assert statuses[0] == 1 and find_checkpoint(out).name == "epoch-0001"
    check_sentence(said_of(data, out), "epoch-0002", "--resume")
    assert finish(settings, out) == 0
    check_like_one(out, alone)


class AfterFirst:
    """The disk is full when the second checkpoint is written."""

    def __call__(self, number: int, event: str, path: str) -> None:
        if event == "before" and ".epoch-0002" in path:
            raise OSError(28, "No space left on device", path)


def test_a_batch_that_cannot_be_shared(data, tmp_path):
    assert finish_together(tiny(data, **SAME | {"batch_size": 3}), tmp_path / "run") == [1, 1]
    check_sentence(said_of(data, tmp_path / "run"), "A batch of 3", "2 processes")


def count(data: Path, checkpoint: Path, environment: dict[str, str], file: Path) -> None:
    os.environ.update(environment)
    torch.set_num_threads(1)
    val = SegmentationFolder(data, "val", to_float())
    matrix = evaluate(load_checkpoint(checkpoint).network(), val, workers=0)
    file.write_text(json.dumps(matrix.counts.tolist()))


@pytest.mark.parametrize("processes", [2, 3])
def test_evaluation_counts_every_picture_once(data, alone, tmp_path, processes):
    """Five pictures, which neither two nor three processes share evenly; all get the sums."""
    files = [tmp_path / str(k) for k in range(processes)]
    started = [
        PROCESSES.Process(target=count, args=(data, alone, environment, file))
        for environment, file in zip(environments(processes), files, strict=True)
    ]
    for process in started:
        process.start()
    for process in started:
        process.join(120)
        assert process.exitcode == 0
    val = SegmentationFolder(data, "val", to_float())
    expected = evaluate(load_checkpoint(alone).network(), val).counts
    assert expected.sum() == sum(int((labels != 255).sum()) for _, labels in val)
    for file in files:
        assert torch.equal(torch.tensor(json.loads(file.read_text())), expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ["accelerate.commands.launch", "--multi_gpu", "--num_processes", "2", "--num_machines",
         "1", "--mixed_precision", "no", "--dynamo_backend", "no"],
        ["torch.distributed.run", "--nproc-per-node", "2"],
    ],
    ids=["accelerate", "torchrun"],
)  # fmt: skip
def test_the_launchers(data, alone, tmp_path, capsys, launcher):
    """On CPUs too, accelerate starts several processes with --multi_gpu; with --cpu only one."""
    out = tmp_path / "run"
    name, *options = launcher
    port = {"accelerate.commands.launch": "--main_process_port"}.get(name, "--master-port")
    done = subprocess.run(
        [sys.executable, "-m", name, *options, port, str(free_port()), "-m", "fcnlib",
         *arguments(tiny(data, **SAME), out)],
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    check_like_one(out, alone)
    # They were two: gradients that are added in another order are rounded otherwise.
    ours, theirs = weights_of(out, 2), weights_of(alone, 2)
    assert not all(torch.equal(numbers, theirs[name]) for name, numbers in ours.items())
    assert [line.partition(":")[0] for line in done.stdout.splitlines()] == [
        "epoch 1/2", "epoch 2/2",
    ]  # fmt: skip
    assert "Traceback" not in done.stderr
    scores = []
    for run in (out, alone):
        capsys.readouterr()
        command = ["evaluate", "--checkpoint", str(run), "--data", str(data), "--workers", "0"]
        assert main([*command, "--json", str(tmp_path / "scores.json")]) == 0
        scores.append(json.loads((tmp_path / "scores.json").read_text()))
    assert scores[0]["mean_iou"] == pytest.approx(scores[1]["mean_iou"], abs=1e-3)
