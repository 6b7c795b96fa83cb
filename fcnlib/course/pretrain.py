"""The classifiers that the course trains: what its networks begin with.

    python -m fcnlib.course.pretrain [BACKBONE ...]

They stand for the ImageNet networks that others trained for weeks: expensive once, and then the
start of everything. Each is a quarter as wide as published, and learns the course's crops with
one shape each; VGG11 with BatchNorm is the network of notebook 05, trained for longer. Minutes
each on two cores. The weights are stored in half precision; beside them a JSON file says how
they came about and how good they are.
"""

import argparse
import hashlib
import json
import time
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from tqdm import tqdm

from fcnlib.data import SHAPE_CLASSES, shape_crops
from fcnlib.memory import keep_freed_memory
from fcnlib.models import VGG, Normalize
from fcnlib.models.resnet import BasicBlock, Bottleneck, ResNet
from fcnlib.models.vgg import VGG_NAMES

FOLDER = Path(__file__).parents[2] / "data"
CLASSIFIER = FOLDER / "classifier-vgg11_bn.safetensors"
BACKBONES = (*VGG_NAMES, "resnet18", "resnet50")
WIDTH, EPOCHS, BATCH_SIZE, RATE, SEED = 0.25, 20, 32, 3e-3, 0


def classifier_file(backbone: str) -> Path:
    """Return where the weights of a classifier lie, or will lie once it is trained."""
    return FOLDER / f"classifier-{backbone}.safetensors"


class ResNetClassifier(ResNet):
    """A ResNet with its classifier: pictures (N, 3, H, W), RGB in 0..1 -> logits (N, classes)."""

    def __init__(self, name: str, num_classes: int, width: float) -> None:
        if name == "resnet18":
            super().__init__(BasicBlock, (2, 2, 2, 2), width)
        else:  # resnet50, which is dilated only later, as published networks are
            super().__init__(Bottleneck, (3, 4, 6, 3), width)
        self.normalize = Normalize()
        self.fc = nn.Linear(self.channels[-1], num_classes)

    def forward(self, x: Tensor) -> Tensor:  # type: ignore[override]
        """Return logits (N, num_classes)."""
        _, features = super().forward(self.normalize(x))
        return self.fc(features.mean(dim=(2, 3)))


def new_classifier(backbone: str = "vgg11_bn") -> nn.Module:
    """Return a classifier of crops, untrained; "vgg11_bn" is notebook 05's network."""
    if backbone in VGG_NAMES:
        return VGG(backbone, len(SHAPE_CLASSES), width=WIDTH, image_size=64)
    return ResNetClassifier(backbone, len(SHAPE_CLASSES), WIDTH)


def train_classifier(network: nn.Module) -> None:
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
            crops = crops.contiguous(memory_format=torch.channels_last)  # faster for these
            loss = F.cross_entropy(network(crops), classes[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()


def turned(image: Tensor) -> Tensor:
    """Turn a crop (3, H, W) by quarters and flip it, at random."""
    image = image.rot90(int(torch.randint(4, ())), dims=(1, 2))
    return image.flip(2) if torch.rand(()) < 0.5 else image


def accuracy(network: nn.Module) -> float:
    """Return the share of the validation crops that the network names rightly."""
    images, classes = shape_crops("val")
    network.eval()
    with torch.inference_mode():
        answers = torch.cat([network(part / 255).argmax(1) for part in images.split(100)])
    return float((answers == classes).double().mean())


def make(backbone: str) -> None:
    """Train, store, read back and measure."""
    path = classifier_file(backbone)
    torch.manual_seed(SEED)
    network, start = new_classifier(backbone), time.perf_counter()
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
        "what": f"{backbone}, a quarter as wide, for 64 x 64 crops with one shape",
        "command": f"python -m fcnlib.course.pretrain {backbone}",
        "epochs": EPOCHS,
        "seed": SEED,
        "minutes": round(seconds / 60, 1),
        "classes": SHAPE_CLASSES,
        "validation_accuracy": round(accuracy(network), 4),
        "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
    }
    path.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    print(f"{path}: {facts['validation_accuracy']:.1%} of the validation crops", flush=True)


def main() -> None:
    """Make the classifiers that are named, or VGG11's."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("backbones", nargs="*", metavar="BACKBONE", default=["vgg11_bn"])
    backbones = parser.parse_args().backbones
    if unknown := [name for name in backbones if name not in BACKBONES]:
        parser.error(f"{unknown[0]} is none of {', '.join(BACKBONES)}.")
    torch.set_flush_denormal(True)
    keep_freed_memory()
    for backbone in backbones:
        make(backbone)


if __name__ == "__main__":
    main()
