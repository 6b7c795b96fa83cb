"""Errors that a user can mend: the command prints their one sentence and no traceback."""

import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import wait

# What a reading process leaves behind that dies while it hands over a batch.
_CUT_OFF = (ConnectionResetError, ConnectionRefusedError, EOFError)


class UserError(ValueError):
    """Something that a user can mend: one sentence says what is wrong, where, what to do."""


class DataError(UserError):
    """Something in a data folder is wrong."""


class WeightsError(UserError):
    """A file of weights is missing, damaged, or of another network."""


class CheckpointError(UserError):
    """A checkpoint is missing, damaged, or cannot be written."""


class RunError(UserError):
    """A run cannot begin, go on, or write."""


class UsageError(RunError):
    """A run is asked for with words or numbers that no run can have."""


@contextmanager
def explained(device: object, cure: str, again: str) -> Iterator[None]:
    """Raise RunError, one sentence, where the memory is full or a reading process was killed.

    ``cure`` says what to do about the memory of ``device``, ``again`` how to go on without the
    process. All other errors pass.
    """
    try:
        try:
            yield
        except _CUT_OFF:
            _await_the_end()
            raise
    except (RuntimeError, *_CUT_OFF) as error:
        said = str(error)  # PyTorch has no class of its own for most of these
        if "out of memory" in said or "DefaultCPUAllocator" in said:
            raise RunError(f"The memory of {device} is full: {cure}.") from error
        if isinstance(error, RuntimeError) and not said.startswith("DataLoader worker"):
            raise
        raise RunError(
            f"A process that read pictures was killed, as where memory is short: {again}."
        ) from error


def _await_the_end() -> None:
    """Wait for a reading process that died while it handed over a batch.

    Its connection breaks before it has ended. At its end PyTorch, in its handler of SIGCHLD,
    raises an error wherever the program is by then: let that be here, or nowhere.
    """
    readers = {reader.sentinel: reader for reader in multiprocessing.active_children()}
    for sentinel in wait(readers, timeout=5) if readers else ():
        readers[sentinel].join()  # type: ignore[index]
