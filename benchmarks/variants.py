"""Every network of the course, trained on one budget: the table of notebook 10.

    python benchmarks/variants.py [NAME ...] [--epochs 13] [--out benchmarks/results/shapes]
    python benchmarks/variants.py --times

Each begins with a classifier of the course's crops (`python -m fcnlib.course.pretrain` trains
those that are missing), and `fcn train` gives it the same pictures, crops, steps and rates, on the
embedded scenes. Measured are: parameters; multiply-accumulates (MAC) for a scene of 184 x 272;
the most memory of the run; and on the 100 validation scenes mean IoU, of all pixels and of those
within 5 pixels of an outline. Results go to OUT.json, a network at a time, and what each draws in
two scenes to OUT/. Always background stands beside them. In the end, or with --times alone, all
networks take training steps and answer scenes by turns: medians of the seconds go to OUT.json, too.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from fcnlib.checkpoint import load_checkpoint
from fcnlib.course.pretrain import WIDTH, classifier_file
from fcnlib.data import SHAPE_CLASSES, VOID, SegmentationFolder, save_labels, shapes, to_float
from fcnlib.losses import segmentation_loss
from fcnlib.memory import keep_freed_memory
from fcnlib.metrics import ConfusionMatrix, near_boundary
from fcnlib.models import FCNResNet50, build_model
from fcnlib.precision import auto_memory_format
from fcnlib.prediction import predict
from fcnlib.recipes import RECIPES
from fcnlib.run import read_log

NETWORKS = {
    "FCN-32s, VGG11": ("fcn32s", "vgg11_bn"),
    "FCN-8s, VGG11": ("fcn8s", "vgg11_bn"),
    "decoder, VGG11": ("fcn_decoder", "vgg11_bn"),
    "decoder, VGG13": ("fcn_decoder", "vgg13_bn"),
    "decoder, VGG16": ("fcn_decoder", "vgg16_bn"),
    "decoder, VGG19": ("fcn_decoder", "vgg19_bn"),
    "ResNet-18": ("fcn_resnet18", "resnet18"),
    "ResNet-50, dilated": ("fcn_resnet50", "resnet50"),
}
BUDGET = (
    "--batch-size 4 --crop 160 --scale 0.8 1.25 --dropout 0.1 --lr 0.01 --pretrained-factor 0.2"
)
DISTANCE = 5  # pixels from an outline
ROUNDS = 15
WATCHED = (16, 9)  # validation scenes, those of notebook 09
WEIGH = """
import resource, subprocess, sys
status = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL).returncode
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(status)
"""
OUT = Path(__file__).parent / "results" / "shapes"


def main() -> None:
    """Train what is named, else all; after each network, write all results known."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NETWORKS))
    parser.add_argument("--epochs", type=int, default=13)
    parser.add_argument("--out", type=Path, default=OUT)
    parser.add_argument("--times", action="store_true", help="train nothing, take the times anew")
    arguments = parser.parse_args()
    if unknown := set(arguments.names) - NETWORKS.keys():
        parser.error(f"{unknown.pop()} is none of: {'; '.join(NETWORKS)}.")
    file = arguments.out.with_suffix(".json")
    for name in [] if arguments.times else arguments.names or NETWORKS:
        row = measure(*NETWORKS[name], arguments.epochs, arguments.out)
        write(file, {name: row})
        print(
            f"{name:20} mIoU {row['mean_iou']:.3f}, near outlines {row['outline_iou']:.3f}, "
            f"always background {row['always_background']:.3f}",
            flush=True,
        )
    torch.set_flush_denormal(True)
    keep_freed_memory()
    for name, seconds in times(list(json.loads(file.read_text(encoding="utf-8")))).items():
        write(file, {name: seconds})
        print(f"{name:20} {seconds}")


def write(file: Path, new: dict[str, dict[str, Any]]) -> None:
    """Add to the rows of the networks in a file."""
    known = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
    for name, row in new.items():
        known[name] = known.get(name, {}) | row
    ordered = {name: known[name] for name in NETWORKS if name in known}
    file.write_text(json.dumps(ordered, indent=1) + "\n", encoding="utf-8")


def measure(model: str, backbone: str, epochs: int, out: Path) -> dict[str, Any]:
    """Train a network; return its row of the table, and write what it draws."""
    network_of = "" if backbone.startswith("resnet") else f"--backbone {backbone} "
    options = f"--model {model} {network_of}--width {WIDTH} --epochs {epochs} {BUDGET} --seed 0"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "fcnlib", "train", "--data", str(shapes())]
        command += ["--weights", str(classifier(backbone)), "--evaluate-every", str(epochs)]
        command += ["--out", f"{folder}/run", *options.split()]
        gigabytes = run_and_weigh(command)
        log = read_log(f"{folder}/run")
        checkpoint = load_checkpoint(f"{folder}/run")
        network = checkpoint.network().eval()
    scenes = SegmentationFolder(shapes(), "val", to_float())
    everywhere, outlines = (
        ConfusionMatrix(len(scenes.classes)),
        ConfusionMatrix(len(scenes.classes)),
    )
    out.mkdir(parents=True, exist_ok=True)
    for number, (image, labels) in enumerate(scenes):
        drawn = predict(network, image)
        everywhere.update(labels, drawn)
        outlines.update(labels.where(near_boundary(labels, DISTANCE), VOID), drawn)
        if number in WATCHED:
            save_labels(out / f"{model}-{backbone}-{number}.png", drawn)
    return {
        "command": f"fcn train {options}",
        "model": model,
        "backbone": backbone,
        "parameters": sum(parameter.numel() for parameter in network.parameters()),
        "gmacs": round(macs(network) / 1e9, 3),
        "gigabytes": round(gigabytes, 2),
        "losses": [round(record["loss"], 4) for record in log],
        "pixel_accuracy": round(everywhere.pixel_accuracy(), 4),
        "mean_iou": round(everywhere.mean_iou(), 4),
        "outline_iou": round(outlines.mean_iou(), 4),
        "iou_per_class": [round(iou, 4) for iou in everywhere.iou_per_class().tolist()],
        "always_background": round(everywhere.always(0).mean_iou(), 4),
        "always_background_outlines": round(outlines.always(0).mean_iou(), 4),
        "torch": torch.__version__,
    }


def classifier(backbone: str) -> Path:
    """Return the file of a backbone's classifier of crops; train it if it is not there."""
    weights = classifier_file(backbone)
    if not weights.exists():
        subprocess.run([sys.executable, "-m", "fcnlib.course.pretrain", backbone], check=True)
    return weights


def times(names: list[str]) -> dict[str, dict[str, float]]:
    """Return the median seconds of a training step and of an answer, networks taking turns."""
    random = torch.Generator().manual_seed(0)
    batch = torch.rand(4, 3, 160, 160, generator=random)
    labels = torch.randint(len(SHAPE_CLASSES), (4, 160, 160), generator=random)
    scene = torch.rand(1, 3, 184, 272, generator=random)
    layout = auto_memory_format("cpu")
    networks, optimizers = {}, {}
    for name in names:
        model, backbone = NETWORKS[name]
        body = None if backbone.startswith("resnet") else backbone
        network = build_model(model, len(SHAPE_CLASSES), body, width=WIDTH, fc6_size=2)
        networks[name] = network.to(memory_format=layout)
        optimizers[name] = RECIPES["modern"].optimizer(networks[name], 1e-4, 1.0)
    taken: dict[str, dict[str, list[float]]] = {name: {"step": [], "answer": []} for name in names}
    for _ in range(ROUNDS):
        for name, network in networks.items():
            both = {"auxiliary": True} if isinstance(network, FCNResNet50) else {}
            network.train()
            begin = time.perf_counter()
            outputs = network(batch.to(memory_format=layout), **both)
            segmentation_loss(outputs, labels).backward()
            optimizers[name].step()
            optimizers[name].zero_grad()
            taken[name]["step"].append(time.perf_counter() - begin)
            network.eval()
            begin = time.perf_counter()
            with torch.inference_mode():
                network(scene)
            taken[name]["answer"].append(time.perf_counter() - begin)
    return {
        name: {f"{what}_seconds": round(statistics.median(all_), 4) for what, all_ in kinds.items()}
        | {"threads": torch.get_num_threads(), "cpu": torch.backends.cpu.get_cpu_capability()}
        for name, kinds in taken.items()
    }


def macs(network: nn.Module) -> int:
    """Return the multiplications, with an addition each, for a scene of 184 x 272 pixels."""
    with FlopCounterMode(display=False) as counter, torch.inference_mode():
        network(torch.zeros(1, 3, 184, 272))
    return counter.get_total_flops() // 2


def run_and_weigh(command: list[str]) -> float:
    """Run a command; return the most memory, in GB, that it held. Raises on failure.

    A small process starts it, since on Linux a child's maximum begins with its parent's.
    """
    weigh = [sys.executable, "-c", WEIGH, *command]
    done = subprocess.run(weigh, stdout=subprocess.PIPE, text=True)
    if done.returncode:
        raise SystemExit(f"{' '.join(command)} failed.")
    return int(done.stdout) / (1e9 if sys.platform == "darwin" else 1e6)  # bytes, or kilobytes


if __name__ == "__main__":
    main()
