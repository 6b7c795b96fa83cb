"""VGG (Simonyan and Zisserman, 2015): 11, 13, 16 or 19 layers from a table of numbers.

Layers and their order are torchvision's, so its state_dicts load as they are.
"""

from torch import Tensor, nn

from fcnlib.convolutionalize import linear_to_conv
from fcnlib.models.normalization import Normalize
from fcnlib.precision import forward_layout

CONVOLUTIONS = {
    "vgg11": (1, 1, 2, 2, 2),
    "vgg13": (2, 2, 2, 2, 2),
    "vgg16": (2, 2, 3, 3, 3),
    "vgg19": (2, 2, 4, 4, 4),
}
"""How many convolutions each of the five stages has; a pooling ends the stage."""

CHANNELS = (64, 128, 256, 512, 512)
HIDDEN = 4096
STRIDE = 32
VGG_NAMES = (*CONVOLUTIONS, *(f"{name}_bn" for name in CONVOLUTIONS))

Stages = dict[str, dict[str, nn.Module]]
"""The layers of a network by stage, in order: name of the stage -> name -> layer."""


class VGGFeatures(nn.Module):
    """The convolutional part of a VGG, which halves the size five times.

    ``name`` is one of VGG_NAMES; "_bn" puts BatchNorm behind each convolution. ``width``
    scales the channels. With ``ceil_mode`` poolings round sizes up, so that no pixel at the
    end is lost; as trained, they round down.
    """

    pool_kernel = 2

    def __init__(self, name: str, width: float = 1.0, ceil_mode: bool = False) -> None:
        super().__init__()
        if name not in VGG_NAMES:
            raise ValueError(f"name must be one of {', '.join(VGG_NAMES)}, not {name!r}.")
        self.channels = [scaled(channels, width) for channels in CHANNELS]
        self.batch_norm_stride = STRIDE // 2 if name.endswith("_bn") else 0
        layers: list[nn.Module] = []
        inputs = 3
        for count, outputs in zip(
            CONVOLUTIONS[name.removesuffix("_bn")], self.channels, strict=True
        ):
            for _ in range(count):
                layers.append(nn.Conv2d(inputs, outputs, kernel_size=3, padding=1))
                if name.endswith("_bn"):
                    layers.append(nn.BatchNorm2d(outputs))
                layers.append(nn.ReLU(inplace=True))
                inputs = outputs
            layers.append(nn.MaxPool2d(kernel_size=2, stride=2, ceil_mode=ceil_mode))
        self.features = nn.Sequential(*layers)
        for module in self.features:
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
                nn.init.zeros_(module.bias)  # type: ignore[arg-type]

    def maps(self, x: Tensor) -> list[Tensor]:
        """Return the map behind each pooling, of normalised pictures (N, 3, H, W)."""
        maps = []
        x = forward_layout(x)
        for layer in self.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                maps.append(x)
        return maps

    def stages(self) -> Stages:
        """Return the layers under the paper's names: pool1: conv1_1, relu1_1, ... pool1."""
        stages: Stages = {}
        layers: dict[str, nn.Module] = {}
        number = 0
        for layer in self.features:
            stage = len(stages) + 1
            if isinstance(layer, nn.MaxPool2d):
                layers[f"pool{stage}"] = layer
                stages[f"pool{stage}"] = layers
                layers, number = {}, 0
                continue
            number += isinstance(layer, nn.Conv2d)
            kind = {nn.Conv2d: "conv", nn.BatchNorm2d: "bn", nn.ReLU: "relu"}[type(layer)]
            layers[f"{kind}{stage}_{number}"] = layer
        return stages


class VGG(VGGFeatures):
    """VGG, the classifier: pictures (N, 3, H, W), RGB in 0..1 -> logits (N, num_classes).

    It is trained on pictures of ``image_size`` (a multiple of 32), where the last pooling
    leaves image_size / 32 cells a side. Other sizes, from 32 pixels on, are averaged to as
    many cells, as torchvision does it.
    """

    new_layers: tuple[str, ...] = ()

    def __init__(
        self, name: str, num_classes: int = 1000, width: float = 1.0, image_size: int = 224
    ) -> None:
        if image_size < STRIDE or image_size % STRIDE:
            raise ValueError(f"image_size must be a multiple of {STRIDE}, not {image_size}.")
        super().__init__(name, width)
        self.normalize = Normalize()
        self.cells = image_size // STRIDE
        self.hidden = scaled(HIDDEN, width)
        self.avgpool = nn.AdaptiveAvgPool2d(self.cells)
        self.classifier = nn.Sequential(
            nn.Linear(self.channels[-1] * self.cells**2, self.hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(self.hidden, self.hidden),
            nn.ReLU(inplace=True),
            nn.Dropout(),
            nn.Linear(self.hidden, num_classes),
        )
        for layer in self.classifier:
            if isinstance(layer, nn.Linear):
                nn.init.normal_(layer.weight, 0, 0.01)
                nn.init.zeros_(layer.bias)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (N, num_classes)."""
        return self.classifier(self.avgpool(self.features(self.normalize(x))).flatten(1))

    def head(self) -> dict[str, nn.Module]:
        """Return fc6 and fc7 as convolutions with the same numbers, under the paper's names."""
        fc6, fc7 = self.classifier[0], self.classifier[3]
        assert isinstance(fc6, nn.Linear) and isinstance(fc7, nn.Linear)
        return dict(
            fc6=linear_to_conv(fc6, self.channels[-1], self.cells, self.cells),
            relu6=nn.ReLU(inplace=True),
            drop6=nn.Dropout(),
            fc7=linear_to_conv(fc7, self.hidden, 1, 1),
            relu7=nn.ReLU(inplace=True),
            drop7=nn.Dropout(),
        )


def scaled(channels: int, width: float) -> int:
    """Return ``channels`` times ``width``, rounded, at least 1; ValueError for width <= 0."""
    if not width > 0:
        raise ValueError(f"width must be greater than 0, not {width}.")
    return max(1, round(channels * width))
