"""The state that every notebook starts from: seeds, memory, and the look of figures."""


def setup(seed: int = 0) -> None:
    """Seed random, NumPy and PyTorch, keep freed memory, and set the figure style of the course.

    Prints nothing, and works in JupyterLab, on Colab and in plain Python.
    """
    # Imported here, so that `fcn doctor` can import fcnlib.course and report on an
    # environment in which one of these is broken.
    import random

    import matplotlib.pyplot as plt
    import numpy as np
    import torch

    from fcnlib.memory import keep_freed_memory
    from fcnlib.plots.colors import COLORS

    keep_freed_memory()
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    plt.rcParams.update(
        {
            "axes.prop_cycle": plt.cycler(color=COLORS),
            "axes.titlesize": 11,
            "figure.constrained_layout.use": True,
            "figure.dpi": 80,
            "figure.figsize": (6.4, 3.6),
            "font.size": 11,
            "image.interpolation": "nearest",
            "legend.frameon": False,
        }
    )
