"""Two recipes of training: the paper's, and one that many have agreed on since.

A recipe says how pictures are varied, what the loss is, how each parameter is stepped and how
the rate changes. The loop in ``fcnlib.training`` is the same for both.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from torch import nn
from torch.optim import SGD, AdamW, Optimizer
from torchvision.transforms import v2

from fcnlib.data.transforms import to_float, train_transforms

Parameters = list[dict]


@dataclass(frozen=True)
class Recipe:
    """How to train; the numbers are where ``fcn train`` starts from."""

    lr: float
    batch_size: int
    crop: int  # the side that pictures are cut to; 0: their own size, in batches of 1
    reduction: str  # of the loss over the valid pixels: "mean" or "sum"
    optimizer: Callable[[nn.Module, float, float], Optimizer]
    schedule: Callable[[float], float]  # the share done, 0..1 -> factor of the rate
    lr_of_stage: Mapping[str, float] = field(default_factory=dict)  # where it differs from lr

    def transforms(self, crop: int, scale: tuple[float, float]) -> v2.Transform:
        """Return what is done to a training picture and its labels."""
        return train_transforms(crop, scale) if crop else to_float()


def paper_optimizer(model: nn.Module, lr: float, pretrained_factor: float) -> SGD:
    """Return the optimiser of the paper's release: SGD with momentum .99.

    Biases step at twice the rate and do not decay (section 4.3 of the paper, and its
    solver.prototxt). Fixed upsampling is no parameter of it. All layers have the same rate:
    ``pretrained_factor`` is for the other recipe.
    """
    weights: list[nn.Parameter] = []
    biases: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (biases if name.endswith("bias") else weights).append(parameter)
    groups: Parameters = [
        {"params": weights, "lr": lr},
        {"params": biases, "lr": 2 * lr, "weight_decay": 0.0},
    ]
    return SGD(groups, momentum=0.99, weight_decay=5e-4)


def modern_optimizer(model: nn.Module, lr: float, pretrained_factor: float) -> AdamW:
    """Return AdamW; layers that are pretrained step at ``pretrained_factor`` times the rate.

    Which layers are new the network says: ``model.new_layers`` has their names' beginnings.
    """
    new_layers: tuple[str, ...] = model.new_layers  # type: ignore[assignment]
    old: list[nn.Parameter] = []
    new: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            (new if name.startswith(new_layers) else old).append(parameter)
    groups: Parameters = [{"params": old, "lr": lr * pretrained_factor}, {"params": new, "lr": lr}]
    return AdamW(groups, weight_decay=0.01, fused=True)  # fused: the same in one piece, faster


def warm_up_and_poly(done: float, warm_up: float = 0.05, power: float = 0.9) -> float:
    """Return the factor of the rate when this share of the steps is done.

    It rises in a line while the first 5 % are done, then falls as (1 - share)^0.9 to 0.
    """
    if done < warm_up:
        return done / warm_up
    return ((1 - done) / (1 - warm_up)) ** power


RECIPES = {
    # Batch 1 at native size, a summed loss, a constant rate, smaller for each finer stage.
    "paper": Recipe(
        lr=1e-10,
        batch_size=1,
        crop=0,
        reduction="sum",
        optimizer=paper_optimizer,
        schedule=lambda done: 1.0,
        lr_of_stage={"fcn16s": 1e-12, "fcn8s": 1e-14},
    ),
    "modern": Recipe(
        lr=1e-3,
        batch_size=8,
        crop=320,
        reduction="mean",
        optimizer=modern_optimizer,
        schedule=warm_up_and_poly,
    ),
}


def set_rate(optimizer: Optimizer, factor: float) -> None:
    """Set the rate of each group to ``factor`` times the rate that it began with."""
    for group in optimizer.param_groups:
        group["lr"] = factor * group.setdefault("initial_lr", group["lr"])
