"""Independent networks, typed out from descriptions of the published ones, to compare with.

All take normalised pictures. ``width`` scales their channels as fcnlib does it.
"""

import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F


def narrow(channels: int, width: float) -> int:
    return max(1, round(channels * width))


class PublishedFCN(nn.Module):
    """wkentaro/pytorch-fcn's FCN32s, FCN16s, FCN8s and FCN8sAtOnce ("32s" ... "8s_atonce")."""

    def __init__(self, kind: str, num_classes: int, width: float = 1.0) -> None:
        super().__init__()
        self.kind = kind
        inputs = 3
        for stage, (count, channels) in enumerate(
            [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], start=1
        ):
            outputs = narrow(channels, width)
            for number in range(1, count + 1):
                padding = 100 if stage == number == 1 else 1
                self.add_module(f"conv{stage}_{number}", nn.Conv2d(inputs, outputs, 3, 1, padding))
                inputs = outputs
        hidden = narrow(4096, width)
        self.fc6 = nn.Conv2d(inputs, hidden, 7)
        self.fc7 = nn.Conv2d(hidden, hidden, 1)
        self.drop6, self.drop7 = nn.Dropout2d(), nn.Dropout2d()
        self.score_fr = nn.Conv2d(hidden, num_classes, 1)

        def deconvolution(kernel: int, stride: int) -> nn.ConvTranspose2d:
            return nn.ConvTranspose2d(num_classes, num_classes, kernel, stride, bias=False)

        if kind == "32s":
            self.upscore = deconvolution(64, 32)
        else:
            self.score_pool4 = nn.Conv2d(inputs, num_classes, 1)
            self.upscore2 = deconvolution(4, 2)
        if kind == "16s":
            self.upscore16 = deconvolution(32, 16)
        if kind in ("8s", "8s_atonce"):
            self.score_pool3 = nn.Conv2d(narrow(256, width), num_classes, 1)
            self.upscore_pool4 = deconvolution(4, 2)
            self.upscore8 = deconvolution(16, 8)
        for name, layer in self.named_children():
            if isinstance(layer, nn.ConvTranspose2d):
                fill_diagonal(layer)
            elif isinstance(layer, nn.Conv2d):
                scale = 1 if name.startswith("score") else 2
                nn.init.normal_(layer.weight, std=(scale / layer.weight[0].numel()) ** 0.5)
                nn.init.normal_(layer.bias, std=0.1)

    def forward(self, x: Tensor) -> Tensor:
        height, width = x.shape[-2:]
        pooled = {}
        for stage, count in enumerate([2, 2, 3, 3, 3], start=1):
            for number in range(1, count + 1):
                x = F.relu(self.get_submodule(f"conv{stage}_{number}")(x))
            x = pooled[stage] = F.max_pool2d(x, 2, 2, ceil_mode=True)
        x = self.drop7(F.relu(self.fc7(self.drop6(F.relu(self.fc6(x))))))
        x = self.score_fr(x)
        if self.kind == "32s":
            return self.upscore(x)[:, :, 19 : 19 + height, 19 : 19 + width]
        at_once = self.kind == "8s_atonce"
        x = self.upscore2(x)
        x = x + self._scores(4, pooled[4] * (0.01 if at_once else 1), 5, x)
        if self.kind == "16s":
            return self.upscore16(x)[:, :, 27 : 27 + height, 27 : 27 + width]
        x = self.upscore_pool4(x)
        x = x + self._scores(3, pooled[3] * (0.0001 if at_once else 1), 9, x)
        return self.upscore8(x)[:, :, 31 : 31 + height, 31 : 31 + width]

    def _scores(self, stage: int, pooled: Tensor, first: int, like: Tensor) -> Tensor:
        scores = self.get_submodule(f"score_pool{stage}")(pooled)
        return scores[:, :, first : first + like.shape[2], first : first + like.shape[3]]


def fill_diagonal(layer: nn.ConvTranspose2d) -> None:
    """Bilinear, each class times a number of its own; zero between classes."""
    size = layer.kernel_size[0]
    hat = torch.tensor([1 - abs(2 * i - size + 1) / size for i in range(size)])
    nn.init.zeros_(layer.weight)
    with torch.no_grad():
        for channel in range(layer.in_channels):
            layer.weight[channel, channel] = torch.outer(hat, hat) * (1 + channel / 10)


def d2l_resnet18(num_classes: int) -> nn.Sequential:
    """The network of the book d2l, as its section on FCN builds it."""
    pretrained = torchvision.models.resnet18(weights=None)
    net = nn.Sequential(*list(pretrained.children())[:-2])
    net.add_module("final_conv", nn.Conv2d(512, num_classes, kernel_size=1))
    net.add_module(
        "transpose_conv",
        nn.ConvTranspose2d(num_classes, num_classes, kernel_size=64, padding=16, stride=32),
    )
    return net


class TutorialDecoder(nn.Module):
    """The decoder that tutorials share: pictures of multiples of 32, floor pooling."""

    def __init__(self, features: nn.Sequential, num_classes: int, width: float = 1.0) -> None:
        super().__init__()
        self.pretrained_net = nn.Module()
        self.pretrained_net.features = features
        sizes = [narrow(channels, width) for channels in (512, 512, 256, 128, 64, 32)]
        for number in range(1, 6):
            inputs, outputs = sizes[number - 1], sizes[number]
            up = nn.ConvTranspose2d(inputs, outputs, 3, 2, padding=1, dilation=1, output_padding=1)
            self.add_module(f"deconv{number}", up)
            self.add_module(f"bn{number}", nn.BatchNorm2d(outputs))
        self.classifier = nn.Conv2d(sizes[-1], num_classes, kernel_size=1)

    def forward(self, x: Tensor) -> Tensor:
        pooled = []
        for layer in self.pretrained_net.features:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                pooled.append(x)
        x1, x2, x3, x4, x5 = pooled
        score = self.bn1(torch.relu(self.deconv1(x5))) + x4
        score = self.bn2(torch.relu(self.deconv2(score))) + x3
        score = self.bn3(torch.relu(self.deconv3(score))) + x2
        score = self.bn4(torch.relu(self.deconv4(score))) + x1
        return self.classifier(self.bn5(torch.relu(self.deconv5(score))))


def torchvision_vgg(name: str, num_classes: int, width: float, hidden: int) -> nn.Module:
    """torchvision's VGG, with fewer channels."""
    plan = {"vgg11": "A", "vgg13": "B", "vgg16": "D", "vgg19": "E"}[name.removesuffix("_bn")]
    channels = [
        part if part == "M" else narrow(part, width) for part in torchvision.models.vgg.cfgs[plan]
    ]
    features = torchvision.models.vgg.make_layers(channels, batch_norm=name.endswith("_bn"))
    with torch.device("meta"):  # its own classifier is of full width
        net = torchvision.models.VGG(nn.Sequential(), num_classes)
    net.features = features
    sizes = iter([(narrow(512, width) * 49, hidden), (hidden, hidden), (hidden, num_classes)])
    for number, layer in enumerate(net.classifier):
        if isinstance(layer, nn.Linear):
            net.classifier[number] = nn.Linear(*next(sizes))
    return net


def randomise(network: nn.Module, seed: int = 0) -> nn.Module:
    """Give every layer random numbers, BatchNorm's statistics too; eval mode.

    Fixed bilinear layers keep theirs.
    """
    torch.manual_seed(seed)
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.running_mean, -0.5, 0.5)
            nn.init.uniform_(module.running_var, 0.5, 2)
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.uniform_(module.bias, -0.5, 0.5)
        elif isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
        elif isinstance(module, nn.ConvTranspose2d) and module.groups == 1:
            nn.init.normal_(module.weight, std=0.1)
            if module.bias is not None:
                nn.init.normal_(module.bias, std=0.1)
    return network.eval()
