"""What a run writes while it trains: its log, its samples, and who may write at all."""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import torch
from filelock import FileLock, Timeout
from matplotlib.figure import Figure

from fcnlib.errors import RunError
from fcnlib.plots import class_legend, show_image, show_labels

LOG = "log.jsonl"


@contextmanager
def only_writer(run: Path) -> Iterator[None]:
    """Hold a run's folder, made if need be. Raises RunError if another process holds it."""
    try:
        run.mkdir(parents=True, exist_ok=True)
        with FileLock(run / ".lock", blocking=False):
            yield
    except Timeout:
        raise RunError(
            f"Another run is writing into {run}: wait for it, or choose another folder."
        ) from None


class Log:
    """RUN/log.jsonl, one line of JSON per epoch; and TensorBoard's files, if it is installed."""

    def __init__(self, run: Path, epochs_done: int) -> None:
        self.path = run / LOG
        kept = [record for record in read_log(run) if record["epoch"] <= epochs_done]
        beside = run / f".{LOG}"
        beside.write_text("".join(json.dumps(record) + "\n" for record in kept))
        beside.replace(self.path)  # without the epoch that a break cut short
        self._board = _tensorboard(run / "tensorboard", epochs_done)

    def write(self, record: dict[str, Any]) -> None:
        """Add an epoch: its number is ``record["epoch"]``."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")
        if self._board is not None:
            for name, value in record.items():
                if isinstance(value, float):
                    self._board.add_scalar(name, value, record["epoch"])
            self._board.flush()

    def __enter__(self) -> "Log":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._board is not None:
            self._board.close()


def read_log(run: str | Path) -> list[dict[str, Any]]:
    """Return the records of a run's log, one per epoch; a last line cut short is left out."""
    path = Path(run) / LOG
    records: list[dict[str, Any]] = []
    if not path.exists():
        return records
    for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
        try:
            record = json.loads(line)
            records.append(record | {"epoch": int(record["epoch"])})
        except (ValueError, TypeError, KeyError, OverflowError):
            break
    return records


def save_samples(
    path: Path,
    images: Sequence[torch.Tensor],
    labels: Sequence[torch.Tensor],
    predictions: Sequence[torch.Tensor],
    names: Sequence[str],
) -> None:
    """Write a PNG: a row for each picture with its labels and the prediction.

    The labels are numbers as in the data's masks; ``names`` has a name for each number.
    """
    figure = Figure(figsize=(9, 3 * len(images) + 0.6), layout="constrained")
    axes = figure.subplots(len(images), 3, squeeze=False)
    for row, image, truth, predicted in zip(axes, images, labels, predictions, strict=True):
        show_image(row[0], image, "picture")
        show_labels(row[1], truth, "labels")
        show_labels(row[2], predicted, "prediction")
    everything = torch.cat([labels_.flatten() for labels_ in (*labels, *predictions)])
    class_legend(figure, everything, names)
    path.parent.mkdir(exist_ok=True)
    beside = path.with_name(f".{path.name}")
    try:
        figure.savefig(beside, dpi=80)
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def _tensorboard(folder: Path, epochs_done: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    return SummaryWriter(str(folder), purge_step=epochs_done + 1)
