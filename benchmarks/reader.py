"""What the VOC-layout reader costs over decoding the same files with Pillow alone.

    python benchmarks/reader.py [DIR]      (default: $FCN_VOC or VOC in data/, else shapes)

Both read every pair of the split "val", in turns, pair by pair in changing order, so that
whatever else the machine does falls on both alike. Where a process happens to lie in memory
changes the figure by a tenth, so each round runs in a process of its own. The result is the
median of the rounds; their range stands beside it.
"""

import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

from PIL import Image

from fcnlib.data import SegmentationFolder, find_voc, shapes

ROUNDS = 9


def bare_pillow(dataset: SegmentationFolder, index: int) -> None:
    """Decode picture and mask into memory, and do nothing with them."""
    Image.open(dataset.image_paths[index]).convert("RGB").load()
    Image.open(dataset.label_paths[index]).load()


def reader(dataset: SegmentationFolder, index: int) -> None:
    dataset[index]


def milliseconds(root: Path) -> tuple[float, float]:
    """Read the split with both, interleaved; return what a pair costs each."""
    dataset = SegmentationFolder(root, "val")
    ways = [bare_pillow, reader]
    for index in range(len(dataset)):  # warms files and memory
        for read in ways:
            read(dataset, index)
    spent = dict.fromkeys(ways, 0.0)
    for _ in range(2):
        for index in range(len(dataset)):
            for read in ways if index % 2 else reversed(ways):
                start = time.perf_counter()
                read(dataset, index)
                spent[read] += time.perf_counter() - start
    pillow, ours = (1000 * spent[read] / len(dataset) / 2 for read in ways)
    return pillow, ours


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else find_voc() or shapes()
    # max_tasks_per_child=1: a new process for each round, one after the other.
    spawn = get_context("spawn")
    with ProcessPoolExecutor(1, mp_context=spawn, max_tasks_per_child=1) as processes:
        rounds = list(processes.map(milliseconds, [root] * ROUNDS))
    for name, costs in zip(("Pillow", "reader"), zip(*rounds, strict=True), strict=True):
        print(f"{name}: {statistics.median(costs):.2f} ms a pair")
    ratios = [ours / pillow for pillow, ours in rounds]
    print(
        f"reader / Pillow: {statistics.median(ratios):.3f} "
        f"(median of {ROUNDS} processes, {min(ratios):.3f} to {max(ratios):.3f})"
    )


if __name__ == "__main__":
    main()
