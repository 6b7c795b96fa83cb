"""What a student's function returned: read kindly, or said plainly."""

from numbers import Real

import numpy as np
from torch import Tensor


def as_number(result: object, what: str) -> float:
    """Return a plain number of any kind as a float; say so if it is something else."""
    if isinstance(result, Tensor | np.ndarray) and result.ndim == 0:
        result = result.item()
    assert isinstance(result, Real) and not isinstance(result, bool), (
        f"Return {what} as a number, not {type(result).__name__}."
    )
    return float(result)


def brief(result: object) -> str:
    """Say what kind of thing this is: "a list of 3", "a Tensor of shape (2, 3)"."""
    if isinstance(result, Tensor | np.ndarray):
        return f"a {type(result).__name__} of shape {tuple(result.shape)}"
    if isinstance(result, list | tuple):
        return f"a {type(result).__name__} of {len(result)}"
    return f"a {type(result).__name__}"
