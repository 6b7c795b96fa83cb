"""Weights: from ImageNet, from a file, from published FCNs, from a coarser network."""

import copy
import hashlib
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from fcnlib.errors import WeightsError
from fcnlib.models.fcn import FCN
from fcnlib.models.normalization import (
    CAFFE,
    CAFFE_SQUEEZENET,
    TORCHVISION,
    Normalization,
    Normalize,
)

State = dict[str, Tensor]
KNOWN_FILES = {
    # SHA-256 of a file -> what its numbers expect; all others expect what torchvision's do.
    # squeezenet1_1_caffe_notop.pth:
    "8717544c403d82ed25d54a7a8b887fdfc2dbee939780ca96f0591ba45fbeb50c": CAFFE_SQUEEZENET,
}


def imagenet_weights(backbone: str) -> State:
    """Return torchvision's ImageNet weights (the first version) of "vgg16", "resnet50", ...

    They are downloaded once, checked by their hash, and kept in PyTorch's cache. Raises
    WeightsError where they are neither there nor to be had.
    """
    import torchvision  # takes seconds, and nothing else here needs it

    weights = torchvision.models.get_model_weights(backbone)["IMAGENET1K_V1"]
    place = Path(torch.hub.get_dir()) / "checkpoints" / Path(weights.url).name
    try:
        return weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
    except Exception as error:  # of a damaged file, PyTorch raises nearly anything
        if place.exists():
            raise WeightsError(
                f"{place} is damaged: delete it, and it is downloaded again."
            ) from error
        raise WeightsError(
            f"The ImageNet weights of {backbone} cannot be downloaded from {weights.url} "
            f"({_one_line(error)}): put that file into {place.parent}, give another file as "
            "weights, or go on without pretrained weights (weights=None)."
        ) from error


def read_weights(path: str | Path) -> tuple[State, Normalization]:
    """Return a state_dict from a file, and the normalisation it expects.

    The file is safetensors' (.safetensors) or was written by ``torch.save``. Only tensors are
    read, no code is run. Raises WeightsError for a file that is missing, damaged or holds
    something else.
    """
    path = Path(path)
    if not path.is_file():
        raise WeightsError(f"{path}: there is no such file of weights.")
    try:
        if path.suffix == ".safetensors":
            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # as above
        raise WeightsError(
            f"{path} cannot be read as weights: it is damaged, or holds more than tensors."
        ) from error
    if not isinstance(state, dict) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in state.items()
    ):
        raise WeightsError(
            f"{path} is not a state_dict: save model.state_dict(), names and tensors alone."
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    return dict(state), KNOWN_FILES.get(digest, TORCHVISION)


def load(module: nn.Module, state: State, source: str) -> None:
    """Load a state_dict that must fit; raise WeightsError, naming ``source``, if it does not.

    What fits may be loaded all the same.
    """
    try:
        module.load_state_dict(state)
    except (RuntimeError, ValueError) as error:
        reason = _one_line(str(error).partition("\n")[2] or error)
        raise WeightsError(f"{source} does not fit this network: {reason}") from error


def load_reference_weights(model: FCN, state_dict: State) -> FCN:
    """Load weights of wkentaro/pytorch-fcn: FCN32s, 16s, 8s or 8sAtOnce, into the same model.

    The model, over "vgg16", then expects what those weights expect (BGR in 0..255 less a mean;
    it converts the caller's RGB in 0..1 itself), and in geometry "paper" its logits are
    theirs. Returns the model. Raises WeightsError when the weights do not fit, and leaves the
    model as it was.
    """
    # Theirs has one name for the only upsampling of FCN-32s.
    renamed = {
        name.replace("upscore.", "upscore32."): numbers for name, numbers in state_dict.items()
    }
    before = copy.deepcopy(model.state_dict())
    try:
        load(model, renamed, "The reference state_dict")
    except WeightsError:
        model.load_state_dict(before)
        raise
    _expect(model, CAFFE)
    return model


def init_from(model: nn.Module, source: nn.Module) -> nn.Module:
    """Copy all numbers of the same network or of a coarser one: FCN-32s to 16s, 16s to 8s.

    What is new in the model, the score layer of a finer stage, keeps its zeros (section 4.2 of
    the paper). The normalisation is copied too. Returns the model. Raises WeightsError when
    the two differ in anything else, but for the geometry, which holds no numbers.
    """
    if isinstance(model, FCN) and isinstance(source, FCN):
        model.load_state_dict(_of_coarser(model, source), strict=False)
    else:
        load(model, source.state_dict(), "The source")
    assert isinstance(source.normalize, Normalize)
    _expect(model, source.normalize.normalization)
    return model


def _of_coarser(model: FCN, source: FCN) -> State:
    """Return what the source has for the model. Raises WeightsError where they differ."""
    for ours_skip, theirs in zip(model.skips, source.skips, strict=False):
        if ours_skip.scale != theirs.scale:
            raise WeightsError(
                f"The model cannot start from this source: it multiplies {theirs.stage} by "
                f"{ours_skip.scale:g}, the source by {theirs.scale:g}. They may differ in how many "
                "skips they have."
            )
    ours = model.state_dict()
    copied = {}
    for name, numbers in source.state_dict().items():
        if name.startswith(f"{source.last_upsampling}.") and name not in ours:
            continue
        if name not in ours or ours[name].shape != numbers.shape:
            found = f"is {tuple(ours[name].shape)}" if name in ours else "is missing"
            raise WeightsError(
                f"The model cannot start from this source: {name}, {tuple(numbers.shape)} in "
                f"the source, {found} in the model. They may differ in their skips alone."
            )
        copied[name] = numbers
    for name in ours:
        if name not in copied and not name.startswith(("score_", "upscore")):
            raise WeightsError(
                f"The model cannot start from this source: {name} is missing in the source. "
                "They may differ in their skips alone."
            )
    return copied


def _expect(model: nn.Module, normalization: Normalization) -> None:
    assert isinstance(model.normalize, Normalize)
    model.normalize = Normalize(normalization).to(model.normalize.mean.device)


def _one_line(message: object, length: int = 200) -> str:
    text = " ".join(str(message).split())
    return text if len(text) <= length else text[: length - 4] + " ..."
