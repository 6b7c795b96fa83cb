"""The settings of a run: all that decides what it computes, as the command and JSON give it."""

import operator
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from fcnlib.checkpoint import find_checkpoint, load_checkpoint
from fcnlib.errors import CheckpointError, RunError, UsageError, UserError
from fcnlib.recipes import RECIPES

NETWORK = ("backbone", "geometry", "upsampling", "width")  # what --init-from hands on
PRECISIONS = {"auto": "", "fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # accelerate's words
LIMITS = {"crop": 2**16, "width": 2**10, "scale": 2**10}  # beyond, sizes overflow in PyTorch
LIMIT = 2**63  # of all other numbers: PyTorch takes no seed beyond


@dataclass(frozen=True)
class Settings:
    """All that decides what a run computes. None: what the recipe, network or data says."""

    data: str
    model: str = "fcn8s"
    backbone: str | None = None
    weights: str | None = None
    init_from: str | None = None
    geometry: str = "same"
    upsampling: str = "bilinear"
    width: float = 1.0
    classes: tuple[str, ...] | None = None
    train_split: str = "train"
    val_split: str = "val"
    recipe: str = "modern"
    epochs: int = 20
    batch_size: int | None = None
    crop: int | None = None
    scale: tuple[float, float] = (0.5, 2.0)
    dropout: float | None = None
    lr: float | None = None
    pretrained_factor: float = 0.1
    precision: str = "auto"
    seed: int = 0
    evaluate_every: int = 1
    workers: int = 0

    def complete(self) -> "Settings":
        """Return the settings without None where the recipe has a number. Raises UsageError."""
        for name, known in (("recipe", RECIPES), ("precision", PRECISIONS)):
            if (value := getattr(self, name)) not in known:
                raise UsageError(f"{name} must be one of {', '.join(known)}, not {value!r}.")
        recipe = RECIPES[self.recipe]
        low, high = self.scale
        whole = replace(
            self,
            data=str(self.data),  # may have been a Path, as the next two
            weights=None if self.weights is None else str(self.weights),
            init_from=None if self.init_from is None else str(self.init_from),
            classes=None if self.classes is None else tuple(self.classes),
            scale=(float(low), float(high)),
            lr=recipe.lr_of_stage.get(self.model, recipe.lr) if self.lr is None else self.lr,
            batch_size=recipe.batch_size if self.batch_size is None else self.batch_size,
            crop=recipe.crop if self.crop is None else self.crop,
        )
        if self.weights is not None and self.init_from is not None:
            raise UsageError("Give either weights or a run to start from (init_from), not both.")
        whole = replace(whole, **_plain_numbers(whole))
        _check_numbers(whole)
        return whole


def _plain_numbers(settings: Settings) -> dict[str, Any]:
    """Return the numbers as Python's own, which JSON can keep; NumPy's may be given."""
    whole = ("epochs", "batch_size", "crop", "seed", "evaluate_every", "workers")
    numbers: dict[str, Any] = {name: operator.index(getattr(settings, name)) for name in whole}
    for name in ("lr", "width", "pretrained_factor"):
        numbers[name] = float(getattr(settings, name))
    return numbers


def _check_numbers(settings: Settings) -> None:
    """Raise UsageError for a number that no run can have."""
    for name in ("epochs", "batch_size", "lr", "width", "evaluate_every"):
        value, limit = getattr(settings, name), LIMITS.get(name, LIMIT)
        if not 0 < value < limit:
            raise UsageError(f"{name} must be more than 0 and less than {limit:,}, not {value}.")
    for name in ("crop", "seed", "workers", "pretrained_factor"):
        value, limit = getattr(settings, name), LIMITS.get(name, LIMIT)
        if not 0 <= value < limit:
            raise UsageError(f"{name} must be 0 or more and less than {limit:,}, not {value}.")
    low, high = settings.scale
    if not 0 < low <= high < LIMITS["scale"]:
        raise UsageError(
            f"scale must be two factors, the smaller first, below {LIMITS['scale']:,}, "
            f"not {low:g} {high:g}."
        )
    if settings.dropout is not None and not 0 <= settings.dropout < 1:
        raise UsageError(f"dropout must be at least 0 and less than 1, not {settings.dropout}.")


def settings_for(run: str | Path, given: dict[str, Any], resume: bool) -> Settings:
    """Return the settings of a run: what is given, else what an earlier run says.

    A run that goes on has its own settings; one that starts from another run has that run's
    network and classes. Raises UsageError for what is given, or if no data is; other UserErrors
    for what the earlier run says.
    """
    Settings(**{"data": "", **given}).complete()
    known: dict[str, Any] = {}
    if resume and find_checkpoint(run):
        known = dict(load_checkpoint(run).settings)
    elif source := given.get("init_from"):
        checkpoint = load_checkpoint(source)
        known = {name: checkpoint.model[name] for name in NETWORK if name in checkpoint.model}
        known["classes"] = checkpoint.classes.names
    known |= given
    if "data" not in known:
        raise UsageError("There is no data to train on: name its folder (--data).")
    return settings_from(known, run)


def settings_from(known: dict[str, Any], where: str | Path) -> Settings:
    """Return Settings from a dictionary, as JSON keeps it."""
    tuples = {name: tuple(value) for name, value in known.items() if isinstance(value, list)}
    try:
        settings = Settings(**{**known, **tuples})
        settings.complete()
        return settings
    except UsageError as error:  # in a file it is no wrong use of the command
        raise RunError(str(error)) from error
    except UserError:
        raise
    except (TypeError, ValueError) as error:
        raise CheckpointError(
            f"{where} holds settings that this fcnlib does not know ({error}): begin a new run "
            "with --init-from."
        ) from error


def check_same(stored: Settings, wanted: Settings, run: Path) -> None:
    """Raise RunError where settings differ that decide what a run computes."""
    for name, value in asdict(stored.complete()).items():
        if name not in ("data", "workers") and getattr(wanted, name) != value:
            raise RunError(
                f"The run in {run} has {name} {value}, not {getattr(wanted, name)}: leave it "
                "out to go on, or begin a new run in another folder with --init-from."
            )
