"""Pictures, label maps and one laid over the other."""

from collections.abc import Sequence

import numpy as np
import torch
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from fcnlib.data import VOID, colorize, voc_colormap


def show_image(axis: Axes, image: torch.Tensor, title: str = "") -> None:
    """Show a picture (3, H, W), uint8 or float in 0..1, without ticks."""
    axis.imshow(image.permute(1, 2, 0).numpy())
    axis.set(title=title, xticks=[], yticks=[])


def show_labels(axis: Axes, labels: torch.Tensor, title: str = "") -> None:
    """Show a label map (H, W) in the VOC colours, without ticks."""
    axis.imshow(colorize(labels))
    axis.set(title=title, xticks=[], yticks=[])


def overlay(image: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Tint a uint8 picture (3, H, W) with the colours of its labels; background stays."""
    colors = torch.from_numpy(colorize(labels)).permute(2, 0, 1)
    mixed = (image.float() * 0.4 + colors.float() * 0.6).to(torch.uint8)
    return torch.where(labels == 0, image, mixed)


def class_legend(figure: Figure, labels: torch.Tensor, classes: Sequence[str]) -> None:
    """Name, below the figure, the colours of the classes that occur in a label map."""
    names = {**dict(enumerate(classes)), VOID: "void"}
    patches = [
        Patch(facecolor=voc_colormap()[label] / 255, edgecolor="black", label=names[label])
        for label in np.unique(labels).tolist()
    ]
    figure.legend(handles=patches, loc="outside lower center", ncols=min(len(patches), 5))


def show_pair(image: torch.Tensor, labels: torch.Tensor, classes: Sequence[str]) -> Figure:
    """Show a picture, its label map and one over the other, with a legend."""
    figure, axes = plt.subplots(1, 3, figsize=(9, 3))
    show_image(axes[0], image, "picture")
    show_labels(axes[1], labels, "labels")
    show_image(axes[2], overlay(image, labels), "one over the other")
    class_legend(figure, labels, classes)
    return figure
