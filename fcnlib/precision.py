"""In which numbers, and in which order of them, a device computes fast."""

import platform

import torch
from torch import Tensor


def auto_dtype(device: torch.device | str) -> torch.dtype:
    """Return torch.bfloat16 where the device computes it in hardware, else torch.float32.

    In hardware: CPUs with AMX or AVX512-BF16, ARM CPUs with BF16, and GPUs since Ampere. Others
    can do it too, but only by converting back and forth, which is slower than float32. CPUs need
    a PyTorch with oneDNN besides, as the wheels for Linux and Windows are.
    """
    device = torch.device(device)
    match device.type:
        case "cuda" if torch.cuda.is_available():
            with torch.cuda.device(device):
                fast = torch.cuda.is_bf16_supported(including_emulation=False)
        case "cpu":
            fast = torch.backends.mkldnn.is_available() and _cpu_has_bf16()
        case _:
            fast = False
    return torch.bfloat16 if fast else torch.float32


def autocast(device: torch.device | str) -> torch.autocast:
    """Return the context in which a network computes in ``auto_dtype(device)``.

    Where that is float32, and on devices that know no autocast, the context does nothing.
    """
    kind, dtype = torch.device(device).type, auto_dtype(device)
    if dtype == torch.float32:
        return torch.autocast("cpu", enabled=False)
    return torch.autocast(kind, dtype)


def auto_memory_format(device: torch.device | str) -> torch.memory_format:
    """Return channels_last where convolutions run faster in it: wherever there is bf16.

    In float32 on a CPU without bf16, training steps of an FCN-8s took 1.4 times as long in
    channels_last, for the gradients of the first stages' kernels.
    """
    fast = auto_dtype(device) == torch.bfloat16
    return torch.channels_last if fast else torch.contiguous_format


def forward_layout(x: Tensor) -> Tensor:
    """Return pictures as they lie best in memory for a forward pass alone.

    On a CPU that is channels_last: there poolings take a fifth of the time, and convolutions a
    little less than theirs. Where gradients are wanted, pictures stay as they are
    (``auto_memory_format`` says why), and in a compiler, which chooses by itself.
    """
    if torch.is_grad_enabled() or torch.compiler.is_compiling() or x.device.type != "cpu":
        return x
    return x.contiguous(memory_format=torch.channels_last)


def _cpu_has_bf16() -> bool:
    if platform.machine().lower() in ("aarch64", "arm64"):
        # On x86 this says yes to any AVX512, so to conversions too.
        return torch.ops.mkldnn._is_mkldnn_bf16_supported()
    return torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
