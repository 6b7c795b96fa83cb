"""Errors that a user can mend: the command prints their one sentence and no traceback."""

from collections.abc import Iterator
from contextlib import contextmanager


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


@contextmanager
def explained(device: object, cure: str, again: str) -> Iterator[None]:
    """Raise RunError, one sentence, where the memory is full or a reading process was killed.

    ``cure`` says what to do about the memory of ``device``, ``again`` how to go on without the
    process. All other errors pass.
    """
    try:
        yield
    except (RuntimeError, ConnectionResetError, EOFError) as error:
        said = str(error)  # PyTorch has no class of its own for most of these
        if "out of memory" in said or "DefaultCPUAllocator" in said:
            raise RunError(f"The memory of {device} is full: {cure}.") from error
        # A reader that dies while it hands over a batch breaks the connection instead.
        if isinstance(error, RuntimeError) and not said.startswith("DataLoader worker"):
            raise
        raise RunError(
            f"A process that read pictures was killed, as where memory is short: {again}."
        ) from error
