"""What each skip brings, and what the classifier brings: notebook 09's table, for several seeds.

    python benchmarks/stages.py [--stages 4 4 6] [--seeds 0 1 2] [--crop 128] [--straight]

FCN-32s, 16s and 8s and an FCN-8s without the classifier, each with the same pictures, steps and
rates: one schedule over all stages, and the network changes between them, as in the notebook.
With --straight there are no stages: each network is trained from its start to the end. Scores are
mean IoU on the 100 validation scenes of the embedded set, at native size; always background stands
beside them.
"""

import argparse
import statistics
import time

import torch
from torch import nn

from fcnlib.course.pretrain import CLASSIFIER
from fcnlib.data import SegmentationFolder, shapes, to_float, train_transforms
from fcnlib.data.loader import epoch_batches, mixed_seed, train_loader
from fcnlib.evaluation import evaluate
from fcnlib.losses import pixel_cross_entropy
from fcnlib.memory import keep_freed_memory
from fcnlib.models import build_model, init_from
from fcnlib.precision import auto_memory_format, autocast
from fcnlib.recipes import modern_optimizer, set_rate, warm_up_and_poly

LR, PRETRAINED = 2e-2, 0.1
BATCH, SCALE, DROPOUT = 4, (0.8, 1.25), 0.1
LAYOUT = auto_memory_format("cpu")
RUNS = {
    "FCN-32s": ("32s", "32s", "32s"),
    "FCN-16s": ("32s", "16s", "16s"),
    "FCN-8s": ("32s", "16s", "8s"),
}


def new_network(name: str, weights: object, seed: int, classes: int) -> nn.Module:
    """Return the notebook's network: VGG11 with BatchNorm, a quarter as wide."""
    torch.manual_seed(seed)
    options = {"backbone": "vgg11_bn", "width": 0.25, "fc6_size": 2}
    network = build_model(f"fcn{name}", classes, weights=weights, **options)
    network.drop6.p = network.drop7.p = DROPOUT
    return network.to(memory_format=LAYOUT)


def train_stage(network: nn.Module, loader: object, epochs: range, total: int, seed: int) -> None:
    """Train for these epochs of all ``total``, whose rates follow one schedule."""
    optimizer = modern_optimizer(network, LR, PRETRAINED)
    for epoch in epochs:
        torch.manual_seed(mixed_seed(seed, epoch, 0))
        network.train()
        for step, (images, labels) in enumerate(epoch_batches(loader, epoch)):
            done = (epoch - 1 + (step + 0.5) / len(loader)) / total
            set_rate(optimizer, warm_up_and_poly(done))
            with autocast("cpu"):
                logits = network(images.to(memory_format=LAYOUT))
            pixel_cross_entropy(logits, labels).backward()
            optimizer.step()
            optimizer.zero_grad()


def scores(stages: list[int], seed: int, crop: int, straight: bool) -> dict[str, float]:
    """Return the mean IoU of each network of a seed."""
    train = SegmentationFolder(shapes(), "train", train_transforms(crop, SCALE))
    val = SegmentationFolder(shapes(), "val", to_float())
    loader = train_loader(train, BATCH, seed)
    ends = [sum(stages[: place + 1]) for place in range(3)]
    epochs = [range(end - count + 1, end + 1) for end, count in zip(ends, stages, strict=True)]
    trained: dict[tuple, nn.Module] = {}

    def run(names: tuple[str, ...], weights: object) -> nn.Module:
        if (names, weights) not in trained:
            network = new_network(names[-1], weights, seed, len(train.classes))
            if names[:-1]:
                init_from(network, run(names[:-1], weights))
            train_stage(network, loader, epochs[len(names) - 1], ends[-1], seed)
            trained[names, weights] = network
        return trained[names, weights]

    found = {}
    runs = {name: (names, CLASSIFIER) for name, names in RUNS.items()}
    runs["FCN-8s from random"] = (RUNS["FCN-8s"], None)
    if straight:
        epochs[0] = range(1, ends[-1] + 1)
        runs = {name: (names[-1:], weights) for name, (names, weights) in runs.items()}
    for name, (names, weights) in runs.items():
        begin = time.perf_counter()
        network = run(names, weights)
        with autocast("cpu"):
            matrix = evaluate(network, val)
        found[name] = matrix.mean_iou()
        print(
            f"seed {seed}  {name:20} mIoU {found[name]:.3f}  pixel accuracy "
            f"{matrix.pixel_accuracy():.3f}  (always background {matrix.always(0).mean_iou():.3f})"
            f"  {time.perf_counter() - begin:.0f} s",
            flush=True,
        )
    return found


def main() -> None:
    """Print each score, and for each network mean, least and most over the seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--stages", type=int, nargs=3, default=[4, 4, 6], help="epochs of each")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--crop", type=int, default=128, help="side of a crop, in pixels")
    parser.add_argument("--straight", action="store_true", help="each in one stage")
    arguments = parser.parse_args()
    torch.set_flush_denormal(True)
    keep_freed_memory()
    table = [
        scores(arguments.stages, seed, arguments.crop, arguments.straight)
        for seed in arguments.seeds
    ]
    for name in table[0]:
        values = [row[name] for row in table]
        print(f"{name:20} {statistics.mean(values):.3f}  {min(values):.3f} to {max(values):.3f}")


if __name__ == "__main__":
    main()
