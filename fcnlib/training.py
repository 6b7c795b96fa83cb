"""Training: the loop, and around it what makes a run safe to break off and to repeat.

Everything random follows from the seed and the number of the epoch, so a run that goes on after
a break at the newest checkpoint ends, on a CPU, bit for bit where an unbroken one does.
"""

import math
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils import broadcast
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer
from tqdm import tqdm

from fcnlib.checkpoint import (
    Checkpoint,
    Classes,
    find_checkpoint,
    load_checkpoint,
    save_checkpoint,
)
from fcnlib.data.folder import SegmentationFolder
from fcnlib.data.labels import VOID
from fcnlib.data.loader import epoch_batches, mixed_seed, train_loader
from fcnlib.data.transforms import to_float
from fcnlib.errors import CheckpointError, RunError, UsageError, UserError, explained
from fcnlib.evaluation import evaluate, scores
from fcnlib.losses import segmentation_loss
from fcnlib.memory import keep_freed_memory
from fcnlib.models import FCNResNet50, build_model, init_from
from fcnlib.precision import auto_dtype, auto_memory_format
from fcnlib.prediction import predict
from fcnlib.processes import CtrlC, this_process
from fcnlib.recipes import RECIPES, set_rate
from fcnlib.run import LOG, Log, only_writer, read_log, save_samples
from fcnlib.settings import (
    NETWORK,
    PRECISIONS,
    Settings,
    check_same,
    settings_from,
)

NUM_SAMPLES = 4
MOMENTS = {SGD: ("momentum_buffer",), AdamW: ("step", "exp_avg", "exp_avg_sq")}


def train(settings: Settings, out: str | Path, resume: bool = False) -> Path:
    """Train a network as the settings say, into the folder ``out``; return that folder.

    Works in one process, and in several that ``accelerate launch`` or ``torchrun`` started:
    they share each batch. Raises UserError: for settings, data or weights that cannot be used,
    for a folder that holds another run, for a loss that is no number, for a full disk. All
    epochs that were finished before stay in the folder, and ``resume`` goes on there.
    """
    torch.set_flush_denormal(True)  # numbers near 0 would make an untrained network slow
    keep_freed_memory()
    with CtrlC() as ctrl_c:
        _train(settings.complete(), Path(out), resume, ctrl_c)
    return Path(out)


def _train(settings: Settings, run: Path, resume: bool, ctrl_c: CtrlC) -> None:
    accelerator = _accelerator(settings.precision)
    short = "choose a smaller batch or crop, in a new folder", "go on with --resume --workers 0"
    try:
        with (
            explained(accelerator.device, *short),
            only_writer(run) if accelerator.is_main_process else nullcontext(),
        ):
            trainer = _Trainer(settings, run, resume, accelerator, ctrl_c)
            accelerator.wait_for_everyone()  # all have seen what was there before anyone writes
            trainer.run_epochs()
    except BrokenPipeError:  # nobody reads what is printed, as behind `| head`
        raise
    except OSError as error:
        raise RunError(
            f"{error.filename or run} cannot be written ({error.strerror or error}): mend that or "
            "choose another folder, then go on with --resume."
        ) from error


class _Trainer:
    """A run under way: the network, what steps it, and its data."""

    def __init__(
        self,
        settings: Settings,
        run: Path,
        resume: bool,
        accelerator: Accelerator,
        ctrl_c: CtrlC,
    ) -> None:
        self.settings, self.run, self.accelerator = settings, run, accelerator
        self.ctrl_c = ctrl_c
        assert settings.batch_size and settings.crop is not None and settings.lr
        self.batch_size, self.lr = settings.batch_size, settings.lr
        self.recipe = RECIPES[settings.recipe]
        transforms = self.recipe.transforms(settings.crop, settings.scale)
        self.data = SegmentationFolder(
            settings.data, settings.train_split, transforms, settings.classes
        )
        self.val_data = SegmentationFolder(
            settings.data, settings.val_split, to_float(), settings.classes
        )
        self.loader = train_loader(
            self.data,
            settings.batch_size,
            settings.seed,
            settings.workers,
            accelerator.process_index,
            accelerator.num_processes,
        )
        self.checkpoint, network = _begin(settings, run, resume, self.data)
        self.auxiliary = isinstance(network, FCNResNet50)
        for layer in network.modules():
            if isinstance(layer, nn.Dropout) and settings.dropout is not None:
                layer.p = settings.dropout
        self.memory_format = auto_memory_format(accelerator.device)
        network = network.to(accelerator.device, memory_format=self.memory_format)  # type: ignore[call-overload]
        if accelerator.num_processes > 1 and accelerator.device.type == "cuda":
            network = nn.SyncBatchNorm.convert_sync_batchnorm(network)
        pretrained = settings.weights is not None or settings.init_from is not None
        optimizer = self.recipe.optimizer(
            network, settings.lr, settings.pretrained_factor if pretrained else 1.0
        )
        if self.checkpoint.epoch > 0:
            _load_optimizer(optimizer, self.checkpoint)
        self.model, self.optimizer = accelerator.prepare(network, optimizer)

    def run_epochs(self) -> None:
        """Train until the last epoch is done; after each, evaluate, log and save."""
        first, last = self.checkpoint.epoch + 1, self.settings.epochs
        with self._log() as log, self._bar() as bar:
            if find_checkpoint(self.run) is None:
                self._save(0)
            if first > last and log is not None:
                bar.write(f"All {last} epochs are done: see {self.run}")
            for epoch in range(first, last + 1):
                record = {"epoch": epoch} | self._train_epoch(epoch, bar)
                if epoch % self.settings.evaluate_every == 0 or epoch == last:
                    record |= self._evaluate(epoch)
                if log is not None:
                    log.write(record)
                self._save(epoch)
                if log is not None:
                    bar.write(_line(record, last))  # last: an epoch that was shown is safe

    def _train_epoch(self, epoch: int, bar: tqdm) -> dict[str, float]:
        """Take a step per batch; return the loss per valid pixel, the rate and the speed."""
        torch.manual_seed(mixed_seed(self.settings.seed, epoch, self.accelerator.process_index))
        self.model.train()
        total, pixels, waited = 0.0, 0, 0.0
        begin = asked = time.perf_counter()
        for step, (images, labels) in enumerate(epoch_batches(self.loader, epoch)):
            waited += time.perf_counter() - asked
            self.ctrl_c.check()
            done = (epoch - 1 + (step + 0.5) / len(self.loader)) / self.settings.epochs
            factor = self.recipe.schedule(done)
            set_rate(self.optimizer, factor)
            loss, valid = self._step(images, labels)
            total, pixels = total + loss, pixels + valid
            bar.set_postfix_str(f"loss {loss / max(1, valid):.3f}{self._last_score()}", False)
            bar.update(self.batch_size)
            asked = time.perf_counter()
        seconds = time.perf_counter() - begin
        return {
            "loss": total / max(1, pixels),
            "lr": factor * self.lr,
            "seconds": round(seconds, 3),
            "images_per_second": round(len(self.loader) * self.batch_size / seconds, 3),
            "waited_for_data": round(waited / seconds, 4),
        }

    def _step(self, images: Tensor, labels: Tensor) -> tuple[float, int]:
        """Take one step; return the sum of the loss over valid pixels, and their number.

        Both are of the whole batch, which the processes share.
        """
        device = self.accelerator.device
        images = images.to(device, memory_format=self.memory_format, non_blocking=True)
        labels = labels.to(device, non_blocking=True)
        try:
            outputs = self.model(images, auxiliary=True) if self.auxiliary else self.model(images)
        except ValueError as error:  # such as BatchNorm with a single value
            raise RunError(str(error)) from error
        loss = segmentation_loss(outputs, labels, reduction="sum")
        total, valid = self.accelerator.reduce((loss.detach(), (labels != VOID).sum()), "sum")
        if not math.isfinite(total):
            raise RunError(
                f"The loss became {float(total)}: try a smaller learning rate than "
                f"{self.settings.lr}, or the precision fp32, in a new folder; epochs that were "
                f"finished are in {self.run}."
            )
        if self.recipe.reduction == "mean":
            loss = loss / valid.clamp(min=1)
        # Of several processes' gradients the mean is taken, and the sum is wanted.
        self.accelerator.backward(loss * self.accelerator.num_processes)
        self.optimizer.step()
        self.optimizer.zero_grad()
        return float(total), int(valid)

    def _evaluate(self, epoch: int) -> dict[str, Any]:
        """Return the scores on the validation split; write a picture of a few predictions."""
        network = self.accelerator.unwrap_model(self.model)
        # Each process has BatchNorm's means of its own: score those that are saved.
        broadcast(list(network.buffers()))
        matrix = evaluate(network, self.val_data, workers=self.settings.workers)
        self.checkpoint.scores = scores(matrix, self.val_data.classes)
        if self.accelerator.is_main_process:
            items = [self.val_data[k] for k in range(min(NUM_SAMPLES, len(self.val_data)))]
            images, labels = zip(*items, strict=True)
            predictions = [predict(network, image) for image in images]
            classes = self.checkpoint.classes
            save_samples(
                self.run / "samples" / f"epoch-{epoch:04}.png",
                images,
                [classes.in_masks(mask) for mask in labels],
                [classes.in_masks(mask) for mask in predictions],
                self.val_data.all_classes,
            )
        return self.checkpoint.scores

    def _save(self, epoch: int) -> None:
        if self.accelerator.is_main_process:
            self.checkpoint.epoch = epoch
            network = self.accelerator.unwrap_model(self.model)
            save_checkpoint(self.run, self.checkpoint, network, self.optimizer)

    def _log(self) -> AbstractContextManager[Log | None]:
        if self.accelerator.is_main_process:
            return Log(self.run, self.checkpoint.epoch)
        return nullcontext()

    def _bar(self) -> tqdm:
        per_epoch = len(self.loader) * self.batch_size
        return tqdm(
            total=self.settings.epochs * per_epoch,
            initial=self.checkpoint.epoch * per_epoch,
            unit=" images",
            leave=False,
            disable=None if self.accelerator.is_main_process else True,
        )

    def _last_score(self) -> str:
        score = self.checkpoint.scores.get("mean_iou")
        return "" if score is None else f", mIoU {score:.3f}"


def _begin(
    settings: Settings, run: Path, resume: bool, data: SegmentationFolder
) -> tuple[Checkpoint, nn.Module]:
    """Return where the run stands: a stored checkpoint, or a new one at epoch 0."""
    if (folder := find_checkpoint(run)) is not None:
        if not resume:
            raise RunError(
                f"{run} holds a run already: add --resume to go on with it, or choose another "
                "folder."
            )
        checkpoint = load_checkpoint(folder)
        check_same(settings_from(checkpoint.settings, run), settings, run)
        if (checkpoint.classes.names, checkpoint.classes.numbers) != (data.classes, data.numbers):
            raise _other_classes(run, checkpoint.classes, data)
        return checkpoint, checkpoint.network()
    there = {path.name for path in run.iterdir()} if run.is_dir() else set()
    there = {name for name in there if not name.startswith(".")}
    if there - ({LOG, "tensorboard"} if resume else set()) or read_log(run):
        raise RunError(
            f"{run} is not empty: choose a new folder, or --resume if a run began here and "
            "wrote no checkpoint yet."
        )
    model = {
        "name": settings.model,
        "num_classes": len(data.classes),
        **{name: getattr(settings, name) for name in NETWORK},
    }
    classes = Classes(data.classes, data.numbers)
    checkpoint = Checkpoint(model, classes, settings=asdict(settings))
    return checkpoint, _new_network(settings, model, data)


def _other_classes(run: str | Path, classes: Classes, data: SegmentationFolder) -> RunError:
    def listed(names: Sequence[str], numbers: Sequence[int]) -> str:
        return ", ".join(f"{name} ({k})" for name, k in zip(names, numbers, strict=True))

    return RunError(
        f"The run in {run} has the classes {listed(classes.names, classes.numbers)}, and "
        f"{data.root} has {listed(data.classes, data.numbers)}: give data and --classes with "
        "the run's names and numbers."
    )


def _new_network(settings: Settings, model: dict[str, Any], data: SegmentationFolder) -> nn.Module:
    torch.manual_seed(settings.seed)
    try:
        if settings.init_from is None:
            return build_model(**model, weights=settings.weights)
        start = load_checkpoint(settings.init_from)
        if start.classes.names != data.classes:  # scores are copied in their order
            raise _other_classes(settings.init_from, start.classes, data)
        source = start.network()
        fc6 = getattr(source, "fc6", None)  # has the size that the classifier's pictures gave it
        fc6_size = fc6.kernel_size[0] if isinstance(fc6, nn.Conv2d) else 7
        return init_from(build_model(**model, fc6_size=fc6_size), source)
    except UserError:
        raise
    except ValueError as error:  # arguments that do not go together
        raise UsageError(str(error)) from error


def _load_optimizer(optimizer: Optimizer, checkpoint: Checkpoint) -> None:
    """Load the optimiser's state. Raises CheckpointError where it does not fit."""
    state = checkpoint.optimizer_state()
    groups = [{**group, "initial_lr": group["lr"]} for group in optimizer.param_groups]
    try:
        optimizer.load_state_dict(state)
        fits = all(
            found[name] == value
            for group, found in zip(groups, optimizer.param_groups, strict=True)
            for name, value in group.items()
            if name != "lr"
        ) and all(
            {name: value.shape for name, value in optimizer.state[parameter].items()}
            == {
                name: () if name == "step" else parameter.shape for name in MOMENTS[type(optimizer)]
            }
            for group in groups
            for parameter in group["params"]
        )
    except (LookupError, TypeError, ValueError, AttributeError):
        fits = False
    if not fits:
        raise CheckpointError(
            f"{checkpoint.folder} holds the optimiser of another network: start a new run with "
            "--init-from."
        )


def _accelerator(precision: str) -> Accelerator:
    """Return an accelerator. Raises RunError for a precision that the device has not."""
    device = this_process().device
    if precision == "auto":
        precision = "bf16" if auto_dtype(device) == torch.bfloat16 else "fp32"
    refusal = RunError(f"A {device.type} does not train in {precision} here: choose auto.")
    if (device.type, precision) == ("cpu", "fp16"):  # accelerate would compute in fp32
        raise refusal
    AcceleratorState._reset_state()  # else a second run could not have another precision
    try:
        return Accelerator(cpu=device.type == "cpu", mixed_precision=PRECISIONS[precision])
    except ValueError as error:
        raise refusal from error


def _line(record: dict[str, Any], epochs: int) -> str:
    line = f"epoch {record['epoch']}/{epochs}: loss {record['loss']:.4f}"
    if record.get("mean_iou") is not None:  # None: all pixels were void
        baseline = record["baseline"]
        line += (
            f", mIoU {record['mean_iou']:.3f} (always {baseline['always']} "
            f"{baseline['mean_iou']:.3f})"
        )
    return f"{line}, {record['seconds']:.0f} s"
