"""Networks trained on photographs: the measured rows of notebook 11 and of the README.

    python benchmarks/voc.py [ROW ...] [--data DIR] [--weights W] [--seeds 0 1 2]
    python benchmarks/voc.py --table

Each row is `fcn train` with the options below, once for each seed, and scored at the end, at native
size, on its val set. Rows of "animals" train on the VOC pictures with cats, cows, dogs, horses and
sheep, in 7 classes, with a network small enough for two CPU cores; the others need all of VOC and a
GPU. What came out is kept in benchmarks/results/voc.json, a run at a time, and a run's log beside
it; --table prints them. DIR is VOC in data/ or $FCN_VOC, W torchvision's ImageNet weights, where
nothing is said. A row from random numbers takes no weights; one of a "quarter" network, with the
options of notebook 10, begins as it does there: with the course's classifier of single shapes.
"""

import argparse
import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from variants import BUDGET, classifier

from fcnlib.course.pretrain import WIDTH
from fcnlib.data import find_voc
from fcnlib.run import read_log

ANIMALS = (
    "--classes background,person,cat,cow,dog,horse,sheep --train-split animals-train "
    "--val-split animals-val"
)
SQUEEZENET = f"{ANIMALS} --batch-size 8 --crop 256 --backbone squeezenet1_1"
FC6 = f"{SQUEEZENET}_fc6"
QUARTER = f"{ANIMALS} {BUDGET} --width {WIDTH} --epochs 13"
VOC = "--crop 480 --batch-size 8 --lr 5e-4 --workers 4"
ROWS = {
    # the ablation, a step at a time: the network, then its budget
    "animals, FCN-8s": f"{SQUEEZENET} --model fcn8s --epochs 12",
    "animals, with fc6": f"{FC6} --model fcn8s --epochs 12",
    "animals, 30 epochs": f"{FC6} --model fcn8s --epochs 30",
    # beside its last row
    "animals, FCN-16s": f"{FC6} --model fcn16s --epochs 12",
    "animals, FCN-32s": f"{FC6} --model fcn32s --epochs 12",
    "animals, random": f"{FC6} --model fcn8s --epochs 12",
    # every network of the course, from the same command as on scenes
    "animals, quarter FCN-32s": f"{QUARTER} --model fcn32s --backbone vgg11_bn",
    "animals, quarter FCN-16s": f"{QUARTER} --model fcn16s --backbone vgg11_bn",
    "animals, quarter FCN-8s": f"{QUARTER} --model fcn8s --backbone vgg11_bn",
    "animals, quarter decoder": f"{QUARTER} --model fcn_decoder --backbone vgg11_bn",
    "animals, quarter ResNet-18": f"{QUARTER} --model fcn_resnet18",
    "animals, quarter ResNet-50": f"{QUARTER} --model fcn_resnet50",
    # for a GPU; each stage begins with the one before
    "VOC, FCN-32s": f"{VOC} --model fcn32s --backbone vgg16 --epochs 24",
    "VOC, FCN-16s": f"{VOC} --model fcn16s --epochs 12",
    "VOC, FCN-8s": f"{VOC} --model fcn8s --epochs 12",
    "VOC, ResNet-50": f"{VOC} --model fcn_resnet50 --epochs 48",
}
STAGES = {"VOC, FCN-16s": "VOC, FCN-32s", "VOC, FCN-8s": "VOC, FCN-16s"}
RESULTS = Path(__file__).parent / "results"
FILE = RESULTS / "voc.json"


def main() -> None:
    """Train the rows that are named, else those of the animals; then print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    animals = [name for name in ROWS if name.startswith("animals")]
    parser.add_argument("rows", nargs="*", metavar="ROW", help="; ".join(ROWS))
    parser.add_argument("--data", default=find_voc(), help="a folder in VOC layout")
    parser.add_argument("--weights", default="imagenet", help="imagenet, or a file")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--table", action="store_true", help="train nothing")
    arguments = parser.parse_args()
    if unknown := set(arguments.rows) - ROWS.keys():
        parser.error(f"{unknown.pop()!r} is none of: {'; '.join(ROWS)}.")
    for place, name in enumerate(arguments.rows):
        if name in STAGES and STAGES[name] not in arguments.rows[:place]:
            parser.error(f"{name!r} begins with {STAGES[name]!r}: name that row before it.")
    if not arguments.table and arguments.data is None:
        parser.error("there is no PASCAL VOC: `fcn data voc` fetches it, or name it with --data.")
    with tempfile.TemporaryDirectory() as folder:
        for seed in [] if arguments.table else arguments.seeds:
            for name in arguments.rows or animals:
                found = train(name, seed, Path(folder), arguments.data, arguments.weights)
                known = read()
                known.setdefault(name, {})[str(seed)] = found
                ordered = {name: known[name] for name in ROWS if name in known}
                FILE.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")
                print(f"{name}, seed {seed}: mIoU {found['mean_iou']:.3f}", flush=True)
    print(table(read()))


def read() -> dict[str, dict[str, Any]]:
    """Return the results so far: row -> seed -> what is kept."""
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.exists() else {}


def train(name: str, seed: int, folder: Path, data: str, weights: str) -> dict[str, Any]:
    """Train a row; return what is to be kept of it, and keep its log."""
    place = {row: folder / f"{row.replace(', ', '-').replace(' ', '-')}-{seed}" for row in ROWS}
    if name.endswith("random"):
        origin, start = "random numbers", []
    elif "quarter" in name:
        weights = str(classifier(backbone_of(ROWS[name])))
        origin, start = Path(weights).name, ["--weights", weights]
    elif name in STAGES:
        origin, start = STAGES[name], ["--init-from", str(place[STAGES[name]])]
    else:
        origin, start = Path(weights).name, ["--weights", weights]
    options = [*ROWS[name].split(), "--seed", str(seed)]
    command = [sys.executable, "-m", "fcnlib", "train", "--data", str(data), *start, *options]
    command += ["--evaluate-every", "10000", "--out", str(place[name])]
    begin = time.perf_counter()
    subprocess.run(command, check=True)
    minutes = (time.perf_counter() - begin) / 60
    logs = RESULTS / "voc"
    logs.mkdir(parents=True, exist_ok=True)
    (logs / f"{place[name].name}.jsonl").write_bytes((place[name] / "log.jsonl").read_bytes())
    last = read_log(place[name])[-1]
    return {
        "command": f"fcn train {' '.join(options)}",
        "start": origin,
        "mean_iou": round(last["mean_iou"], 4),
        "pixel_accuracy": round(last["pixel_accuracy"], 4),
        "iou_per_class": last["iou_per_class"],
        "always_background": round(last["baseline"]["mean_iou"], 4),
        "minutes": round(minutes, 1),
        "machine": machine(),
        "torch": torch.__version__,
    }


def backbone_of(options: str) -> str:
    """Return the name of the classifier that a row's network is made of."""
    words = options.split()
    if "--backbone" in words:
        return words[words.index("--backbone") + 1]
    return words[words.index("--model") + 1].removeprefix("fcn_")


def machine() -> str:
    """Say what computed: the GPU, else the kind of processor and how many threads were used."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{platform.machine()} CPU, {torch.get_num_threads()} threads"


def table(known: dict[str, dict[str, Any]]) -> str:
    """Return the rows as Markdown: the mean over the seeds, least and most."""
    lines = ["| row | mIoU | seeds | always background | minutes | machine |", "|" + "---|" * 6]
    for name, runs in known.items():
        scores = [run["mean_iou"] for run in runs.values()]
        one = next(iter(runs.values()))
        spread = f" ({min(scores):.3f} to {max(scores):.3f})" if len(scores) > 1 else ""
        minutes = statistics.mean(run["minutes"] for run in runs.values())
        lines.append(
            f"| {name} | {statistics.mean(scores):.3f}{spread} | {len(scores)} | "
            f"{one['always_background']:.3f} | {minutes:.0f} | {one['machine']} |"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
