"""Errors that a user can mend: the command prints their one sentence and no traceback."""


class DataError(ValueError):
    """Something in a data folder is wrong: one sentence says what, where, what to do."""
