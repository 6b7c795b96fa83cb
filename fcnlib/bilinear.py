"""Bilinear upsampling as a transposed convolution: the kernel, and a layer fixed or learned.

What equals what, for a stride s, the kernel of 2s and the padding s / 2 (s even):

- inside, at least s / 2 pixels from the border, the layer's answer is that of
  ``F.interpolate(x, scale_factor=s, mode="bilinear", align_corners=False)``;
- everywhere, it is that of interpolating x with one pixel of zeros around it, without the
  s pixels at each side that this adds. So it fades towards the border: of ones, at s = 32,
  an edge keeps .516 and a corner .266, where ``interpolate`` repeats the last pixel;
- ``align_corners=True`` is another map, with another distance between the pixels;
- one layer of stride 2 and one of stride 8 are not one of stride 16.
"""

from typing import Any

import torch
from torch import Tensor, nn


def bilinear_kernel(size: int) -> Tensor:
    """Return the kernel (size, size) that interpolates between pixels ``factor`` apart.

    The factor is (size + 1) // 2: an even size is twice the factor; one less, an odd
    size, serves the same factor. Number (i, j) is (1 - |i - c| / factor) times the same
    with j, where c = (size - 1) / 2 is the kernel's centre; the authors' reference release
    fills its layers with it. Raises ValueError for a size below 1.
    """
    if size < 1:
        raise ValueError(f"size must be at least 1, not {size}.")
    factor = (size + 1) // 2
    weights = 1 - (torch.arange(size) - (size - 1) / 2).abs() / factor
    return weights[:, None] * weights


class FullPrecisionConvTranspose2d(nn.ConvTranspose2d):
    """A transposed convolution in the precision of its weight, under autocast too.

    In bf16 it would be slower on most CPUs, and its answers are the final ones.
    """

    def forward(self, input: Tensor, output_size: list[int] | None = None) -> Tensor:
        """Upsample (N, C, H, W), or (C, H, W)."""
        device = input.device.type
        if not torch.amp.is_autocast_available(device):  # such as "meta"
            return super().forward(input, output_size)
        with torch.autocast(device, enabled=False):
            return super().forward(input.to(self.weight.dtype), output_size)


class BilinearUpsample(FullPrecisionConvTranspose2d):
    """Make (N, channels, H, W) ``stride`` times as large, each channel for itself.

    A transposed convolution that starts as bilinear interpolation, and stays it unless
    ``learned``. The kernel is (channels, 1, k, k), not the (channels, channels, k, k) of
    the published networks, of which all but the diagonal is zero; a state_dict of theirs
    loads all the same. k is 2 * stride or one less: by default the even one, at an odd
    stride the odd one.

    By default ``padding`` puts the answer exactly over the input: ``stride`` times its
    size, offset 0. The paper's networks have padding 0 and crop later. The layer
    computes in the precision of its weight under autocast too. Raises ValueError for
    channels or a stride below 1, and for another kernel_size.
    """

    def __init__(
        self,
        channels: int,
        stride: int,
        padding: int | None = None,
        learned: bool = False,
        kernel_size: int | None = None,
    ) -> None:
        for name, value in (("channels", channels), ("stride", stride)):
            if value < 1:
                raise ValueError(f"{name} must be at least 1, not {value}.")
        if kernel_size is None:
            kernel_size = 2 * stride - stride % 2
        if (kernel_size + 1) // 2 != stride:
            raise ValueError(
                f"kernel_size must be {2 * stride - 1} or {2 * stride} for stride {stride}, "
                f"not {kernel_size}."
            )
        if padding is None:
            padding = (kernel_size - stride) // 2
        super().__init__(
            channels, channels, kernel_size, stride, padding, groups=channels, bias=False
        )
        self.weight.requires_grad_(learned)
        self.register_load_state_dict_pre_hook(_take_diagonal)

    def reset_parameters(self) -> None:
        """Make the weight bilinear (again)."""
        with torch.no_grad():
            self.weight.copy_(bilinear_kernel(self.kernel_size[0]))


def _take_diagonal(
    module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *rest: Any
) -> None:
    """Before loading, turn a dense weight (C, C, k, k) into the (C, 1, k, k) of groups."""
    assert isinstance(module, BilinearUpsample)
    name, channels = f"{prefix}weight", module.in_channels
    weight = state_dict.get(name)
    if weight is None or weight.shape[:2] != (channels, channels):
        return
    diagonal = torch.eye(channels, dtype=torch.bool, device=weight.device)
    if weight[~diagonal].any():
        raise ValueError(
            f"{name} mixes channels: its numbers off the diagonal are not all zero, so it "
            "cannot be loaded into BilinearUpsample, which upsamples each channel for itself."
        )
    state_dict[name] = weight[diagonal][:, None]
