"""ResNet-18 and ResNet-50 (He et al., 2016) without their classifier, strided or dilated.

Layers and names are torchvision's, so its state_dicts load as they are.
"""

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional as F

from fcnlib.models.vgg import scaled

CHANNELS = (64, 128, 256, 512)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions around which the input is carried past and added."""

    expansion = 1

    def __init__(self, inputs: int, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, channels, stride, dilation)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels, 1, dilation)
        self.bn2 = nn.BatchNorm2d(channels)
        self.downsample = _shortcut(inputs, channels, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, channels, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = self.bn2(self.conv2(y))
        return F.relu(y + self.downsample(x), inplace=True)


class Bottleneck(nn.Module):
    """A 3x3 convolution between two 1x1 ones, around which the input is carried past."""

    expansion = 4

    def __init__(self, inputs: int, channels: int, stride: int, dilation: int) -> None:
        super().__init__()
        outputs = channels * self.expansion
        self.conv1 = nn.Conv2d(inputs, channels, kernel_size=1, bias=False)
        self.bn1 = nn.BatchNorm2d(channels)
        self.conv2 = _conv3x3(channels, channels, stride, dilation)
        self.bn2 = nn.BatchNorm2d(channels)
        self.conv3 = nn.Conv2d(channels, outputs, kernel_size=1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        """(N, inputs, H, W) -> (N, 4 * channels, H / stride, W / stride)."""
        y = F.relu(self.bn1(self.conv1(x)), inplace=True)
        y = F.relu(self.bn2(self.conv2(y)), inplace=True)
        y = self.bn3(self.conv3(y))
        return F.relu(y + self.downsample(x), inplace=True)


class ResNet(nn.Module):
    """The convolutional part of a ResNet: (N, 3, H, W) -> maps of layer3 and layer4.

    Strides are 16 and 32; with ``dilated`` both are 8: layer3 and layer4 then keep the size
    and spread their kernels by 2 and by 4 instead. Sizes are rounded up everywhere.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(
        self,
        block: type[BasicBlock] | type[Bottleneck],
        depths: Sequence[int],
        width: float = 1.0,
        dilated: bool = False,
    ) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, scaled(64, width), 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(scaled(64, width))
        self.channels: list[int] = []  # behind layer1 to layer4
        inputs, dilation = scaled(64, width), 1
        for number, (depth, channels) in enumerate(zip(depths, CHANNELS, strict=True), start=1):
            channels = scaled(channels, width)
            stride, before = (1 if number == 1 else 2), dilation
            if dilated and number >= 3:
                stride, dilation = 1, dilation * 2
            # The first block of a dilated layer still has the dilation before.
            blocks = [block(inputs, channels, stride, before)]
            inputs = channels * block.expansion
            blocks += [block(inputs, channels, 1, dilation) for _ in range(depth - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*blocks))
            self.channels.append(inputs)
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return the maps of layer3 and layer4 for a normalised picture."""
        x = F.relu(self.bn1(self.conv1(x)), inplace=True)
        x = F.max_pool2d(x, kernel_size=3, stride=2, padding=1)
        third = self.layer3(self.layer2(self.layer1(x)))
        return third, self.layer4(third)


def resnet18(width: float = 1.0) -> ResNet:
    """Return ResNet-18."""
    return ResNet(BasicBlock, (2, 2, 2, 2), width)


def resnet50_dilated(width: float = 1.0) -> ResNet:
    """Return ResNet-50 at stride 8."""
    return ResNet(Bottleneck, (3, 4, 6, 3), width, dilated=True)


def _conv3x3(inputs: int, outputs: int, stride: int, dilation: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride, padding=dilation, dilation=dilation, bias=False)


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    """Return what makes the input fit to be added: nothing, or a 1x1 convolution."""
    if stride == 1 and inputs == outputs:
        return nn.Sequential()
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel_size=1, stride=stride, bias=False),
        nn.BatchNorm2d(outputs),
    )
