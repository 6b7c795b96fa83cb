"""What `make checkpoint` hands out."""

import hashlib
import json
import subprocess
import sys

import pytest
import torch
from notebook_tools import CHAPTERS, code_cells, read

from fcnlib.checkpoint import FACTS, WEIGHTS, load_checkpoint
from fcnlib.course.segmenter import OPTIONS, hand_out
from fcnlib.data import SEGMENTER, SegmentationFolder, shapes, to_float
from fcnlib.evaluation import evaluate
from fcnlib.settings import Settings
from fcnlib.training import train


def test_the_segmenter_is_what_its_facts_say():
    weights = (SEGMENTER / WEIGHTS).read_bytes()
    facts = json.loads((SEGMENTER / FACTS).read_text(encoding="utf-8"))
    assert facts["sha256"] == hashlib.sha256(weights).hexdigest()
    assert len(weights) < 5e6
    assert OPTIONS in facts["command"]


@pytest.mark.slow
def test_the_segmenter_scores_what_its_facts_say():
    checkpoint = load_checkpoint(SEGMENTER)
    val = SegmentationFolder(shapes(), "val", to_float())
    matrix = evaluate(checkpoint.network(), val)
    assert matrix.mean_iou() == pytest.approx(checkpoint.scores["mean_iou"], abs=1e-3)
    assert matrix.mean_iou() > 0.6
    assert matrix.always(0).mean_iou() < 0.1


@pytest.mark.slow
def test_what_is_handed_out_answers_as_the_run_did(tmp_path):
    settings = Settings(
        str(shapes()), backbone="vgg11", width=1 / 32, epochs=1, batch_size=100, crop=16
    )
    run = train(settings, tmp_path / "run")
    hand_out(run, tmp_path / "out", "a command", 90)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {WEIGHTS, FACTS}
    facts = json.loads((tmp_path / "out" / FACTS).read_text(encoding="utf-8"))
    digest = hashlib.sha256((tmp_path / "out" / WEIGHTS).read_bytes()).hexdigest()
    assert (facts["sha256"], facts["command"], facts["minutes"]) == (digest, "a command", 1.5)
    assert facts["scores"]["baseline"]["mean_iou"] < 0.1
    x = torch.rand(1, 3, 40, 50)
    with torch.inference_mode():
        before, after = (
            load_checkpoint(folder).network().eval()(x) for folder in (run, tmp_path / "out")
        )
    assert before.abs().max() > 0
    torch.testing.assert_close(before, after, rtol=0.01, atol=0.01 * float(before.abs().max()))


def test_the_first_answer_of_the_course_waits_for_no_import_it_does_not_need():
    """torchvision, and sympy behind some of PyTorch's functions, take seconds to import."""
    cells = [cell.source for cell in code_cells(read(CHAPTERS[0]))]
    last = next(place for place, source in enumerate(cells) if "answer = predict(" in source)
    begin = ["import sys", "from fcnlib.course import setup", "setup()"]
    end = ["print({'torch', 'torchvision', 'accelerate', 'sympy'} & set(sys.modules))"]
    code = "\n".join([*begin, *cells[1 : last + 1], *end])
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "{'torch'}"
