"""FCN-32s, FCN-16s and FCN-8s (Long, Shelhamer and Darrell, CVPR 2015), sections 3 and 4.

A classifier whose fully connected layers became convolutions gives a coarse map of scores.
Transposed convolutions enlarge it, and on the way the scores of finer stages are added:
scores, not features, from one 1x1 convolution per stage, which starts at zero.

How many rows to cut before each sum and at the end is not written down here: it follows from
the layers, by ``fcnlib.geometry``.
"""

import copy
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from fcnlib.bilinear import BilinearUpsample
from fcnlib.geometry import PICTURE, Geometry, Layer, crop
from fcnlib.geometry import geometry as locate
from fcnlib.models.batch_norm import require_values
from fcnlib.models.normalization import Normalize
from fcnlib.models.squeezenet import Fire, PadEnd, SqueezeNet
from fcnlib.models.vgg import VGG
from fcnlib.precision import forward_layout

PAPER_PADDING = 100


class Skip(NamedTuple):
    """A finer stage whose scores are added to the enlarged coarser ones."""

    stage: str
    scale: float  # of the stage's features, before they are scored
    upsampling: str  # the layer that enlarges the coarser scores
    rows: int  # to cut off the enlarged scores, where they begin earlier ...
    finer_rows: int  # ... and off the finer ones, where these do; of the two, one is 0


class FCN(nn.Module):
    """An FCN over a classifier: pictures (N, 3, H, W) -> logits (N, num_classes, H, W).

    ``skip_scales`` has a number for each finer stage whose scores are added: over VGG, () is
    FCN-32s, (1, 1) FCN-8s with pool4 and pool3. The features of the stage are multiplied by
    it, with less than 1 where all is trained at once, as in the reference release.

    ``geometry`` "paper" pads the picture by 100 and crops; "same" pads so that every map
    begins where the picture begins, and cuts at the end alone (where the kernel of fc6 is
    even, half a cell at the start too). ``upsampling`` "bilinear" is fixed, "learned" starts
    there.

    The layers bear the paper's names: conv1_1 to conv5_3, fc6, fc7, score_fr, score_pool4,
    score_pool3, upscore2, upscore_pool4, and upscore8, 16 or 32. The classifier's layers are
    copied. Raises ValueError for another geometry or upsampling.
    """

    new_layers: tuple[str, ...] = ("score_", "upscore")
    """What the classifier does not have: the beginnings of these layers' names."""

    def __init__(
        self,
        classifier: VGG | SqueezeNet,
        num_classes: int = 21,
        skip_scales: tuple[float, ...] = (),
        geometry: str = "same",
        upsampling: str = "bilinear",
    ) -> None:
        super().__init__()
        if geometry not in ("paper", "same"):
            raise ValueError(f"geometry must be 'paper' or 'same', not {geometry!r}.")
        if upsampling not in ("bilinear", "learned"):
            raise ValueError(f"upsampling must be 'bilinear' or 'learned', not {upsampling!r}.")
        self.normalize = Normalize(classifier.normalize.normalization)
        stages = copy.deepcopy(classifier.stages()) | {"head": classifier.head()}
        self.new_layers = FCN.new_layers + classifier.new_layers
        self.stages = {stage: list(layers) for stage, layers in stages.items()}
        for layers in stages.values():
            for name, layer in layers.items():
                self.add_module(name, layer)
        self._pad(geometry)
        # With the paper's padding BatchNorm always sees many values.
        self.batch_norm_stride = classifier.batch_norm_stride if geometry == "same" else 0

        upsample = partial(_upsampling, num_classes, classifier.pool_kernel, geometry, upsampling)
        places = self._places()
        place, layer_name = places["head"], "upscore2"
        self.score_fr = _score_layer(classifier.hidden, num_classes)
        self.skips: list[Skip] = []
        finer = list(zip(classifier.stages(), classifier.channels, strict=True))[-2::-1]
        for (stage, channels), scale in zip(finer, skip_scales, strict=False):
            self.add_module(f"score_{stage}", _score_layer(channels, num_classes))
            self.add_module(layer_name, enlarge := upsample(2))
            place = locate(enlarge, place)
            start = max(place, places[stage], key=lambda place: place.offset)
            rows, finer_rows = crop(place, start), crop(places[stage], start)
            self.skips.append(Skip(stage, scale, layer_name, rows, finer_rows))
            place = start
            layer_name = f"upscore_{stage}"
        self.last_upsampling = f"upscore{place.stride}"
        self.add_module(self.last_upsampling, enlarge := upsample(int(place.stride)))
        self.last_rows = crop(locate(enlarge, place), reference=PICTURE)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of pictures, RGB in 0..1, of any size."""
        require_values(self, x, self.batch_norm_stride)
        maps = self.features(x)
        score = self.score_fr(maps["head"])
        for skip in self.skips:
            score = self.get_submodule(skip.upsampling)(score)
            finer = self.get_submodule(f"score_{skip.stage}")(maps[skip.stage] * skip.scale)
            score, finer = _cut(score, skip.rows), _cut(finer, skip.finer_rows)
            score = _cut(score, like=finer) + _cut(finer, like=score)
        return _cut(self.get_submodule(self.last_upsampling)(score), self.last_rows, like=x)

    def features(self, x: Tensor) -> dict[str, Tensor]:
        """Return the map behind each stage, "head" (fc7) last, of pictures, RGB in 0..1."""
        maps = {}
        x = forward_layout(self.normalize(x))
        for stage, names in self.stages.items():
            if stage == "head":
                x = x.contiguous()  # in channels_last fc6's large kernels take longer
            for name in names:
                x = self.get_submodule(name)(x)
            maps[stage] = x
        return maps

    def _pad(self, geometry: str) -> None:
        layers = list(self.children())
        for layer in layers:
            if isinstance(layer, nn.MaxPool2d):
                layer.ceil_mode = True  # so that no pixel at the end is lost
        if geometry == "paper":
            first = next(layer for layer in layers if isinstance(layer, nn.Conv2d))
            first.padding = (PAPER_PADDING, PAPER_PADDING)
        elif isinstance(fc6 := getattr(self, "fc6", None), nn.Conv2d):
            (rows, columns), dilation = fc6.kernel_size, fc6.dilation[0]
            fc6.padding = (dilation * (rows // 2), dilation * (columns // 2))

    def _places(self) -> dict[str, Geometry]:
        """Return where the numbers behind each stage look."""
        places, place = {}, PICTURE
        for stage, names in self.stages.items():
            layers = [self.get_submodule(name) for name in names]
            chain = [Layer(3, 1, 1) if isinstance(layer, Fire) else layer for layer in layers]
            place = locate([layer for layer in chain if not isinstance(layer, PadEnd)], place)
            places[stage] = place
        return places


def _score_layer(channels: int, num_classes: int) -> nn.Conv2d:
    layer = nn.Conv2d(channels, num_classes, kernel_size=1)
    nn.init.zeros_(layer.weight)
    nn.init.zeros_(layer.bias)  # type: ignore[arg-type]
    return layer


def _upsampling(
    num_classes: int, pool_kernel: int, geometry: str, upsampling: str, stride: int
) -> BilinearUpsample:
    """Return a layer that mirrors the poolings: their numbers come back to their places."""
    kernel_size = 2 * stride - (pool_kernel - 2)  # even for 2x2 poolings, odd for 3x3 ones
    middle = (kernel_size - 1) - (pool_kernel - 1) * (stride - 1)
    padding = 0 if geometry == "paper" else middle // 2
    return BilinearUpsample(num_classes, stride, padding, upsampling == "learned", kernel_size)


def _cut(x: Tensor, rows: int = 0, like: Tensor | None = None) -> Tensor:
    """Cut ``rows`` off at the top and the left, and what is beyond the size of ``like``."""
    if like is None:
        return x[..., rows:, rows:]
    height, width = like.shape[-2:]
    return x[..., rows : rows + height, rows : rows + width]
