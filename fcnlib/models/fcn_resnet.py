"""The FCNs over ResNet: that of the book d2l at stride 32, and torchvision's at stride 8."""

from typing import Any

from torch import Tensor, nn
from torch.nn import functional as F

from fcnlib.bilinear import FullPrecisionConvTranspose2d, bilinear_kernel
from fcnlib.models.batch_norm import require_values
from fcnlib.models.normalization import Normalize
from fcnlib.models.resnet import ResNet

D2L_STRIDE = 32
D2L_BACKBONE = ("conv1", "bn1", "relu", "maxpool", "layer1", "layer2", "layer3", "layer4")
"""The backbone's layers in the order in which d2l numbers them."""


class FCNResNet18(nn.Module):
    """d2l's network: ResNet-18, a 1x1 convolution, one transposed convolution of 64x64.

    Pictures (N, 3, H, W) -> logits (N, num_classes, H, W). The transposed convolution has
    stride 32 and connects every class with every other; it starts as bilinear interpolation
    and, with ``learned``, is trained like the rest. d2l's pictures are multiples of 32;
    for others the end is cut. The state_dict of d2l's nn.Sequential loads as it is.
    """

    new_layers = ("final_conv", "transpose_conv")
    """What no classifier has: the beginnings of these layers' names."""

    def __init__(self, backbone: ResNet, num_classes: int = 21, learned: bool = False) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.backbone = backbone
        self.final_conv = nn.Conv2d(backbone.channels[-1], num_classes, kernel_size=1)
        self.transpose_conv = FullPrecisionConvTranspose2d(
            num_classes, num_classes, 2 * D2L_STRIDE, stride=D2L_STRIDE, padding=D2L_STRIDE // 2
        )
        nn.init.zeros_(self.transpose_conv.weight)
        nn.init.zeros_(self.transpose_conv.bias)  # type: ignore[arg-type]
        self.transpose_conv.weight.data[range(num_classes), range(num_classes)] = bilinear_kernel(
            2 * D2L_STRIDE
        )
        self.transpose_conv.weight.requires_grad_(learned)
        self.register_load_state_dict_pre_hook(_name_layers)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of pictures, RGB in 0..1, of any size."""
        require_values(self, x, D2L_STRIDE)
        height, width = x.shape[-2:]
        _, features = self.backbone(self.normalize(x))
        logits = self.transpose_conv(self.final_conv(features))
        return logits[..., :height, :width]


class FCNResNet50(nn.Module):
    """torchvision's network: ResNet-50 at stride 8, a head, bilinear interpolation.

    Pictures (N, 3, H, W) -> logits (N, num_classes, H, W). A second head on layer3 helps in
    training: ``model(x, auxiliary=True)`` returns its logits too. torchvision's published
    state_dicts load as they are. It shares the name, but no skip and no transposed
    convolution, with the paper's networks.
    """

    new_layers = ("classifier", "aux_classifier")
    """What no classifier has: the beginnings of these layers' names."""

    def __init__(self, backbone: ResNet, num_classes: int = 21) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.backbone = backbone
        self.classifier = _head(backbone.channels[3], num_classes)
        self.aux_classifier = _head(backbone.channels[2], num_classes)

    def forward(self, x: Tensor, auxiliary: bool = False) -> Tensor | tuple[Tensor, Tensor]:
        """Return the logits of pictures, RGB in 0..1, of any size; see ``auxiliary`` above."""
        require_values(self, x, 8)
        size = x.shape[-2:]
        third, fourth = self.backbone(self.normalize(x))
        logits = _resize(self.classifier(fourth), size)
        if not auxiliary:
            return logits
        return logits, _resize(self.aux_classifier(third), size)


def _head(inputs: int, num_classes: int) -> nn.Sequential:
    channels = max(1, inputs // 4)
    return nn.Sequential(
        nn.Conv2d(inputs, channels, kernel_size=3, padding=1, bias=False),
        nn.BatchNorm2d(channels),
        nn.ReLU(inplace=True),
        nn.Dropout(0.1),
        nn.Conv2d(channels, num_classes, kernel_size=1),
    )


def _resize(scores: Tensor, size: tuple[int, ...]) -> Tensor:
    # In fp32 under autocast too: these are the final answers.
    return F.interpolate(scores.float(), size=size, mode="bilinear", align_corners=False)


def _name_layers(module: nn.Module, state_dict: dict[str, Tensor], *rest: Any) -> None:
    """Before loading, give the numbered layers of d2l's nn.Sequential their names."""
    for key in list(state_dict):
        number, _, name = key.partition(".")
        if number.isdigit() and int(number) < len(D2L_BACKBONE):
            state_dict[f"backbone.{D2L_BACKBONE[int(number)]}.{name}"] = state_dict.pop(key)
