"""The BatchNorm decoder over VGG: five learned enlargements by two, features added.

Not in the paper: a network that many PyTorch tutorials copy. Where FCN-8s adds scores, it
adds the encoder's features, and it leaves out fc6 and fc7.
"""

from torch import Tensor, nn
from torch.nn import functional as F

from fcnlib.models.batch_norm import require_values
from fcnlib.models.normalization import Normalize
from fcnlib.models.vgg import VGGFeatures, scaled

LAST_CHANNELS = 32


class FCNDecoder(nn.Module):
    """VGG features, enlarged: pictures (N, 3, H, W) -> logits (N, num_classes, H, W).

    Five times: a transposed convolution (kernel 3, stride 2), ReLU, BatchNorm, and the
    features of the encoder that have the same size are added. Sizes are rounded up on the
    way down and cut on the way up, so every picture fits; where H and W are multiples of 32,
    nothing is cut. Numbers bear the tutorial's names: pretrained_net.features, deconv1 to
    deconv5, bn1 to bn5, classifier.

    Enlarging with kernel 3 moves every map by half a cell towards the top left; the
    network learns with it.
    """

    new_layers = ("deconv", "bn", "classifier")
    """What no classifier has: the beginnings of these layers' names."""

    def __init__(self, encoder: VGGFeatures, num_classes: int = 21, width: float = 1.0) -> None:
        super().__init__()
        self.normalize = Normalize()
        self.pretrained_net = encoder
        first, second, third, fourth, fifth = encoder.channels
        self.deconv1, self.bn1 = _twice(fifth, fourth)
        self.deconv2, self.bn2 = _twice(fourth, third)
        self.deconv3, self.bn3 = _twice(third, second)
        self.deconv4, self.bn4 = _twice(second, first)
        self.deconv5, self.bn5 = _twice(first, last := scaled(LAST_CHANNELS, width))
        self.classifier = nn.Conv2d(last, num_classes, kernel_size=1)
        # bn5 sees twice the size of the first pooling's map, so at least 2 x 2 values.
        self.batch_norm_stride = encoder.batch_norm_stride

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of pictures, RGB in 0..1, of any size."""
        require_values(self.pretrained_net, x, self.batch_norm_stride)
        height, width = x.shape[-2:]
        *finer, x = self.pretrained_net.maps(self.normalize(x))
        for deconv, bn in (
            (self.deconv1, self.bn1),
            (self.deconv2, self.bn2),
            (self.deconv3, self.bn3),
            (self.deconv4, self.bn4),
        ):
            encoder = finer.pop()
            x = bn(F.relu(deconv(x)))
            x = x[..., : encoder.shape[-2], : encoder.shape[-1]] + encoder
        x = self.bn5(F.relu(self.deconv5(x)))
        return self.classifier(x[..., :height, :width])


def _twice(inputs: int, outputs: int) -> tuple[nn.ConvTranspose2d, nn.BatchNorm2d]:
    deconv = nn.ConvTranspose2d(
        inputs, outputs, kernel_size=3, stride=2, padding=1, output_padding=1
    )
    return deconv, nn.BatchNorm2d(outputs)
