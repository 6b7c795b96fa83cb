"""Every exercise of the notebooks has a check, a stub that fails it, and a solution."""

import functools

import pytest
from notebook_tools import CHAPTERS, SOLUTIONS, check_calls, code_cells, exercises_of, read

from fcnlib.course import checks

answers_of = functools.cache(exercises_of)

STUBS = [(path, number) for path in CHAPTERS for number, _ in check_calls(read(path))]
NUMBERS = [number for _, number in STUBS]
SOLVED = [(path, number) for path in SOLUTIONS for number, _ in check_calls(read(path))]


def no_answer(*args, **kwargs):
    return None


def first_argument(*args, **kwargs):
    return next(iter([*args, *kwargs.values()]), None)


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_notebook_and_checks_have_the_same_exercises(path):
    chapter = path.name[:2]
    in_notebook = [number for where, number in STUBS if where == path]
    assert in_notebook == checks.exercises(chapter)


def test_each_exercise_has_one_solution_in_the_same_chapter():
    exercises = [(path.name, number) for path, number in STUBS]
    assert [(path.name, number) for path, number in SOLVED] == exercises


@pytest.mark.parametrize(("path", "number"), STUBS, ids=NUMBERS)
def test_stub_is_not_solved(path, number):
    with pytest.raises(NotImplementedError):
        checks.run_check(number, answers_of(path)[number])


@pytest.mark.parametrize(("path", "number"), SOLVED, ids=[n for _, n in SOLVED])
def test_solution_passes(path, number):
    checks.run_check(number, answers_of(path)[number])


@pytest.mark.parametrize("answer", [no_answer, first_argument])
@pytest.mark.parametrize("number", NUMBERS)
def test_wrong_answer_is_rejected(number, answer):
    with pytest.raises(AssertionError) as caught:
        checks.run_check(number, answer)
    assert str(caught.value), "a wrong answer deserves a sentence"


@pytest.mark.parametrize("path", CHAPTERS, ids=lambda path: path.stem)
def test_chapter_shows_exercises_unsolved(path):
    assert _verdicts(path) == {"not solved yet."}


@pytest.mark.parametrize("path", SOLUTIONS, ids=lambda path: path.stem)
def test_solutions_show_correct(path):
    assert _verdicts(path) == {"correct."}


def _verdicts(path):
    """Return the verdicts in the stored outputs of a notebook's check cells."""
    return {
        output.get("text", "").partition(": ")[2].partition(" Replace")[0].strip()
        for cell in code_cells(read(path))
        if cell.source.startswith("check(")
        for output in cell.outputs
    }
