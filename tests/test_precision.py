"""Which number format is chosen, on machines of all kinds."""

import platform

import pytest
import torch

from fcnlib.course.report import _bf16
from fcnlib.precision import auto_dtype, auto_memory_format, autocast, forward_layout


@pytest.fixture
def cpu(monkeypatch):
    """Return a function that makes this CPU another."""

    def pretend(machine="x86_64", amx=False, avx512=False, arm=False, onednn=True):
        monkeypatch.setattr(platform, "machine", lambda: machine)
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda: avx512)
        monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: arm)
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: onednn)

    return pretend


def test_the_doctor_says_what_a_training_takes(cpu):
    for units in (dict(), dict(amx=True), dict(amx=True, onednn=False)):
        cpu(**units)
        fast = auto_dtype("cpu") == torch.bfloat16
        assert _bf16().value == ("in hardware" if fast else "not in hardware")


@pytest.mark.parametrize(
    ("units", "expected"),
    [
        (dict(), torch.float32),
        (dict(amx=True), torch.bfloat16),
        (dict(avx512=True), torch.bfloat16),
        (dict(machine="AMD64", avx512=True), torch.bfloat16),
        (dict(amx=True, onednn=False), torch.float32),
        # On x86 oneDNN counts any AVX512, which converts back and forth.
        (dict(arm=True), torch.float32),
        (dict(machine="aarch64", arm=True), torch.bfloat16),
        (dict(machine="aarch64"), torch.float32),
        (dict(machine="arm64", arm=True, onednn=False), torch.float32),
    ],
)
def test_bf16_is_for_cpus_with_units(cpu, units, expected):
    cpu(**units)
    assert auto_dtype("cpu") == auto_dtype(torch.device("cpu")) == expected


def test_this_cpu_is_asked_without_error():
    assert auto_dtype("cpu") in (torch.bfloat16, torch.float32)


@pytest.mark.parametrize("hardware", [True, False])
def test_emulated_bf16_of_a_gpu_does_not_count(monkeypatch, hardware):
    def supported(including_emulation=True):
        return hardware or including_emulation

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", supported)
    monkeypatch.setattr(torch.cuda, "device", lambda device: torch.device(device))
    assert auto_dtype("cuda:1") == (torch.bfloat16 if hardware else torch.float32)


def test_a_device_without_bf16_is_float32(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert auto_dtype("cuda") == auto_dtype("meta") == torch.float32


def test_autocast_computes_in_bf16_where_it_is_fast(cpu):
    layer, x = torch.nn.Linear(4, 4), torch.ones(1, 4)
    cpu(amx=True)
    with autocast("cpu"):
        assert layer(x).dtype == torch.bfloat16
    cpu()
    with autocast("cpu"):
        assert layer(x).dtype == torch.float32


@pytest.mark.parametrize("device", ["meta", "mps", "cuda"])
def test_autocast_does_nothing_where_bf16_is_not_fast(monkeypatch, device):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with autocast(device):
        assert not torch.is_autocast_enabled("cpu")


def test_memory_format_goes_with_the_numbers(cpu):
    cpu(amx=True)
    assert auto_memory_format("cpu") == torch.channels_last
    cpu()
    assert auto_memory_format("cpu") == torch.contiguous_format


def test_pictures_lie_otherwise_only_forwards_on_a_cpu():
    x = torch.rand(2, 3, 4, 5)
    assert forward_layout(x) is x
    with torch.inference_mode():
        y = forward_layout(x)
        assert forward_layout(elsewhere := x.to("meta")) is elsewhere
    assert torch.equal(x, y)
    assert y.is_contiguous(memory_format=torch.channels_last)
