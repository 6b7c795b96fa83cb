"""The processes that share a run, and the device of each."""

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def this_process() -> PartialState:
    """Return what accelerate knows of this process: its number, how many there are, its device.

    Without GPUs accelerate must be told so, or it takes torchrun's processes for single ones.
    """
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu)
