"""Checks refuse answers that a student might give and that are wrong, and no others."""

import importlib

import pytest
from notebook_tools import CHAPTERS

from fcnlib.course.checks import exercises, run_check

ANSWERS = [importlib.import_module(f"wrong_answers.chapter_{path.name[:2]}") for path in CHAPTERS]
WRONG = {number: each.WRONG[number] for each in ANSWERS for number in each.WRONG}
RIGHT = [pair for each in ANSWERS for pair in each.RIGHT]


def test_each_exercise_has_wrong_answers():
    assert list(WRONG) == [number for path in CHAPTERS for number in exercises(path.name[:2])]


@pytest.mark.parametrize(
    ("number", "answer"), [(number, answer) for number in WRONG for answer in WRONG[number]]
)
def test_a_wrong_answer_is_refused_with_a_sentence(number, answer):
    with pytest.raises(AssertionError) as refused:
        run_check(number, answer)
    assert 20 < len(str(refused.value).splitlines()[0]) < 400
    assert str(refused.value).strip().endswith((".", ")"))


@pytest.mark.parametrize(("number", "answer"), RIGHT)
def test_another_right_answer_passes(number, answer):
    run_check(number, answer)
