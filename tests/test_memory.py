"""Memory that is freed: whether the next step gets it back without asking the system."""

import platform
import subprocess
import sys

import pytest

from fcnlib import memory

FAULTS = """
import resource
import torch
from fcnlib.memory import keep_freed_memory

def faults(steps=20):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(steps):
        torch.ones(16 << 20)  # 64 MB, which glibc gives back whatever it has learned
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

torch.set_num_threads(1)
faults(), print(faults())
keep_freed_memory()
faults(), print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="memory is not glibc's here")
def test_a_step_asks_the_system_for_no_page_again():
    printed = subprocess.check_output([sys.executable, "-c", FAULTS], text=True)
    given_back, kept = (int(line) for line in printed.split())
    assert 10 * kept < given_back  # of pages of 4 KB there are 300,000, of huge ones 600


@pytest.mark.parametrize("system", ["darwin", "win32", "linux"])
def test_elsewhere_nothing_happens(monkeypatch, system):
    monkeypatch.setattr(memory.sys, "platform", system)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda name: object())  # without mallopt
    memory.keep_freed_memory()
