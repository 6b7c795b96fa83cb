"""Exercise checks: what ``check`` runs, with one module of checks per chapter."""

import functools
import importlib
import importlib.util
import reprlib
from collections.abc import Callable
from typing import Any

Check = Callable[[Callable[..., Any]], None]

_CHECKS: dict[str, Check] = {}


def exercise(number: str) -> Callable[[Check], Check]:
    """Register the decorated function as the check of exercise ``number``, as "01.2".

    The check takes the student's function and raises AssertionError, with one helpful
    sentence, when that function is wrong.
    """

    def register(check: Check) -> Check:
        _CHECKS[number] = check
        return check

    return register


def exercises(chapter: str) -> list[str]:
    """Return the numbers of the exercises that ``chapter``, as "01", can check."""
    module = f"{__name__}.chapter_{chapter}"
    if importlib.util.find_spec(module):
        importlib.import_module(module)
    numbers = [number for number in _CHECKS if number.startswith(f"{chapter}.")]
    return sorted(numbers, key=lambda number: int(number.partition(".")[2]))


def run_check(number: str, function: Callable[..., Any]) -> None:
    """Run the check of exercise ``number`` on ``function``.

    Raises NotImplementedError when the exercise is not solved yet, AssertionError with
    one sentence when the answer is wrong, ValueError when there is no such exercise.
    """
    chapter = number.partition(".")[0]
    known = exercises(chapter)
    if number not in known:
        listed = f"chapter {chapter} has {', '.join(known) or 'none'}"
        raise ValueError(f"There is no exercise {number}; {listed}.")
    assert callable(function), "Hand over the function itself, without parentheses after its name."
    try:
        _CHECKS[number](_reporting(function))
    except AssertionError:
        raise
    except Exception as error:
        if _is_stub(error):
            raise
        # The check met something that it could not even examine, such as None.
        raise AssertionError(f"Your answer could not be examined ({_named(error)}).") from error


def check(number: str, function: Callable[..., Any]) -> None:
    """Check ``function`` as the answer to exercise ``number``, and print one line."""
    try:
        run_check(number, function)
        verdict = "correct."
    except NotImplementedError:
        verdict = (
            "not solved yet. Replace the line with NotImplementedError, then run both cells again."
        )
    except AssertionError as error:
        sentence = " ".join(str(error).split()) or "The result is wrong."
        verdict = f"not yet. {sentence}"
    print(f"Exercise {number}: {verdict}")


def _reporting(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap ``function`` so that its errors become sentences that name the input."""

    @functools.wraps(function)
    def called(*args: Any, **kwargs: Any) -> Any:
        try:
            return function(*args, **kwargs)
        except Exception as error:
            if _is_stub(error):
                raise
            inputs = [_brief(value) for value in args]
            inputs += [f"{name}={_brief(value)}" for name, value in kwargs.items()]
            raise AssertionError(
                f"Your function raised {_named(error)}, for the arguments ({', '.join(inputs)})."
            ) from error

    return called


def _is_stub(error: Exception) -> bool:
    """Tell a stub's bare NotImplementedError from PyTorch's, which have a text."""
    return type(error) is NotImplementedError and not error.args


def _named(error: Exception) -> str:
    """Name an error and quote the first line of its text."""
    first = str(error).strip().partition("\n")[0]
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _brief(value: Any) -> str:
    """Describe an argument in a few words."""
    if hasattr(value, "shape"):
        return f"{type(value).__name__} of shape {tuple(value.shape)}"
    return reprlib.repr(value)
