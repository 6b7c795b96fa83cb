"""A small FCN-8s, trained on the scenes: a segmenter that the course can hand out.

    make checkpoint    (or: python -m fcnlib.course.segmenter [FOLDER])

`fcn train` makes it from the classifier of vgg11_bn, without stages. What is handed out is its
checkpoint without the optimiser, weights in half precision: 4 MB. checkpoint.json has the command,
the time it took, the hash of the weights, and the scores on the validation scenes.
"""

import hashlib
import json
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from safetensors.torch import load_file, save_file

from fcnlib.checkpoint import FACTS, WEIGHTS, find_checkpoint, load_checkpoint
from fcnlib.course.pretrain import WIDTH, classifier_file
from fcnlib.data import SEGMENTER, SegmentationFolder, shapes, to_float
from fcnlib.evaluation import evaluate, scores

BACKBONE, EPOCHS = "vgg11_bn", 60
OPTIONS = (
    f"--model fcn8s --backbone {BACKBONE} --width {WIDTH} --epochs {EPOCHS} --batch-size 4 "
    "--crop 160 --scale 0.8 1.25 --dropout 0.1 --lr 0.02 --precision fp32 --evaluate-every 10"
)


def hand_out(run: Path, folder: Path, command: str, seconds: float) -> None:
    """Write a run's checkpoint into ``folder``: halves, no optimiser, scores of the halves."""
    source = find_checkpoint(run)
    assert source is not None
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: x.half() if x.is_floating_point() else x
        for name, x in load_file(source / WEIGHTS).items()
    }
    save_file(state, folder / WEIGHTS)
    shutil.copy(source / FACTS, folder)
    matrix = evaluate(
        load_checkpoint(folder).network(), SegmentationFolder(shapes(), "val", to_float())
    )
    facts = json.loads((folder / FACTS).read_text(encoding="utf-8"))
    facts["settings"] |= {
        "data": "data/shapes-0",
        "weights": f"data/{classifier_file(BACKBONE).name}",
    }
    facts["scores"] = scores(matrix, facts["classes"]["names"])
    facts["command"] = command
    facts["minutes"] = round(seconds / 60, 1)
    facts["sha256"] = hashlib.sha256((folder / WEIGHTS).read_bytes()).hexdigest()
    (folder / FACTS).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    lazy = matrix.always(0).mean_iou()
    print(f"{folder}: mIoU {matrix.mean_iou():.3f}, always background {lazy:.3f}")


def main() -> None:
    """Train with the command, then hand out."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else SEGMENTER
    with tempfile.TemporaryDirectory() as name:
        run = Path(name) / "run"
        begin = time.perf_counter()
        places = ["--data", shapes(), "--weights", classifier_file(BACKBONE), "--out", run]
        command = [sys.executable, "-m", "fcnlib", "train", *map(str, places)]
        subprocess.run([*command, *shlex.split(OPTIONS)], check=True)
        said = "fcn train --data data/shapes-0 --weights data/classifier-vgg11_bn.safetensors"
        hand_out(run, folder, f"{said} {OPTIONS}", time.perf_counter() - begin)


if __name__ == "__main__":
    main()
