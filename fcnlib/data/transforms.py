"""Transforms that treat a picture and its label map alike."""

import torch
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as F

from fcnlib.data.labels import VOID

IMAGENET_MEAN_COLOR = (124, 116, 104)
"""The mean colour of ImageNet's pictures: a network sees it as zeros."""


class RandomScale(v2.Transform):
    """Resize picture and labels by one factor, drawn evenly from a range.

    Pictures are resized bilinearly with antialiasing, labels by nearest-neighbour, so no
    label appears that was not there.
    """

    def __init__(self, scale: tuple[float, float]) -> None:
        super().__init__()
        self.scale = scale

    def make_params(self, flat_inputs: list) -> dict:
        """Draw the factor and return the size that it leads to."""
        height, width = v2.query_size(flat_inputs)
        low, high = self.scale
        factor = low + (high - low) * float(torch.rand(()))
        return {"size": [max(1, round(height * factor)), max(1, round(width * factor))]}

    def transform(self, inpt: object, params: dict) -> object:
        """Resize one input."""
        return F.resize(inpt, params["size"])


def to_float() -> v2.Transform:
    """Make the picture float32 in 0..1 and the labels int64, as network and loss want."""
    return v2.ToDtype({tv_tensors.Image: torch.float32, tv_tensors.Mask: torch.int64}, scale=True)


def train_transforms(
    crop: int | tuple[int, int], scale: tuple[float, float] = (0.5, 2.0)
) -> v2.Transform:
    """Scale, flip and crop at random, then :func:`to_float`.

    ``crop`` is a side or (height, width). Where the scaled picture is smaller than the
    crop, the picture is padded with ImageNet's mean colour and the labels with void, so
    the padding never counts.
    """
    fill = {tv_tensors.Image: IMAGENET_MEAN_COLOR, tv_tensors.Mask: VOID}
    return v2.Compose(
        [
            RandomScale(scale),
            v2.RandomHorizontalFlip(),
            v2.RandomCrop(crop, pad_if_needed=True, fill=fill),
            to_float(),
        ]
    )
