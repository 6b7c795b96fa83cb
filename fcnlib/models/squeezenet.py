"""SqueezeNet 1.1 (Iandola et al., 2016): ImageNet features with 0.7 million parameters.

Layers, their order and names are torchvision's, so its state_dicts load as they are. The
first convolution and the poolings are 3 x 3 without padding: what they skip, a transposed
convolution of the same kernel and stride puts back in its place.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fcnlib.models.normalization import Normalize
from fcnlib.models.vgg import Stages, scaled

FIRE = {
    # name: channels (in, squeezed, out)
    "fire2": (64, 16, 128),
    "fire3": (128, 16, 128),
    "fire4": (128, 32, 256),
    "fire5": (256, 32, 256),
    "fire6": (256, 48, 384),
    "fire7": (384, 48, 384),
    "fire8": (384, 64, 512),
    "fire9": (512, 64, 512),
}
STAGES = {
    # stage, named after its last layer, at strides 4, 8 and 16
    "fire3": ("conv1", "relu1", "pool1", "fire2", "fire3"),
    "fire5": ("pool3", "fire4", "fire5"),
    "fire9": ("pool5", "fire6", "fire7", "fire8", "fire9"),
}
FC6_CHANNELS, FC6_DILATION = 256, 6
SMALLEST = 17
"""The smallest picture of which the last pooling leaves something."""


class Fire(nn.Module):
    """Squeeze the channels by a 1x1 convolution, then expand them by 1x1 and 3x3 ones."""

    def __init__(self, inputs: int, squeezed: int, outputs: int) -> None:
        super().__init__()
        self.squeeze = nn.Conv2d(inputs, squeezed, kernel_size=1)
        self.expand1x1 = nn.Conv2d(squeezed, outputs // 2, kernel_size=1)
        self.expand3x3 = nn.Conv2d(squeezed, outputs - outputs // 2, kernel_size=3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, outputs, H, W)."""
        x = F.relu(self.squeeze(x))
        return F.relu(torch.cat([self.expand1x1(x), self.expand3x3(x)], dim=1))


class PadEnd(nn.Module):
    """Add zeros below and to the right, so that the layers behind reach every pixel."""

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) -> (N, C, H + 1, W + 1), or more where the picture is tiny."""
        down, right = (max(1, SMALLEST - size) for size in x.shape[-2:])
        return F.pad(x, (0, right, 0, down))


class SqueezeNet(nn.Module):
    """The convolutional part: pictures (N, 3, H, W), RGB in 0..1, H, W >= 17 -> stride 16.

    ``width`` scales the channels. With ``fc6``, the head of an FCN gets a layer of that name,
    as VGG's has one: 3 x 3, dilated, so that each score knows what is around it. It belongs to no
    classifier, and begins at random.
    """

    pool_kernel = 3
    batch_norm_stride = 0
    name = "squeezenet1_1"

    def __init__(self, width: float = 1.0, fc6: bool = False) -> None:
        super().__init__()
        self.normalize = Normalize()
        layers: list[nn.Module] = []
        for name in (name for names in STAGES.values() for name in names):
            if name in FIRE:
                layers.append(Fire(*(scaled(channels, width) for channels in FIRE[name])))
            elif name.startswith("pool"):
                layers.append(nn.MaxPool2d(kernel_size=3, stride=2, ceil_mode=True))
            elif name.startswith("conv"):
                layers.append(nn.Conv2d(3, scaled(64, width), kernel_size=3, stride=2))
            else:
                layers.append(nn.ReLU(inplace=True))
        self.features = nn.Sequential(*layers)
        self.channels = [scaled(FIRE[stage][-1], width) for stage in STAGES]
        self.fc6 = fc6
        self.hidden = scaled(FC6_CHANNELS, width) if fc6 else self.channels[-1]
        self.new_layers: tuple[str, ...] = ("fc6",) if fc6 else ()
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                _init(module)

    def forward(self, x: Tensor) -> Tensor:
        """Return the features."""
        return self.features(self.normalize(x))

    def stages(self) -> Stages:
        """Return the layers by stage, with a PadEnd before the first."""
        layers = iter(self.features)
        stages = {stage: {name: next(layers) for name in names} for stage, names in STAGES.items()}
        stages["fire3"] = {"pad": PadEnd(), **stages["fire3"]}
        return stages

    def head(self) -> dict[str, nn.Module]:
        """Return what stands between the features and the scores: dropout, and fc6 if wanted."""
        if not self.fc6:
            return {"drop9": nn.Dropout()}
        fc6 = nn.Conv2d(self.channels[-1], self.hidden, kernel_size=3, dilation=FC6_DILATION)
        _init(fc6)
        return {"fc6": fc6, "relu6": nn.ReLU(inplace=True), "drop6": nn.Dropout()}


def _init(layer: nn.Conv2d) -> None:
    nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
