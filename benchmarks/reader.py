"""What the VOC-layout reader costs over decoding the same files with Pillow alone.

    python benchmarks/reader.py [DIR]      (default: $FCN_VOC or VOC in data/, else shapes)

Both read every pair of the split "val", in turns, pair by pair in changing order, so that
whatever else the machine does falls on both alike. The figure is the median of the rounds.
"""

import statistics
import sys
import time
from pathlib import Path

from PIL import Image

from fcnlib.data import SegmentationFolder, find_voc, shapes

ROUNDS = 7


def bare_pillow(dataset: SegmentationFolder, index: int) -> None:
    """Decode picture and mask into memory, and do nothing with them."""
    Image.open(dataset.image_paths[index]).convert("RGB").load()
    Image.open(dataset.label_paths[index]).load()


def reader(dataset: SegmentationFolder, index: int) -> None:
    dataset[index]


def seconds(dataset: SegmentationFolder) -> dict[str, float]:
    """Read the split once with each, interleaved; return the seconds of each."""
    spent = {"Pillow": 0.0, "reader": 0.0}
    ways = [("Pillow", bare_pillow), ("reader", reader)]
    for index in range(len(dataset)):
        for name, read in ways if index % 2 else reversed(ways):
            start = time.perf_counter()
            read(dataset, index)
            spent[name] += time.perf_counter() - start
    return spent


def main() -> None:
    root = Path(sys.argv[1]) if len(sys.argv) > 1 else find_voc() or shapes()
    dataset = SegmentationFolder(root, "val")
    seconds(dataset)  # warms the file cache
    rounds = [seconds(dataset) for _ in range(ROUNDS)]
    for name in ("Pillow", "reader"):
        median = statistics.median(spent[name] for spent in rounds)
        print(f"{name}: {1000 * median / len(dataset):.2f} ms a pair")
    ratio = statistics.median(spent["reader"] / spent["Pillow"] for spent in rounds)
    print(f"reader / Pillow: {ratio:.3f} (median of {ROUNDS} rounds, {len(dataset)} pairs)")


if __name__ == "__main__":
    main()
