"""Figures that the notebooks share: pictures with labels, animations, sizes."""

from fcnlib.plots.animations import Animation, scatter_animation, zero_insertion_animation
from fcnlib.plots.numbers import show_numbers
from fcnlib.plots.pictures import class_legend, overlay, show_image, show_labels, show_pair
from fcnlib.plots.sizes import show_sizes

__all__ = [
    "Animation",
    "class_legend",
    "overlay",
    "scatter_animation",
    "show_image",
    "show_labels",
    "show_numbers",
    "show_pair",
    "show_sizes",
    "zero_insertion_animation",
]
