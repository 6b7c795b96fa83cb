"""Runs that are killed, stopped, or cannot write: nothing is lost, and they go on."""

import contextlib
import errno
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest
import torch
from training_cases import (
    Fail,
    Kill,
    arguments,
    check_equal_runs,
    check_sentence,
    finish,
    log_of,
    make_data,
    said_of,
    start,
    tiny,
)

from fcnlib import training
from fcnlib.checkpoint import find_checkpoint, load_checkpoint
from fcnlib.errors import RunError
from fcnlib.run import only_writer
from fcnlib.training import train

pytestmark = pytest.mark.skipif(os.name != "posix", reason="kills and mounts as on Linux")


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return make_data(tmp_path_factory.mktemp("faults") / "data")


@pytest.fixture(scope="module")
def unbroken(data, tmp_path_factory):
    """(the folder of an unbroken run of two epochs, the seconds that it took)"""
    out = tmp_path_factory.mktemp("unbroken") / "run"
    finish(tiny(data), out.with_name("first"))  # so that the clock sees no imports
    begin = time.perf_counter()
    assert finish(tiny(data), out) == 0
    return out, time.perf_counter() - begin


@pytest.fixture(scope="module")
def half_way(data, tmp_path_factory):
    """A run that was killed when its first epoch was stored, with an epoch to go."""
    out = tmp_path_factory.mktemp("half") / "run"
    number = 0
    while find_checkpoint(out) is None or find_checkpoint(out).name != "epoch-0001":
        number += 5
        assert number < 100
        assert finish(tiny(data), out, fault=Kill(number)) == -signal.SIGKILL
    return out


def check_whole(out: Path) -> None:
    """What is stored at any moment can be used."""
    if find_checkpoint(out) is not None:
        checkpoint = load_checkpoint(out)
        checkpoint.network()
        checkpoint.optimizer_state()


# --- kill -9


@pytest.mark.slow
def test_killed_between_any_two_writes_of_an_epochs_end(data, unbroken, half_way, tmp_path):
    for number in range(1, 100):
        shutil.copytree(half_way, out := tmp_path / str(number))
        status = finish(settings := tiny(data), out, fault=Kill(number))
        check_whole(out)
        if status == 0:
            break
        assert status == -signal.SIGKILL
        assert finish(settings, out) == 0
        check_equal_runs(out, unbroken[0], 2)
        shutil.rmtree(out)
    assert 15 < number < 99


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kills_wanted", "workers", "readers"),
    [(20, 0, "fork"), (20, 2, "fork"), (3, 2, "forkserver")],  # of Python 3.14: "forkserver"
)
def test_killed_at_random_moments(data, unbroken, tmp_path, kills_wanted, workers, readers):
    """A run is killed again and again until it gets through; then another, 20 times in all."""
    expected, seconds = unbroken
    settings = tiny(data, workers=workers)
    randoms, kills, out = random.Random(workers), 0, tmp_path / "0"
    while kills < kills_wanted:
        process = start(settings, out, readers=readers)
        process.join(randoms.uniform(0, 1.2 * seconds))
        with contextlib.suppress(psutil.NoSuchProcess):
            children = psutil.Process(process.pid).children(recursive=True)
        process.kill()
        process.join()
        check_whole(out)
        if process.exitcode == 0:
            check_equal_runs(out, expected, 2)
            out = tmp_path / str(kills)
            continue
        kills += 1
        # Those that read pictures notice, and go away.
        assert not psutil.wait_procs(children, timeout=120)[1]
    assert finish(settings, out) == 0
    check_equal_runs(out, expected, 2)


# --- Ctrl-C


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_ctrl_c_is_one_sentence_and_the_run_goes_on(data, tmp_path, workers):
    out = tmp_path / "run"
    settings = tiny(data, workers=workers, epochs=3000)
    process = subprocess.Popen(
        [sys.executable, "-m", "fcnlib", *arguments(settings, out)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    try:
        deadline = time.monotonic() + 120
        while not log_of(out) and time.monotonic() < deadline:
            time.sleep(0.05)
        time.sleep(0.2)
        os.killpg(process.pid, signal.SIGINT)
        said, errors = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert process.returncode == 130
    assert errors == f"fcn: stopped; --resume goes on with {out}.\n"
    assert all(line.startswith("epoch ") for line in said.splitlines())
    check_whole(out)
    assert load_checkpoint(out).epoch >= 1
    with pytest.raises(RunError) as error:  # it is not forgotten that there is a run
        train(settings, out)
    check_sentence(error.value, "--resume")


# --- a disk that is full, or cannot be written


@pytest.mark.slow
def test_a_disk_that_is_full_from_any_write_on(data, unbroken, half_way, tmp_path):
    for number in range(1, 100):
        shutil.copytree(half_way, out := tmp_path / str(number))
        status = finish(settings := tiny(data), out, fault=Fail(number))
        check_whole(out)
        if status == 0:
            break
        assert status == 1
        check_sentence(said_of(data, out), out, os.strerror(errno.ENOSPC), "--resume")
        assert not list(out.rglob(".e*"))  # nothing half written
        assert finish(settings, out) == 0
        check_equal_runs(out, unbroken[0], 2)
        shutil.rmtree(out)
    assert 10 < number < 99


@pytest.mark.parametrize("code", [errno.EROFS, errno.EACCES])
def test_a_folder_that_cannot_be_written(data, half_way, tmp_path, code):
    shutil.copytree(half_way, out := tmp_path / "run")
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    assert finish(tiny(data), out, fault=Fail(1, code)) == 1
    check_sentence(said_of(data, out), out, os.strerror(code))
    assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


@pytest.fixture
def small_disk(tmp_path):
    """A function that makes a disk of so many kilobytes, or changes its size."""
    (folder := tmp_path / "disk").mkdir()

    def resize(kilobytes: int) -> Path:
        options = f"size={kilobytes}k" + (",remount" if os.path.ismount(folder) else "")
        command = ["mount", "-t", "tmpfs", "-o", options, "tmpfs", str(folder)]
        if os.geteuid() or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("only root may mount, and not everywhere")
        return folder

    yield resize
    if os.path.ismount(folder):
        subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
def test_disks_of_all_sizes(data, unbroken, small_disk):
    """Where the libraries beneath meet the end of the disk, in files that Python does not see."""
    full = []
    for kilobytes in range(20, 1000, 40):
        out = small_disk(kilobytes) / f"{kilobytes}"
        if status := finish(settings := tiny(data), out):
            assert status == 1
            check_sentence(said_of(data, out), out, "--resume")
            assert "[" not in said_of(data, out)  # no depths of PyTorch
            check_whole(out)
            assert not list(out.rglob(".e*"))
            full.append(kilobytes)
            small_disk(4000)
            assert finish(settings, out) == 0
        check_equal_runs(out, unbroken[0], 2)
        shutil.rmtree(out)
        if status == 0:
            break
    assert len(full) > 3


def test_a_disk_that_is_mounted_read_only(data, half_way, small_disk):
    out = small_disk(4000) / "run"
    shutil.copytree(half_way, out)
    subprocess.run(["mount", "-o", "remount,ro", str(out.parent)], check=True)
    with pytest.raises(RunError) as error:
        train(tiny(data), out, resume=True)
    check_sentence(error.value, out, os.strerror(errno.EROFS))
    with pytest.raises(RunError) as error:
        train(tiny(data), out.with_name("new"))
    check_sentence(error.value, out.with_name("new"), os.strerror(errno.EROFS))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may all")
def test_a_folder_without_permission(data, half_way, tmp_path):
    shutil.copytree(half_way, out := tmp_path / "run")
    out.chmod(0o500)
    with pytest.raises(RunError) as error:
        train(tiny(data), out, resume=True)
    check_sentence(error.value, out, os.strerror(errno.EACCES))


# --- two runs in one folder


def test_the_second_run_in_a_folder_is_refused(data, unbroken, half_way, tmp_path):
    shutil.copytree(half_way, out := tmp_path / "run")
    with only_writer(out):
        assert finish(tiny(data), out) == 1
        check_sentence(said_of(data, out), "Another run is writing into", out)
        with pytest.raises(RunError) as error:  # and so it is in the same process
            train(tiny(data), out, resume=True)
        check_sentence(error.value, "Another run is writing into", out)
    assert finish(tiny(data), out) == 0
    check_equal_runs(out, unbroken[0], 2)


@pytest.mark.slow
def test_of_two_runs_at_the_same_time_one_is_refused(data, tmp_path):
    out = tmp_path / "run"
    settings = tiny(data, epochs=20, evaluate_every=20)
    first = start(settings, out)
    while find_checkpoint(out) is None and first.is_alive():
        time.sleep(0.02)
    assert finish(settings, out) == 1
    check_sentence(said_of(data, out), "Another run is writing into", out)
    first.join()
    assert first.exitcode == 0
    assert finish(settings, out.with_name("alone")) == 0
    check_equal_runs(out, out.with_name("alone"), 20)


def test_a_lock_that_a_killed_run_left_is_no_obstacle(data, tmp_path):
    (out := tmp_path / "run").mkdir()
    (out / ".lock").write_text("")
    assert finish(tiny(data, epochs=1), out) == 0
    assert torch.load(find_checkpoint(out) / "optimizer.pt", weights_only=True)


def test_a_ctrl_c_that_python_forgot_ends_the_run_all_the_same(data, tmp_path, monkeypatch):
    real = training.mixed_seed

    def interrupted(*numbers):
        if numbers[1] == 2:
            with contextlib.suppress(KeyboardInterrupt):  # as where Python forks or tidies up
                signal.raise_signal(signal.SIGINT)
        return real(*numbers)

    monkeypatch.setattr(training, "mixed_seed", interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(tiny(data, epochs=4), tmp_path / "run")
        assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    finally:
        signal.signal(signal.SIGINT, before)
    assert load_checkpoint(tmp_path / "run").epoch == 1


def test_what_a_ctrl_c_broke_ends_as_a_ctrl_c(data, tmp_path, monkeypatch):
    def broken(*_):
        with contextlib.suppress(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
        raise RuntimeError("DataLoader worker (pid 1) exited unexpectedly")

    monkeypatch.setattr(training, "epoch_batches", broken)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            train(tiny(data), tmp_path / "run")
    finally:
        signal.signal(signal.SIGINT, before)
