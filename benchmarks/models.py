"""The networks beside their published forms: time, memory, and agreement of the answers.

    python benchmarks/models.py [THREADS] [--rounds N] [--batch N ...] [--only PART ...]
                                (default: 2 threads, 5 rounds, batches of 1 and 4, all parts;
                                that takes about 15 minutes)

fcn8s: FCN-8s over VGG16, 21 classes, 375 x 500. The published form is typed out below: pad
100, dense deconvolutions, which its optimiser leaves out while their gradients are computed all
the same, float32, contiguous. Beside it ours with the same numbers: in the paper's
geometry, without its padding, and that in bf16 and channels_last where the CPU has bf16
units. (Without gradients, ours run VGG's stages in channels_last in any case.)

fcn_resnet18: d2l's form of it, typed out too, beside ours, for 4 pictures of 320 x 480.

windows: a classifier on each of 100 windows of a picture, beside the convolutions that it is
made into on the whole picture at once (section 3.1 of the paper says: more than 5 times as fast).

The published forms get normalised pictures, ours normalise within the time. A training step is
forward, cross-entropy without the pixels of label 255, backward, and zero_grad; the step of an
optimiser is the same for all. Before anything is measured, the classes of all pixels are
compared. All ways run in one process, in turns, in changing order. The tables have the
medians of the rounds. Each way's memory is the peak of a process of its own.

GFLOP/s counts the multiplications and additions of a way's own convolutions; the share is that
of a large matrix product's rate, so it says how well the CPU is used, not how much is saved.
"""

import argparse
import statistics
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from multiprocessing import get_context
from pathlib import Path
from typing import NamedTuple

import psutil
import torch
import torchvision
from torch import Tensor, nn
from torch.nn import functional as F
from torch.utils.flop_counter import FlopCounterMode
from transposed_conv import seconds

from fcnlib.bilinear import bilinear_kernel
from fcnlib.convolutionalize import linear_to_conv
from fcnlib.memory import keep_freed_memory
from fcnlib.models import VGG, Normalize, build_model
from fcnlib.precision import auto_dtype, auto_memory_format, autocast

if sys.platform == "darwin":
    import resource

CLASSES = 21
IGNORED = 255
# A way that takes longer than this is measured three times.
LONG_SECONDS = 15.0
LONG_ROUNDS = 3


class PublishedFCN8s(nn.Module):
    """FCN-8s as published, written down number by number, with the paper's names."""

    def __init__(self) -> None:
        super().__init__()
        inputs = 3
        for stage, (count, outputs) in enumerate(
            [(2, 64), (2, 128), (3, 256), (3, 512), (3, 512)], start=1
        ):
            for number in range(1, count + 1):
                conv = nn.Conv2d(inputs, outputs, 3, padding=100 if inputs == 3 else 1)
                self.add_module(f"conv{stage}_{number}", conv)
                self.add_module(f"relu{stage}_{number}", nn.ReLU(inplace=True))
                inputs = outputs
            self.add_module(f"pool{stage}", nn.MaxPool2d(2, stride=2, ceil_mode=True))
        self.body = list(self.children())  # in order; the end of pool3 and pool4 is looked at
        self.fc6 = nn.Conv2d(512, 4096, 7)
        self.fc7 = nn.Conv2d(4096, 4096, 1)
        self.drop6, self.drop7 = nn.Dropout2d(), nn.Dropout2d()
        self.score_fr = nn.Conv2d(4096, CLASSES, 1)
        self.score_pool3 = nn.Conv2d(256, CLASSES, 1)
        self.score_pool4 = nn.Conv2d(512, CLASSES, 1)
        self.upscore2 = nn.ConvTranspose2d(CLASSES, CLASSES, 4, stride=2, bias=False)
        self.upscore_pool4 = nn.ConvTranspose2d(CLASSES, CLASSES, 4, stride=2, bias=False)
        self.upscore8 = nn.ConvTranspose2d(CLASSES, CLASSES, 16, stride=8, bias=False)
        for layer in (self.upscore2, self.upscore_pool4, self.upscore8):
            make_bilinear(layer)

    def forward(self, x: Tensor) -> Tensor:
        """Return the logits of normalised pictures."""
        height, width = x.shape[-2:]
        pooled = []
        for layer in self.body:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                pooled.append(x)
        x = self.drop6(F.relu(self.fc6(x), inplace=True))
        x = self.drop7(F.relu(self.fc7(x), inplace=True))
        x = self.upscore2(self.score_fr(x))
        rows, columns = x.shape[-2:]
        x = x + self.score_pool4(pooled[3])[..., 5 : 5 + rows, 5 : 5 + columns]
        x = self.upscore_pool4(x)
        rows, columns = x.shape[-2:]
        x = x + self.score_pool3(pooled[2])[..., 9 : 9 + rows, 9 : 9 + columns]
        return self.upscore8(x)[..., 31 : 31 + height, 31 : 31 + width].contiguous()


def d2l_form() -> nn.Sequential:
    """Return d2l's FCN: everything of ResNet-18 but its last two layers, and two more."""
    net = nn.Sequential(*list(torchvision.models.resnet18(weights=None).children())[:-2])
    net.add_module("final_conv", nn.Conv2d(512, CLASSES, kernel_size=1))
    enlarge = nn.ConvTranspose2d(CLASSES, CLASSES, kernel_size=64, padding=16, stride=32)
    net.add_module("transpose_conv", enlarge)
    make_bilinear(enlarge)
    return net


def make_bilinear(layer: nn.ConvTranspose2d) -> None:
    with torch.no_grad():
        layer.weight.zero_()
        layer.weight[range(CLASSES), range(CLASSES)] = bilinear_kernel(layer.kernel_size[0])


class Way(NamedTuple):
    """A network, and how it is run."""

    build: Callable[[], nn.Module]
    normalised: bool = False  # whether it gets its pictures normalised
    auto: bool = False  # whether it computes in auto_dtype


FCN8S = {
    "published form": Way(PublishedFCN8s, normalised=True),
    "ours, paper geometry": Way(lambda: build_model("fcn8s", geometry="paper")),
    "ours": Way(lambda: build_model("fcn8s")),
    "ours, precision auto": Way(lambda: build_model("fcn8s"), auto=True),
}
RESNET18 = {
    "d2l's form": Way(d2l_form, normalised=True),
    "ours, learned": Way(lambda: build_model("fcn_resnet18", upsampling="learned")),
    "ours": Way(lambda: build_model("fcn_resnet18")),
    "ours, precision auto": Way(lambda: build_model("fcn_resnet18"), auto=True),
}
PARTS = {"fcn8s": (FCN8S, 375, 500), "fcn_resnet18": (RESNET18, 320, 480)}


def ways_of(part: str) -> dict[str, Way]:
    """Return the ways of a part that are different ones on this CPU."""
    bf16 = auto_dtype("cpu") == torch.bfloat16
    return {name: way for name, way in PARTS[part][0].items() if bf16 or not way.auto}


class Run:
    """What is measured: a network, its pictures and their labels."""

    def __init__(self, way: Way, network: nn.Module, pictures: Tensor, labels: Tensor) -> None:
        self.network, self.pictures, self.labels = network, pictures, labels
        self.auto = way.auto

    def _precision(self) -> AbstractContextManager[object]:
        return autocast("cpu") if self.auto else nullcontext()

    def inference(self) -> Tensor:
        """Return the logits."""
        self.network.eval()
        with torch.no_grad(), self._precision():
            return self.network(self.pictures)

    def training(self) -> None:
        """Take the gradients, and let go of them."""
        self.network.train()
        with self._precision():
            logits = self.network(self.pictures)
            loss = F.cross_entropy(logits, self.labels, ignore_index=IGNORED)
        loss.backward()
        self.network.zero_grad()


STEPS = {"inference": Run.inference, "training step": Run.training}


def on_meta(part: str, name: str, batch: int) -> Run:
    """Return a way without numbers, on the device "meta"."""
    ways, height, width = PARTS[part]
    with torch.device("meta"):
        pictures = torch.empty(batch, 3, height, width)
        labels = torch.empty(batch, height, width, dtype=torch.long)
        return Run(ways[name], ways[name].build(), pictures, labels)


def flops(part: str, name: str, batch: int, step: str) -> int:
    """Return how many numbers a step multiplies and adds; nothing is computed for it."""
    run = on_meta(part, name, batch)
    run.auto = False
    with FlopCounterMode(display=False) as counter:
        STEPS[step](run)
    return counter.get_total_flops()


def peak_memory(part: str, name: str, batch: int, threads: int) -> list[int]:
    """Return how many bytes the weights and each step take; run it in a new process."""
    torch.set_num_threads(threads)
    start = psutil.Process().memory_info().rss
    run = on_meta(part, name, batch)  # building it for real would be a peak of its own
    run.network.to_empty(device="cpu")
    if run.auto:
        run.network.to(memory_format=auto_memory_format("cpu"))
    for numbers in (*run.network.parameters(), *run.network.buffers()):
        numbers.data.fill_(0.01)
    run.pictures = torch.ones(run.pictures.shape)
    run.labels = torch.ones(run.labels.shape, dtype=torch.long)
    peaks = []
    for step in STEPS.values():  # the second takes more than the first
        step(run)
        peaks.append(peak() - start)
    return peaks


def peak() -> int:
    """Return the most bytes of memory that this process has had."""
    if sys.platform == "win32":
        return psutil.Process().memory_info().peak_wset
    if sys.platform == "darwin":
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    # Not from getrusage: on Linux a process begins with the peak of the one that started it.
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.split("VmHWM:")[1].split()[0])


def memory(part: str, batch: int, threads: int) -> dict[tuple[str, str], float]:
    """Return the gigabytes of each way and step."""
    result = {}
    for name in ways_of(part):
        with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as child:
            peaks = child.submit(peak_memory, part, name, batch, threads).result()
        for step, count in zip(STEPS, peaks, strict=True):
            result[name, step] = count / 1e9
    return result


def medians(ways: dict[str, Callable[[], object]], rounds: int) -> dict[str, tuple[float, int]]:
    """Return the median seconds of each way, and of how many rounds it is."""
    first = {name: seconds(run) for name, run in ways.items()}  # warms up
    if max(first.values()) > LONG_SECONDS:
        rounds = min(rounds, LONG_ROUNDS)
    measured: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds):
        for name in ways if turn % 2 else reversed(ways):
            measured[name].append(seconds(ways[name]))
    return {name: (statistics.median(each), rounds) for name, each in measured.items()}


def matmul_rates() -> dict[bool, float]:
    """Print and return the GFLOP/s of a large matrix product: in float32, and in auto_dtype."""
    size = 2048
    rates = {}
    for auto in (False, True):
        dtype = auto_dtype("cpu") if auto else torch.float32
        a, b = torch.randn(2, size, size).to(dtype)
        (median, _), *_ = medians({"matmul": lambda a=a, b=b: a @ b}, rounds=15).values()
        rates[auto] = 2 * size**3 / median / 1e9
        print(f"Matrix product of {size} x {size}, {str(dtype)[6:]}: {rates[auto]:,.0f} GFLOP/s")
        if auto_dtype("cpu") == torch.float32:
            print('This CPU has no bf16 units: "auto" is float32, and its rows are left out.')
            return {False: rates[False], True: rates[False]}
    return rates


def scenes(batch: int, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Return smooth pictures, RGB in 0..1, and labels, one pixel in 20 of them ignored."""
    coarse = torch.rand(batch, 3, height // 30, width // 30)
    pictures = F.interpolate(coarse, size=(height, width), mode="bicubic").clamp(0, 1)
    labels = torch.randint(CLASSES, (batch, height, width))
    labels[torch.rand(labels.shape) < 0.05] = IGNORED
    return pictures, labels


def networks(part: str) -> Iterator[tuple[str, nn.Module]]:
    """Yield the networks of a part, all with the same numbers."""
    state: dict[str, Tensor] = {}
    for name, way in ways_of(part).items():
        network = way.build()
        if not state:  # the first: its numbers are everyone's
            for key, layer in network.named_modules():
                if isinstance(layer, nn.Conv2d):
                    # The scores get random numbers too, so that their order means something.
                    scores = "score" in key or "final" in key
                    init = nn.init.xavier_normal_ if scores else nn.init.kaiming_normal_
                    init(layer.weight)
            state = network.state_dict()
        network.load_state_dict(state)
        if way.auto:
            network.to(memory_format=auto_memory_format("cpu"))
        yield name, network


def same(first: Tensor, second: Tensor) -> str:
    share = (first == second).double().mean().item()
    return f"{100 * share:.3f} %"


def compare(part: str, batch: int, rounds: int, threads: int, rates: dict[bool, float]) -> None:
    """Print the table of a part."""
    _, height, width = PARTS[part]
    print(f"\n{part}, batch of {batch}, {height} x {width}")
    gigabytes = memory(part, batch, threads)
    torch.manual_seed(0)
    pictures, labels = scenes(batch, height, width)
    normalised = Normalize()(pictures)
    ways = ways_of(part)
    runs = {
        name: Run(ways[name], network, normalised if ways[name].normalised else pictures, labels)
        for name, network in networks(part)
    }

    classes = {name: run.inference().argmax(1) for name, run in runs.items()}
    times = {
        step: medians({name: lambda run=run, f=f: f(run) for name, run in runs.items()}, rounds)
        for step, f in STEPS.items()
    }
    for step, of_step in times.items():
        base, count = next(iter(of_step.values()))
        print(f"{step}, median of {count}".ljust(36), "     ms    ratio  GFLOP/s  share      GB")
        for name, (median, _) in of_step.items():
            rate = flops(part, name, batch, step) / median / 1e9
            share = rate / rates[ways[name].auto]
            print(
                f"  {name:34}{1000 * median:8,.0f} {median / base:8.2f} {rate:8,.0f} "
                f"{100 * share:5.0f} % {gigabytes[name, step]:7.2f}"
            )
    first, *others = classes
    print(f"pixels of the same class ({len(classes[first].unique())} classes occur)")
    for name in others:
        peer = "ours" if ways[name].auto else first
        print(f"  {name:34}{same(classes[name], classes[peer])} with {peer}")
    if part == "fcn8s":
        print(
            "  (Without the padding, cells near the border see other numbers, and random weights\n"
            '  hang on little: there "ours" need not agree with the published form.)'
        )


def windows(rounds: int) -> None:
    """Print what a classifier takes for each window, and for all of them at once."""
    size, stride, count = 182, 32, 10
    torch.manual_seed(0)
    network = VGG("vgg11_bn", num_classes=8, width=0.25, image_size=64).eval()
    for layer in network.features:
        if isinstance(layer, nn.Conv2d):
            layer.padding = (0, 0)  # so that a window does not end in zeros
    last = network.classifier[-1]
    assert isinstance(last, nn.Linear)
    dense = nn.Sequential(
        network.normalize,
        network.features,
        *network.head().values(),
        linear_to_conv(last, network.hidden, 1, 1),
    ).eval()
    picture = torch.rand(1, 3, *[size + stride * (count - 1)] * 2)
    cut = picture[0].unfold(1, size, stride).unfold(2, size, stride)
    cut = cut.permute(1, 2, 0, 3, 4).flatten(0, 1).contiguous()

    def each(batch: int) -> Tensor:
        return torch.cat([network(part) for part in cut.split(batch)])

    ways = {
        "convolutionalised, whole picture": lambda: dense(picture)[0].flatten(1).T,
        "windows, all in one batch": lambda: each(len(cut)),
        "windows, ten at a time": lambda: each(count),
    }
    with torch.no_grad():
        whole, *by_window = (run() for run in ways.values())
        for scores in by_window:
            torch.testing.assert_close(scores, whole, rtol=0, atol=1e-5)
        measured = medians(ways, rounds)
    base, done = next(iter(measured.values()))
    print(f"\nwindows: {len(cut)} of {size} px in a picture of {picture.shape[-1]} px, VGG11_bn/4")
    print(f"inference, median of {done}".ljust(36), "     ms    ratio")
    for name, (median, _) in measured.items():
        print(f"  {name:34}{1000 * median:8,.0f} {median / base:8.2f}")
    print("  the same numbers to 1e-5")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("threads", nargs="?", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--batch", type=int, nargs="+", default=[1, 4], help="of fcn8s")
    parts = [*PARTS, "windows"]
    parser.add_argument("--only", nargs="+", choices=parts, default=parts, metavar="PART")
    args = parser.parse_args()
    keep_freed_memory()  # not in the children, whose peaks are taken
    torch.set_num_threads(args.threads)
    print(f"torch {torch.__version__}, threads: {torch.get_num_threads()}")
    rates = matmul_rates()
    for batch in args.batch if "fcn8s" in args.only else []:
        compare("fcn8s", batch, args.rounds, args.threads, rates)
    if "fcn_resnet18" in args.only:
        compare("fcn_resnet18", 4, args.rounds, args.threads, rates)
    if "windows" in args.only:
        windows(args.rounds)


if __name__ == "__main__":
    main()
