"""The processes that share a run, the device of each, and Ctrl-C."""

import signal
import sys
import threading
from types import FrameType

import torch
from accelerate import PartialState
from accelerate.utils import parse_flag_from_env


def this_process() -> PartialState:
    """Return what accelerate knows of this process: its number, how many there are, its device.

    Without GPUs accelerate must be told so, or it takes torchrun's processes for single ones.
    """
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    return PartialState(cpu=cpu)


class CtrlC:
    """Remembers Ctrl-C in a ``with`` block: Python forgets one that comes as it forks or tidies up.

    What ends the block after a Ctrl-C, be it the death of a process that read pictures, ends it as
    a KeyboardInterrupt. Outside the main thread, and where Ctrl-C is not Python's, it does nothing.
    """

    came = False

    def __enter__(self) -> "CtrlC":
        main = threading.current_thread() is threading.main_thread()
        self._listens = main and signal.getsignal(signal.SIGINT) is signal.default_int_handler
        if self._listens:
            signal.signal(signal.SIGINT, self._note)
            self._hook, sys.unraisablehook = sys.unraisablehook, self._forgotten
        return self

    def __exit__(self, *_: object) -> None:
        if self._listens:
            signal.signal(signal.SIGINT, signal.default_int_handler)
            sys.unraisablehook = self._hook
        self.check()

    def check(self) -> None:
        """Raise KeyboardInterrupt if Ctrl-C came."""
        if self.came:
            raise KeyboardInterrupt

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.came = True
        raise KeyboardInterrupt

    def _forgotten(self, what: "sys.UnraisableHookArgs") -> None:
        if what.exc_type is not KeyboardInterrupt:  # which is remembered, not lost
            self._hook(what)
