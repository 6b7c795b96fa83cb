"""The four transposed convolutions beside PyTorch's, and ways to upsample 21 classes by 32.

    python benchmarks/transposed_conv.py [THREADS]      (default: 2)

First table: each version of ``fcnlib.transposed_conv`` and ``F.conv_transpose2d``, of the
same float32 tensors, forward alone and with the gradients of input and weight. Second: the
last layer of FCN-32s for a picture of 384 x 512 as the published networks have it, a dense
deconvolution, beside one group per channel and beside ``F.interpolate``. Where a layer is
learned, the gradient of its weight is taken too; where it is fixed, that of the input alone.

Before anything is measured, the answers are compared. All ways run in one process, in
turns, in changing order, so that whatever else the machine does falls on all alike. Each
turn begins with a run that does not count, and repeats fast ways until they have taken 20
milliseconds. The tables have the medians of the rounds. Zero insertion at stride 32 takes
minutes, and so is measured once.

Where a version beats PyTorch: ``gradient`` at large strides, because forwards and backwards it
is made of ordinary convolutions, which oneDNN runs faster than its deconvolution; ``scatter``
forward at stride 32, where one matrix product does nearly all the work.

Freed memory stays with the process, as in training. Else the system takes large pieces back,
and whichever way comes next pays for new pages: the same layer took 12 or 38 milliseconds then.
"""

import copy
import math
import statistics
import sys
import time
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from fcnlib import transposed_conv
from fcnlib.bilinear import BilinearUpsample, bilinear_kernel
from fcnlib.memory import keep_freed_memory

ROUNDS = 15
# What takes longer than this is measured once. That is zero insertion at stride 32: of the
# numbers that it multiplies, 1023 in 1024 are inserted zeros.
LONG_SECONDS = 5.0
# Ways that take less than this are repeated until they last as long.
SHORT_SECONDS = 0.02

WORKLOADS = {
    # name: (input, weight, stride, padding)
    "teaching 3x3 k3 s2 p1": ((1, 1, 3, 3), (1, 1, 3, 3), 2, 1),
    "8x64x32x32 k4 s2 p1": ((8, 64, 32, 32), (64, 64, 4, 4), 2, 1),
    "1x21x12x16 k64 s32": ((1, 21, 12, 16), (21, 21, 64, 64), 32, 0),
}
VERSIONS = {
    "PyTorch": F.conv_transpose2d,
    "scatter": transposed_conv.conv_transpose2d_scatter,
    "matrix": transposed_conv.conv_transpose2d_matrix,
    "zero insertion": transposed_conv.conv_transpose2d_zero_insertion,
    "gradient": transposed_conv.conv_transpose2d_gradient,
}


def seconds(run: Callable[[], object], times: int = 1) -> float:
    start = time.perf_counter()
    for _ in range(times):
        run()
    return (time.perf_counter() - start) / times


def medians(ways: dict[str, Callable[[], object]]) -> dict[str, tuple[float, int]]:
    """Return the median seconds of each way, and of how many rounds it is."""
    # The first time warms up, and is the only one of what takes very long.
    first = {name: seconds(run) for name, run in ways.items()}
    measured = {name: [once] if once > LONG_SECONDS else [] for name, once in first.items()}
    turns = [name for name, done in measured.items() if not done]
    repeats = {name: math.ceil(SHORT_SECONDS / seconds(ways[name])) for name in turns}
    for turn in range(ROUNDS):
        for name in turns if turn % 2 else reversed(turns):
            ways[name]()  # so that nothing pays for the caches that the one before it emptied
            measured[name].append(seconds(ways[name], repeats[name]))
    return {name: (statistics.median(each), len(each)) for name, each in measured.items()}


def forward(function: Callable[..., Tensor], *tensors: Tensor) -> Callable[[], object]:
    def run() -> None:
        with torch.no_grad():
            function(*tensors)

    return run


def backward(function: Callable[..., Tensor], x: Tensor, *wanted: Tensor) -> Callable[[], object]:
    """Forward, and the gradients of x and of ``wanted``, which the function may hold."""
    inputs = [x, *wanted]
    cotangent = torch.ones_like(function(x).detach())

    def run() -> None:
        torch.autograd.grad(function(x), inputs, cotangent)

    return run


def table(rows: dict[str, list[tuple[float, int]]], columns: list[str]) -> None:
    """Print milliseconds, and the ratio to the first row; "once" is measured once."""
    width = max(map(len, rows))
    print(" " * width + "".join(f"{column:>26}" for column in columns))
    base = next(iter(rows.values()))
    for name, cells in rows.items():
        line = name.ljust(width)
        for (median, rounds), (reference, _) in zip(cells, base, strict=True):
            cell = f"{1000 * median:.3g}" if median < 0.1 else f"{1000 * median:,.0f}"
            note = " once" if rounds == 1 else ""
            line += f"{cell:>10} ms {median / reference:8.2f} x{note:5}"
        print(line.rstrip())


def versions() -> None:
    """Print the first table, for each workload."""
    for name, (shape, layout, stride, padding) in WORKLOADS.items():
        torch.manual_seed(0)
        x = torch.randn(shape, requires_grad=True)
        weight = torch.randn(layout, requires_grad=True)
        functions = {
            version: lambda x, f=f, w=weight, s=stride, p=padding: f(x, w, None, s, p)
            for version, f in VERSIONS.items()
        }
        ways = {}
        with torch.no_grad():
            expected = functions["PyTorch"](x)
            for version, function in functions.items():
                assert torch.allclose(function(x), expected, rtol=1e-3, atol=1e-3), version
        for version, function in functions.items():
            ways[version, "forward"] = forward(function, x)
            ways[version, "backward"] = backward(function, x, weight)
        measured = medians(ways)
        print(f"\n{name}")
        rows = {v: [measured[v, "forward"], measured[v, "backward"]] for v in VERSIONS}
        table(rows, ["forward", "forward + backward"])


def upsamplings() -> None:
    """Print the second table."""
    torch.manual_seed(0)
    x = torch.randn(1, 21, 12, 16, requires_grad=True)
    dense = nn.ConvTranspose2d(21, 21, 64, 32, bias=False)
    with torch.no_grad():
        dense.weight.copy_(torch.eye(21)[..., None, None] * bilinear_kernel(64))
    frozen = copy.deepcopy(dense).requires_grad_(False)
    fixed, learned = BilinearUpsample(21, 32, 0), BilinearUpsample(21, 32, 0, learned=True)

    def interpolate(x: Tensor) -> Tensor:
        return F.interpolate(x, scale_factor=32, mode="bilinear", align_corners=False)

    with torch.no_grad():
        expected = dense(x)
        assert torch.allclose(fixed(x), expected, atol=1e-5)
        assert torch.allclose(learned(x), expected, atol=1e-5)
        inside = slice(16, -16)  # and without padding the answer begins 16 rows earlier
        theirs = expected[..., 32:-32, 32:-32]
        assert torch.allclose(interpolate(x)[..., inside, inside], theirs, atol=1e-4)

    ways = {
        "dense, learned": (dense, [dense.weight]),
        "dense, fixed": (frozen, []),
        "BilinearUpsample, learned": (learned, [learned.weight]),
        "BilinearUpsample, fixed": (fixed, []),
        "F.interpolate": (interpolate, []),
    }
    runs = {}
    for name, (function, wanted) in ways.items():
        runs[name, "forward"] = forward(function, x)
        runs[name, "backward"] = backward(function, x, *wanted)
    measured = medians(runs)
    print("\nTwenty-one classes, 12 x 16 to 384 x 512 (kernel 64, stride 32)")
    rows = {name: [measured[name, "forward"], measured[name, "backward"]] for name in ways}
    table(rows, ["forward", "forward + backward"])


def main() -> None:
    keep_freed_memory()
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 2)
    print(f"torch {torch.__version__}, threads: {torch.get_num_threads()}")
    print(f"Median of {ROUNDS} interleaved rounds; ratio to the first row")
    versions()
    upsamplings()


if __name__ == "__main__":
    main()
