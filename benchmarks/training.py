"""How long a training step waits for its data, and what denormal numbers and new memory cost.

    python benchmarks/training.py [DIR]    (default: $FCN_VOC or VOC in data/, else shapes)

1. `fcn train` itself, one epoch over 96 pictures, with 0, 1 and 2 reading processes: the share
   of the time in which the loop waits for a batch, and pictures per second.
2. Steps of an untrained network with and without torch.set_flush_denormal, which train() sets.
   Numbers below 1e-38 take a CPU many times as long; a network whose score layers start at zero
   and whose features fade from layer to layer makes them.
3. Steps of the FCN-8s that notebook 09 trains, with and without keep_freed_memory, which train()
   calls: without it, each step waits while the system fills the pages of its maps with zeros.

Ways take turns, each in a process of its own, since the settings stay with a process.
Results are medians, with their range.
"""

import contextlib
import io
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from fcnlib.data import find_voc, shapes
from fcnlib.data.folder import read_ids
from fcnlib.losses import pixel_cross_entropy
from fcnlib.memory import keep_freed_memory
from fcnlib.models import build_model
from fcnlib.recipes import modern_optimizer
from fcnlib.run import read_log
from fcnlib.settings import Settings
from fcnlib.training import train

ROUNDS = 3
PICTURES = 96
STEPS = 12
MORE_STEPS = 60  # a process first finds out what memory it needs


def share_waited(root: Path, workers: int) -> tuple[float, float]:
    """Train for an epoch; return the share of it spent waiting, and pictures per second."""
    with tempfile.TemporaryDirectory() as name, contextlib.redirect_stdout(io.StringIO()):
        folder = Path(name) / "data"
        lists = folder / "ImageSets" / "Segmentation"
        lists.mkdir(parents=True)
        for part in ("JPEGImages", "SegmentationClass"):
            (folder / part).symlink_to((root / part).resolve())
        if (root / "labels.txt").exists():
            (folder / "labels.txt").symlink_to((root / "labels.txt").resolve())
        (lists / "train.txt").write_text("\n".join(read_ids(root, "train")[:PICTURES]) + "\n")
        (lists / "val.txt").write_text(read_ids(root, "val")[0] + "\n")
        settings = Settings(
            str(folder), backbone="squeezenet1_1", epochs=1, crop=256, workers=workers
        )
        record = read_log(train(settings, Path(name) / "run"))[0]
    return record["waited_for_data"], record["images_per_second"]


def first_steps(flush: bool) -> float:
    """Return the median of the first steps of an untrained FCN-8s over SqueezeNet."""
    torch.set_flush_denormal(flush)
    torch.manual_seed(0)
    network = build_model("fcn8s", 8, "squeezenet1_1").train()
    return seconds_per_step(network, torch.rand(4, 3, 160, 160), STEPS)


def later_steps(keep: bool) -> float:
    """Return the median of many steps of notebook 09's FCN-8s."""
    torch.set_flush_denormal(True)
    if keep:
        keep_freed_memory()
    torch.manual_seed(0)
    network = build_model("fcn8s", 8, "vgg11_bn", width=0.25, fc6_size=2).train()
    return seconds_per_step(network, torch.rand(4, 3, 128, 128), MORE_STEPS)


def seconds_per_step(network: nn.Module, images: Tensor, steps: int) -> float:
    optimizer = modern_optimizer(network, lr=1e-3, pretrained_factor=1.0)
    labels = torch.randint(8, (len(images), *images.shape[2:]))
    times = []
    for _ in range(steps):
        start = time.perf_counter()
        pixel_cross_entropy(network(images), labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def in_turns(ways: dict[str, tuple[Callable[..., Any], tuple]]) -> dict[str, list[Any]]:
    """Run each way ROUNDS times, in turns, each time in a new process."""
    results: dict[str, list[Any]] = {name: [] for name in ways}
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as processes:
        for _ in range(ROUNDS):
            for name, (function, arguments) in ways.items():
                results[name].append(processes.submit(function, *arguments).result())
    return results


def spread(values: list[float], form: str) -> str:
    middle, low, high = statistics.median(values), min(values), max(values)
    return f"{middle:{form}} ({low:{form}} to {high:{form}})"


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else find_voc() or shapes()
    print(f"{PICTURES} pictures of {root.name}, {torch.get_num_threads()} threads")
    waits = in_turns({f"{n} workers": (share_waited, (root, n)) for n in (0, 1, 2)})
    for name, rounds in waits.items():
        shares, speeds = zip(*rounds, strict=True)
        print(f"{name}: waits {spread(shares, '.1%')}, {spread(speeds, '.1f')} pictures/s")
    for ways in (
        {"denormals kept": (first_steps, (False,)), "set to 0": (first_steps, (True,))},
        {"memory given back": (later_steps, (False,)), "kept": (later_steps, (True,))},
    ):
        steps = in_turns(ways)
        for name, times in steps.items():
            print(f"{name}: {spread([1000 * t for t in times], '.0f')} ms a step")
        ratios = [a / b for a, b in zip(*steps.values(), strict=True)]
        print(f"ratio: {spread(ratios, '.2f')}")


if __name__ == "__main__":
    main()
