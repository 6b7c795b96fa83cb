"""Batches for training: the same from the same seed, for every number of workers and processes.

Whatever is drawn for a picture of an epoch (its crop, its flip) depends on the seed, the epoch
and the picture alone. So a run that goes on after a break needs no stored generators, and two
processes together see what one would see.
"""

import multiprocessing
import os
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from fcnlib.data.folder import SegmentationFolder
from fcnlib.errors import DataError

Place = tuple[int, int]  # (epoch, index of a picture)


class Batches(Sampler[list[Place]]):
    """The batches of one epoch, set by ``epoch``: every picture at most once, new order.

    Of each batch, process number ``rank`` of ``processes`` gets its share. What is left over
    at the end and fills no batch is left out. Raises DataError where there is no batch.
    """

    def __init__(
        self, pictures: int, batch_size: int, seed: int, rank: int = 0, processes: int = 1
    ) -> None:
        if pictures < batch_size:
            raise DataError(
                f"There are {pictures} training pictures, too few for a batch of {batch_size}: "
                f"set the batch size to {pictures} or less."
            )
        if batch_size % processes:
            raise DataError(
                f"A batch of {batch_size} cannot be shared evenly by {processes} processes: "
                f"choose a multiple of {processes}."
            )
        self.pictures, self.batch_size, self.seed = pictures, batch_size, seed
        self.rank, self.processes = rank, processes
        self.epoch = 0

    def __len__(self) -> int:
        return self.pictures // self.batch_size

    def __iter__(self) -> Iterator[list[Place]]:
        generator = torch.Generator().manual_seed(mixed_seed(self.seed, self.epoch))
        order = torch.randperm(self.pictures, generator=generator).tolist()
        for start in range(0, len(self) * self.batch_size, self.batch_size):
            batch = order[start : start + self.batch_size]
            yield [(self.epoch, index) for index in batch[self.rank :: self.processes]]


class SeededPictures(Dataset[Any]):
    """A folder whose random transforms draw from a seed of their own for each picture."""

    def __init__(self, folder: SegmentationFolder, seed: int) -> None:
        self.folder, self.seed = folder, seed

    def __getitem__(self, place: Place) -> Any:
        with torch.random.fork_rng(devices=[]):
            # Of the CPU alone: torch.manual_seed would seed a GPU's dropout too.
            torch.default_generator.manual_seed(mixed_seed(self.seed, *place))
            try:
                return self.folder[place[1]]
            except DataError as error:
                return error  # raised in a worker, it would lose its one sentence


def train_loader(
    folder: SegmentationFolder,
    batch_size: int,
    seed: int = 0,
    workers: int = 0,
    rank: int = 0,
    processes: int = 1,
) -> DataLoader:
    """Return a loader of training batches: read it with :func:`epoch_batches`."""
    return DataLoader(
        SeededPictures(folder, seed),
        batch_sampler=Batches(len(folder), batch_size, seed, rank, processes),
        num_workers=workers,
        collate_fn=_collate,
        generator=torch.Generator(),  # else each new iterator draws from the global one
        worker_init_fn=_end_with_parent,
        persistent_workers=workers > 0,
        pin_memory=torch.cuda.is_available(),
    )


def evaluation_loader(
    folder: SegmentationFolder, workers: int = 0, rank: int = 0, processes: int = 1
) -> DataLoader:
    """Return a loader of single pictures, (1, 3, H, W) and (1, H, W), each exactly once."""
    places = [[(0, index)] for index in range(rank, len(folder), processes)]
    return DataLoader(
        SeededPictures(folder, seed=0),
        batch_sampler=places,
        num_workers=workers,
        collate_fn=_collate,
        generator=torch.Generator(),
        worker_init_fn=_end_with_parent,
    )


def epoch_batches(loader: DataLoader, epoch: int) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the batches of an epoch: images (N, 3, H, W) and labels (N, H, W)."""
    loader.batch_sampler.epoch = epoch  # type: ignore[union-attr]
    yield from unpacked(loader)


def unpacked(loader: DataLoader) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield the loader's batches. Raises the DataError of a file that cannot be used."""
    for batch in loader:
        if isinstance(batch, DataError):
            raise batch
        yield batch


def mixed_seed(*numbers: int) -> int:
    """Return one seed that depends on all the numbers, which are 0 or more."""
    # With how many: SeedSequence alone takes (1, 2) and (1, 2, 0) for the same.
    words = (len(numbers), *numbers)
    return int(np.random.SeedSequence(words).generate_state(1, np.uint32)[0])


def _end_with_parent(worker: int) -> None:
    """Have a process that reads end when the training is killed.

    PyTorch's own watch sees only the process that forked it, since Python 3.14 another one.
    """

    def watch() -> None:
        if parent := multiprocessing.parent_process():
            parent.join()
            os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _collate(items: list[Any]) -> Any:
    errors = (item for item in items if isinstance(item, DataError))
    if error := next(errors, None):
        return error
    images, labels = zip(*items, strict=True)
    if len({image.shape for image in images}) > 1:
        return DataError(
            "Pictures of different sizes cannot share a batch: cut them to one size (--crop), "
            "or set the batch size to 1."
        )
    return torch.stack(images), torch.stack(labels)
