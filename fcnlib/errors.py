"""Errors that a user can mend: the command prints their one sentence and no traceback."""


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
