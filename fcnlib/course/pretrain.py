"""The classifier that the course hands out: the network of notebook 05, trained for longer.

    python -m fcnlib.course.pretrain [FILE]

It stands for the ImageNet networks that others trained for weeks: expensive once, and then the
start of everything. Three minutes on two cores. The weights are stored in half precision;
beside them a JSON file says how they came about and how good they are.
"""

import hashlib
import json
import sys
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from fcnlib.data import SHAPE_CLASSES, shape_crops
from fcnlib.models import VGG

CLASSIFIER = Path(__file__).parents[2] / "data" / "classifier.safetensors"
EPOCHS, BATCH_SIZE, RATE, SEED = 20, 32, 3e-3, 0


def new_classifier() -> VGG:
    """Return notebook 05's network, untrained: VGG11 with BatchNorm, a quarter as wide."""
    return VGG("vgg11_bn", len(SHAPE_CLASSES), width=0.25, image_size=64)


def train_classifier(network: VGG) -> None:
    """Train on the crops with one shape each, every crop turned and flipped anew."""
    images, classes = shape_crops("train")
    steps = len(images) // BATCH_SIZE
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=EPOCHS * steps)
    network.train()
    for _ in tqdm(range(EPOCHS), "epochs", leave=False, disable=None):
        order = torch.randperm(len(images))[: steps * BATCH_SIZE]
        for batch in order.split(BATCH_SIZE):
            crops = torch.stack([turned(image) for image in images[batch] / 255])
            crops = crops.contiguous(memory_format=torch.channels_last)  # faster for this one
            loss = F.cross_entropy(network(crops), classes[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def turned(image: Tensor) -> Tensor:
    """Turn a crop (3, H, W) by quarters and flip it, at random."""
    image = image.rot90(int(torch.randint(4, ())), dims=(1, 2))
    return image.flip(2) if torch.rand(()) < 0.5 else image


def accuracy(network: VGG) -> float:
    """Return the share of the validation crops that the network names rightly."""
    images, classes = shape_crops("val")
    network.eval()
    with torch.inference_mode():
        answers = torch.cat([network(part / 255).argmax(1) for part in images.split(100)])
    return float((answers == classes).double().mean())


def main() -> None:
    """Train, store, read back and measure."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else CLASSIFIER
    torch.set_flush_denormal(True)
    torch.manual_seed(SEED)
    network, start = new_classifier(), time.perf_counter()
    network = network.to(memory_format=torch.channels_last)
    train_classifier(network)
    seconds = time.perf_counter() - start
    state = network.state_dict()
    halves = {
        name: (x.half() if x.is_floating_point() else x).contiguous() for name, x in state.items()
    }
    save_file(halves, path)
    network.load_state_dict(load_file(path))
    facts = {
        "what": "VGG11 with BatchNorm, a quarter as wide, for 64 x 64 crops with one shape",
        "command": "python -m fcnlib.course.pretrain",
        "epochs": EPOCHS,
        "seed": SEED,
        "minutes": round(seconds / 60, 1),
        "classes": SHAPE_CLASSES,
        "validation_accuracy": round(accuracy(network), 4),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {facts['validation_accuracy']:.1%} of the validation crops")


if __name__ == "__main__":
    main()
