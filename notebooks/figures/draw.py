"""Draw the pictures of this folder: python notebooks/figures/draw.py."""

from pathlib import Path

from matplotlib import pyplot as plt

from fcnlib.course import setup
from fcnlib.data import SegmentationFolder, shapes
from fcnlib.plots import show_image, show_labels

setup()
scenes = SegmentationFolder(shapes(), "val")
figure, axes = plt.subplots(2, 4, figsize=(10, 3.7))
for column, index in enumerate((9, 8, 7, 13)):
    image, labels = scenes[index]
    show_image(axes[0, column], image)
    show_labels(axes[1, column], labels)
figure.savefig(Path(__file__).with_name("overview.png"))
