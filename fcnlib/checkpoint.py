"""Checkpoints: a trained network and how it came about, as a folder without any pickle code.

A run's folder holds ``epoch-0003/``, the newest checkpoint:

    model.safetensors   the weights
    checkpoint.json     model, classes and colours, normalisation, scores, settings, versions
    optimizer.pt        the optimiser's state, tensors and numbers alone

It is written under another name and renamed when all of it is on the disk, so whatever bears
the name is whole. Older ones are deleted afterwards.
"""

import json
import os
import platform
import shutil
import subprocess
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from fcnlib import __version__
from fcnlib.data.folder import find_classes
from fcnlib.data.labels import VOID, voc_colormap
from fcnlib.data.places import checkout
from fcnlib.errors import CheckpointError, UserError
from fcnlib.models import Normalization, Normalize, build_model

FORMAT = 1
WEIGHTS, FACTS, OPTIMIZER = "model.safetensors", "checkpoint.json", "optimizer.pt"


@dataclass(frozen=True)
class Classes:
    """The classes of a network: their names, and their numbers and colours in masks."""

    names: tuple[str, ...]
    numbers: tuple[int, ...]
    colors: tuple[tuple[int, int, int], ...] = ()

    def __post_init__(self) -> None:
        if not self.colors:
            colors = tuple(tuple(map(int, voc_colormap()[number])) for number in self.numbers)
            object.__setattr__(self, "colors", colors)

    def choose(self, names: Sequence[str] | None) -> tuple["Classes", tuple[int, ...] | None]:
        """Return the classes of these names and their positions; all, and None, for None.

        Raises DataError for a name that is not among them.
        """
        if names is None:
            return self, None
        positions = find_classes(names, self.names, "The checkpoint")
        chosen = (tuple(values[k] for k in positions) for values in asdict(self).values())
        return Classes(*chosen), positions

    def in_masks(self, labels: Tensor) -> Tensor:
        """Turn labels 0..K-1 into the numbers that masks have for them; void stays."""
        numbers = torch.full((256,), VOID, dtype=torch.uint8)
        numbers[: len(self.numbers)] = torch.tensor(self.numbers, dtype=torch.uint8)
        return numbers[labels.long().cpu()]

    def palette(self) -> np.ndarray:
        """Return the colours of masks, (256, 3) uint8: VOC's, but for these classes."""
        colors = voc_colormap().copy()
        colors[list(self.numbers)] = self.colors
        return colors


@dataclass
class Checkpoint:
    """A network and what is known of it. ``model`` has the arguments of build_model."""

    model: dict[str, Any]
    classes: Classes
    epoch: int = 0
    scores: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    folder: Path = Path()

    def network(self) -> nn.Module:
        """Return the network with its weights. Raises CheckpointError."""
        facts = _read_facts(self.folder)
        try:
            network = build_model(**self.model, weights=self.folder / WEIGHTS)
            network.normalize = Normalize(_normalization(facts["normalization"]))
        except UserError as error:
            raise CheckpointError(str(error)) from error
        except (KeyError, TypeError, ValueError, OverflowError, RuntimeError) as error:
            raise CheckpointError(
                f"{self.folder / FACTS} names no network that this fcnlib can build "
                f"({_reason(error)}): train again, or give another checkpoint."
            ) from error
        return network

    def optimizer_state(self) -> dict[str, Any]:
        """Return the optimiser's state_dict. No code is run. Raises CheckpointError."""
        path = self.folder / OPTIMIZER
        try:
            return torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:  # of a damaged file, PyTorch raises nearly anything
            raise CheckpointError(
                f"{path} is missing, damaged, or holds more than numbers: go on with another "
                "copy of this run, or start a new one with --init-from."
            ) from error


def save_checkpoint(
    run: Path, checkpoint: Checkpoint, network: nn.Module, optimizer: torch.optim.Optimizer
) -> Path:
    """Write ``run``/epoch-NNNN whole or not at all, then delete older ones; return it.

    Raises CheckpointError where it cannot be written; an older one then is still there.
    """
    folder = run / f"epoch-{checkpoint.epoch:04}"
    beside = run / f".{folder.name}"
    facts = {
        "format": FORMAT,
        "model": checkpoint.model,
        "classes": asdict(checkpoint.classes),
        "normalization": asdict(network.normalize.normalization),  # type: ignore[union-attr,arg-type]
        "epoch": checkpoint.epoch,
        "scores": checkpoint.scores,
        "settings": checkpoint.settings,
        "git": _git(),
        "versions": _versions(),
    }
    try:
        shutil.rmtree(beside, ignore_errors=True)
        beside.mkdir()
        state = {name: numbers.contiguous() for name, numbers in network.state_dict().items()}
        save_file(state, beside / WEIGHTS)
        with (beside / OPTIMIZER).open("wb") as file:  # else PyTorch hides why it cannot write
            torch.save(optimizer.state_dict(), file)
        (beside / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
        for path in beside.iterdir():
            _to_disk(path)
        beside.rename(folder)
    except (OSError, SafetensorError, RuntimeError) as error:
        shutil.rmtree(beside, ignore_errors=True)
        # torch.save's RuntimeError comes of the file's OSError.
        reason = error.__context__ if isinstance(error.__context__, OSError) else error
        raise CheckpointError(
            f"{folder} cannot be written ({_reason(reason)}): make room or choose another folder, "
            "then go on with --resume."
        ) from error
    for older in _checkpoints(run):
        if older != folder:
            shutil.rmtree(older, ignore_errors=True)
    return folder


def find_checkpoint(path: str | Path) -> Path | None:
    """Return the folder of a run's newest checkpoint, or path if it is one; else None."""
    path = Path(path)
    if (path / FACTS).exists():
        return path
    return max(_checkpoints(path), key=_epoch, default=None)


def load_checkpoint(path: str | Path) -> Checkpoint:
    """Read what is known of a checkpoint, or of a run's newest. Raises CheckpointError."""
    folder = find_checkpoint(path)
    if folder is None:
        raise CheckpointError(
            f"{path} holds no checkpoint: give the folder that `fcn train --out` wrote."
        )
    facts = _read_facts(folder)
    try:
        known = facts["classes"]
        classes = Classes(
            tuple(map(str, known["names"])),
            tuple(map(int, known["numbers"])),
            tuple((int(r), int(g), int(b)) for r, g, b in known["colors"]),
        )
        model = dict(facts["model"])
        if not len(classes.names) == len(classes.numbers) == len(classes.colors):
            raise ValueError("names, numbers and colors differ in length")
        if model["num_classes"] != len(classes.names):
            raise ValueError("the model has another number of classes")
        if not {*classes.numbers} <= {*range(VOID)} or len({*classes.numbers}) < len(classes.names):
            raise ValueError(f"numbers of classes must be 0 to {VOID - 1}, each once")
        if not {value for color in classes.colors for value in color} <= {*range(256)}:
            raise ValueError("colors must be 0 to 255")
        return Checkpoint(
            model,
            classes,
            int(facts["epoch"]),
            dict(facts["scores"]),
            dict(facts["settings"]),
            folder,
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(
            f"{folder / FACTS} is no checkpoint's of this fcnlib ({_reason(error)}): train "
            "again, or give another checkpoint."
        ) from error


def _checkpoints(run: Path) -> list[Path]:
    return [path for path in run.glob("epoch-*") if _epoch(path) >= 0 and path.is_dir()]


def _epoch(folder: Path) -> int:
    """Return the number in a checkpoint's name; -1 for another name, such as a copy's."""
    number = folder.name.removeprefix("epoch-")
    return int(number) if number.isdecimal() else -1


def _read_facts(folder: Path) -> dict[str, Any]:
    path = folder / FACTS
    if not folder.is_dir():
        raise CheckpointError(
            f"{folder} is gone: a training that goes on keeps its newest checkpoint alone. Give "
            "the same command again."
        )
    try:
        facts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise CheckpointError(
            f"{path} cannot be read ({_reason(error)}): the checkpoint is damaged; "
            "give another one."
        ) from error
    if not isinstance(facts, dict) or facts.get("format") != FORMAT:
        raise CheckpointError(
            f"{path} is not of a checkpoint of this fcnlib: give a folder that `fcn train` wrote."
        )
    return facts


def _normalization(facts: dict[str, Any]) -> Normalization:
    mean, std = ((float(r), float(g), float(b)) for r, g, b in (facts["mean"], facts["std"]))
    return Normalization(facts["order"], float(facts["scale"]), mean, std)


def _to_disk(path: Path) -> None:
    """Have the system write a file now, so that a power cut cannot leave it empty."""
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _git() -> dict[str, Any]:
    """Return the commit of the course's checkout, and whether files differ from it."""
    if (folder := checkout()) is None:
        return {}
    with suppress(OSError, subprocess.CalledProcessError):
        commit, changes = (
            subprocess.run(
                ["git", "-C", folder, *arguments], capture_output=True, text=True, check=True
            ).stdout.strip()
            for arguments in (["rev-parse", "HEAD"], ["status", "--porcelain"])
        )
        return {"commit": commit, "changed": bool(changes)}
    return {}


def _versions() -> dict[str, str]:
    packages = ("torch", "torchvision", "numpy", "accelerate")
    return {"python": platform.python_version(), "fcnlib": __version__} | {
        name: metadata.version(name) for name in packages
    }


def _reason(error: Exception) -> str:
    text = getattr(error, "strerror", None) or " ".join(str(error).split())
    return text[:200]
