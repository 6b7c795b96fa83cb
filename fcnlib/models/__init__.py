"""Networks: VGG and its FCNs, and the variants that PyTorch users meet under the same name."""

from fcnlib.models.build import build_model
from fcnlib.models.decoder import FCNDecoder
from fcnlib.models.fcn import FCN
from fcnlib.models.fcn_resnet import FCNResNet18, FCNResNet50
from fcnlib.models.normalization import CAFFE, TORCHVISION, Normalization, Normalize
from fcnlib.models.squeezenet import SqueezeNet
from fcnlib.models.vgg import VGG
from fcnlib.models.weights import init_from, load_reference_weights

__all__ = [
    "CAFFE",
    "FCN",
    "TORCHVISION",
    "VGG",
    "FCNDecoder",
    "FCNResNet18",
    "FCNResNet50",
    "Normalization",
    "Normalize",
    "SqueezeNet",
    "build_model",
    "init_from",
    "load_reference_weights",
]
