"""Networks by name."""

import math
from pathlib import Path

from torch import nn

from fcnlib.models.decoder import FCNDecoder
from fcnlib.models.fcn import FCN
from fcnlib.models.fcn_resnet import FCNResNet18, FCNResNet50
from fcnlib.models.normalization import TORCHVISION, Normalize
from fcnlib.models.resnet import ResNet, resnet18, resnet50_dilated
from fcnlib.models.squeezenet import SqueezeNet
from fcnlib.models.vgg import CHANNELS, STRIDE, VGG, VGG_NAMES, VGGFeatures, scaled
from fcnlib.models.weights import State, imagenet_weights, load, read_weights

WITH_FC6 = "squeezenet1_1_fc6"
SKIP_SCALES = {
    "fcn32s": (),
    "fcn16s": (1.0,),
    "fcn8s": (1.0, 1.0),
    "fcn8s_atonce": (0.01, 0.0001),
}
BACKBONES = {
    # name: the backbones it can have, the default first
    **dict.fromkeys(SKIP_SCALES, ("vgg16", *VGG_NAMES, "squeezenet1_1", WITH_FC6)),
    "fcn_decoder": ("vgg16", *VGG_NAMES),
    "fcn_resnet18": ("resnet18",),
    "fcn_resnet50": ("resnet50",),
}


def build_model(
    name: str,
    num_classes: int = 21,
    backbone: str | None = None,
    weights: str | Path | None = None,
    geometry: str = "same",
    upsampling: str = "bilinear",
    width: float = 1.0,
    fc6_size: int = 7,
) -> nn.Module:
    """Return a network: pictures (N, 3, H, W), RGB in 0..1 -> logits (N, num_classes, H, W).

    ``name``: fcn32s, fcn16s, fcn8s, fcn8s_atonce (over vgg11, 13, 16, 19, with or without
    "_bn", or squeezenet1_1 with skips at its own strides 8 and 4, or squeezenet1_1_fc6 with a new
    layer that sees farther), fcn_decoder (over a VGG), fcn_resnet18, fcn_resnet50. H and W are any
    sizes from 1 on.

    ``weights``: None; "imagenet", torchvision's for the backbone; or a file with a state_dict
    of the backbone (torchvision's keys) or of the whole network. The model normalises pictures
    as the weights expect it.

    ``geometry``: "same" or, for fcn32s to fcn8s_atonce, "paper" (pad 100 and crop).
    ``upsampling``: "bilinear", fixed, or "learned"; fcn_decoder always learns its own and
    fcn_resnet50 always interpolates. ``width`` scales all channels. ``fc6_size`` is the side of
    fc6's kernel over a VGG, 7 for classifiers of 224 pixels; given weights have their own.

    Raises ValueError for arguments that do not go together, and WeightsError, a ValueError,
    for weights that cannot be had or do not fit.
    """
    backbone = _check(name, num_classes, backbone, geometry, upsampling)
    state: State | None = None
    normalization = TORCHVISION
    if weights == "imagenet":
        if width != 1:
            raise ValueError(f"ImageNet weights are of width 1, not {width}: give a file.")
        state = imagenet_weights(backbone.removesuffix("_fc6"))
    elif weights is not None:
        state, normalization = read_weights(weights)

    body = _body(name, backbone, width, fc6_size, state or {})
    first_layer = "conv1.weight" if isinstance(body, ResNet) else "features.0.weight"
    of_body = state is not None and first_layer in state
    if state is not None and of_body:
        dropped = tuple(f"{head}." for head in ("classifier", "fc") if not hasattr(body, head))
        state = {key: numbers for key, numbers in state.items() if not key.startswith(dropped)}
        load(body, state, str(weights))
    model = _network(name, body, num_classes, geometry, upsampling, width)
    if state is not None and not of_body:
        load(model, state, str(weights))
    model.normalize = Normalize(normalization)
    return model


def _check(
    name: str, num_classes: int, backbone: str | None, geometry: str, upsampling: str
) -> str:
    """Raise ValueError for what does not go together; return the backbone."""
    if name not in BACKBONES:
        raise ValueError(f"name must be one of {', '.join(BACKBONES)}, not {name!r}.")
    if not 1 <= num_classes <= 255:  # labels are bytes, and 255 is void
        raise ValueError(f"num_classes must be 1 to 255, not {num_classes}.")
    known = dict.fromkeys(BACKBONES[name])
    if backbone is not None and backbone not in known:
        raise ValueError(f"backbone of {name} must be one of {', '.join(known)}, not {backbone!r}.")
    if geometry not in ("paper", "same"):
        raise ValueError(f"geometry must be 'paper' or 'same', not {geometry!r}.")
    if upsampling not in ("bilinear", "learned"):
        raise ValueError(f"upsampling must be 'bilinear' or 'learned', not {upsampling!r}.")
    if geometry == "paper" and name not in SKIP_SCALES:
        raise ValueError(f"geometry 'paper' is for {', '.join(SKIP_SCALES)}, not for {name}.")
    if upsampling == "learned" and name == "fcn_resnet50":
        raise ValueError("fcn_resnet50 interpolates: it has no upsampling that could be learned.")
    return backbone or next(iter(known))


def _body(
    name: str, backbone: str, width: float, fc6_size: int, state: State
) -> VGG | VGGFeatures | SqueezeNet | ResNet:
    """Return the backbone, its head of the size that the state has, if it has one."""
    if name == "fcn_resnet18":
        return resnet18(width)
    if name == "fcn_resnet50":
        return resnet50_dilated(width)
    if name == "fcn_decoder":
        return VGGFeatures(backbone, width, ceil_mode=True)
    if backbone.startswith("squeezenet"):
        return SqueezeNet(width, fc6=backbone == WITH_FC6)
    num_classes, cells = 1000, fc6_size
    if "fc6.weight" in state and state["fc6.weight"].ndim == 4:
        cells = state["fc6.weight"].shape[-1]
    elif {"classifier.0.weight", "classifier.6.weight"} <= state.keys():
        num_classes = len(state["classifier.6.weight"])
        channels = scaled(CHANNELS[-1], width)
        cells = max(1, math.isqrt(state["classifier.0.weight"].shape[-1] // channels))
    return VGG(backbone, num_classes, width, image_size=cells * STRIDE)


def _network(
    name: str,
    body: VGG | VGGFeatures | SqueezeNet | ResNet,
    num_classes: int,
    geometry: str,
    upsampling: str,
    width: float,
) -> nn.Module:
    match body:
        case ResNet() if name == "fcn_resnet18":
            return FCNResNet18(body, num_classes, learned=upsampling == "learned")
        case ResNet():
            return FCNResNet50(body, num_classes)
        case VGG() | SqueezeNet():
            return FCN(body, num_classes, SKIP_SCALES[name], geometry, upsampling)
        case _:
            return FCNDecoder(body, num_classes, width)
