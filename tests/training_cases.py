"""What the tests of training share: tiny data, settings that train on it fast, processes."""

import errno
import itertools
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file

from fcnlib import checkpoint, training
from fcnlib.checkpoint import find_checkpoint
from fcnlib.data import save_labels
from fcnlib.errors import UserError
from fcnlib.models.weights import read_weights
from fcnlib.run import read_log
from fcnlib.settings import Settings
from fcnlib.training import train

os.environ["ACCELERATE_USE_CPU"] = "true"  # numbers are compared bit for bit

PROCESSES = multiprocessing.get_context("forkserver")
"""Its processes start at once: they are forks of one that has imported everything."""
PROCESSES.set_forkserver_preload(
    ["fcnlib.training", "matplotlib.backends.backend_agg", "torch.utils.tensorboard"]
)

CLASSES = ("background", "dark", "light")
TIMES = ("seconds", "images_per_second", "waited_for_data")


def make_data(root: Path, train: int = 6, val: int = 3, sizes: str = "several") -> Path:
    """A VOC-layout folder of noise with dark and light patches; the rim of each is void."""
    for name in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (root / name).mkdir(parents=True)
    (root / "labels.txt").write_text("\n".join(CLASSES) + "\n")
    random = np.random.default_rng(0)
    lists = root / "ImageSets" / "Segmentation"
    for split, count in (("train", train), ("val", val)):
        ids = [f"{split}{k}" for k in range(count)]
        (lists / f"{split}.txt").write_text("\n".join(ids) + "\n")
        for k, id_ in enumerate(ids):
            height, width = (40, 48) if sizes == "one" else (36 + 4 * (k % 3), 48 - 4 * (k % 2))
            labels = np.zeros((height, width), np.uint8)
            for label in (1, 2):
                top, left = random.integers(0, 20, 2)
                labels[top : top + 14, left : left + 14] = 255
                labels[top + 1 : top + 13, left + 1 : left + 13] = label
            shades = np.array([128, 40, 220])[np.where(labels == 255, 0, labels)]
            picture = shades[..., None] + random.normal(0, 20, (height, width, 3))
            Image.fromarray(picture.clip(0, 255).astype(np.uint8)).save(
                root / "JPEGImages" / f"{id_}.jpg"
            )
            save_labels(root / "SegmentationClass" / f"{id_}.png", labels)
    return root


def few_pictures(source: Path, target: Path) -> Path:
    """Make a VOC folder of 12 of the source's pictures to train with and 10 to score on: links."""
    lists = Path("ImageSets") / "Segmentation"
    names = {
        kind: (source / lists / f"{kind}.txt").read_text().split() for kind in ("train", "val")
    }
    (target / lists).mkdir(parents=True)
    for split in ("train", "animals-train", "val", "animals-val", "seg11valid"):
        few = names["train"][:12] if "train" in split else names["val"][:10]
        (target / lists / f"{split}.txt").write_text("\n".join(few) + "\n")
    for name in ("JPEGImages", "SegmentationClass", "labels.txt"):
        if (source / name).exists():
            (target / name).symlink_to(source / name)
    return target


def tiny(data: Path, **changes: Any) -> Settings:
    """Settings of a training that takes a fraction of a second; dropout is in the network."""
    given = {
        "model": "fcn8s",
        "backbone": "squeezenet1_1",
        "width": 0.1,
        "epochs": 2,
        "batch_size": 2,
        "crop": 32,
        "lr": 0.01,
        "precision": "fp32",
        "workers": 0,
    }
    return Settings(data=str(data), **(given | changes))


def arguments(settings: Settings, out: Path) -> list[str]:
    """The same as a command: ``fcn train ...``."""
    words = ["train", "--out", str(out)]
    for name, value in vars(settings).items():
        if value is not None and value != getattr(Settings(data=""), name):
            values = value if isinstance(value, tuple) else (value,)
            words += [f"--{name.replace('_', '-')}", *map(str, values)]
    return words


def weights_of(run: Path, epoch: int) -> dict[str, torch.Tensor]:
    return read_weights(run / f"epoch-{epoch:04}" / "model.safetensors")[0]


def log_of(run: Path) -> list[dict[str, Any]]:
    """The log without what a clock measured."""
    return [{k: v for k, v in record.items() if k not in TIMES} for record in read_log(run)]


def check_equal_runs(one: Path, other: Path, epochs: int) -> None:
    """Bit for bit the same weights, optimiser and log; one line per epoch, one checkpoint."""
    ours, theirs = weights_of(one, epochs), weights_of(other, epochs)
    assert ours.keys() == theirs.keys()
    for name, numbers in ours.items():
        assert torch.equal(numbers, theirs[name]), name
    states = [
        torch.load(run / f"epoch-{epochs:04}" / "optimizer.pt", weights_only=True)
        for run in (one, other)
    ]
    torch.testing.assert_close(*states, rtol=0, atol=0)
    assert log_of(one) == log_of(other)
    assert [record["epoch"] for record in log_of(one)] == list(range(1, epochs + 1))
    for run in (one, other):
        assert find_checkpoint(run).name == f"epoch-{epochs:04}"
        assert not list(run.glob(".epoch-*"))


def check_sentence(error: BaseException | str, *words: object) -> None:
    """One line that ends as a sentence and names what it should."""
    text = str(error)
    assert "\n" not in text
    assert text.endswith("."), text
    for word in words:
        assert str(word) in text, text


# --- processes that something happens to


def start(settings: Settings, out: Path, **more: Any) -> multiprocessing.Process:
    """Begin to train, or go on, in a process of its own; see :func:`_train`."""
    process = PROCESSES.Process(target=_train, args=(settings, out), kwargs=more)
    process.start()
    return process


def finish(settings: Settings, out: Path, **more: Any) -> int:
    """The same, to the end; return the status: 0, 1 for a UserError, -9 for a kill."""
    process = start(settings, out, **more)
    process.join(300)
    assert process.exitcode is not None
    return process.exitcode


def said_of(data: Path, out: Path) -> str:
    """What the run in ``out`` said last: a file beside the data."""
    return data.with_name(f"{out.name}.said").read_text()


def _train(
    settings: Settings,
    out: Path,
    fault: Callable[[int, str, str], None] | None = None,
    environment: dict[str, str] | None = None,
    readers: str = "fork",
) -> None:
    """Train with resume; a UserError's sentence goes to a file, see said_of; status 1.

    ``fault`` is called just before each write under ``out``, with its number, the event and
    the path: it may kill this process, or raise. ``readers`` says how workers are started.
    """
    os.environ.update(environment or {})
    multiprocessing.set_start_method(readers, force=True)
    torch.set_num_threads(1)
    training.NUM_SAMPLES = 1
    if fault is not None:
        _watch(out, fault)
    try:
        train(settings, out, resume=True)
    except UserError as error:
        Path(settings.data).with_name(f"{out.name}.said").write_text(str(error))
        sys.exit(1)


def _watch(out: Path, fault: Callable[[int, str, str], None]) -> None:
    numbers, mine = itertools.count(1), os.getpid()

    def hook(event: str, given: tuple[Any, ...]) -> None:
        if os.getpid() != mine:  # a process that reads pictures
            return
        if event == "open":
            writes = isinstance(given[2], int) and given[2] & (os.O_WRONLY | os.O_RDWR)
        else:
            writes = event in ("os.mkdir", "os.rename", "os.remove", "os.rmdir")
        relative = event in ("os.remove", "os.rmdir") and given[1] != -1  # rmtree's
        if writes and (relative or Path(str(given[0])).is_relative_to(out)):
            fault(next(numbers), event, str(given[0]))

    def watched(content: Any, path: Path) -> None:
        fault(next(numbers), "before", str(path))
        save_file(content, path)
        fault(next(numbers), "half", str(path))

    checkpoint.save_file = watched  # writes in Rust, where Python sees nothing
    sys.addaudithook(hook)


class Kill:
    """kill -9 just before the write of this number."""

    def __init__(self, number: int) -> None:
        self.number = number

    def __call__(self, number: int, event: str, path: str) -> None:
        if number == self.number:
            if event == "half":
                os.truncate(path, os.path.getsize(path) // 2)
            os.kill(os.getpid(), signal.SIGKILL)


class Fail:
    """From the write of this number on, an error; what only deletes still works."""

    def __init__(self, number: int, code: int = errno.ENOSPC) -> None:
        self.number, self.code = number, code

    def __call__(self, number: int, event: str, path: str) -> None:
        if number >= self.number and event not in ("os.remove", "os.rmdir"):
            raise OSError(self.code, os.strerror(self.code), path)
