import io
import os
import subprocess
import sys

import pytest

from fcnlib.cli import main
from fcnlib.course import report
from fcnlib.data import DataError, data_dir, download, find_voc


@pytest.mark.parametrize(
    "command", [[], ["doctor"], ["data"], ["data", "check"], ["data", "labelme"], ["data", "voc"]]
)
def test_help(capsys, command):
    with pytest.raises(SystemExit) as stopped:
        main([*command, "--help"])
    assert stopped.value.code == 0
    assert capsys.readouterr().out.startswith("usage: fcn")


@pytest.mark.parametrize("wrong", [[], ["nonsense"], ["data"], ["data", "check"]])
def test_wrong_use_is_status_2(capsys, wrong):
    with pytest.raises(SystemExit) as stopped:
        main(wrong)
    assert stopped.value.code == 2
    assert "usage: fcn" in capsys.readouterr().err


def test_doctor_names_all_that_matters(capsys):
    assert main(["doctor"]) == 0
    out = capsys.readouterr().out
    for name in ("Python", "torch", "d2l", "jupyterlab", "cores", "memory", "GPU", "bf16"):
        assert f"OK  {name} " in out
    assert "shapes" in out
    assert "VOC 2012" in out


def test_doctor_says_what_to_do(monkeypatch, capsys):
    monkeypatch.setattr(report.metadata, "requires", lambda name: ["torch>=99", "nothere>=1"])
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert 'needs >=99: pip install "torch>=99"' in out
    assert 'missing: needs >=1: pip install "nothere>=1"' in out


def test_doctor_says_how_to_install_fcnlib_itself(monkeypatch, capsys):
    """A folder of sources runs without that, where it is the current one."""

    def missing(name):
        raise report.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(report.metadata, "requires", missing)
    assert main(["doctor"]) == 1
    assert "not installed: in its folder: pip install -e ." in capsys.readouterr().out


def test_doctor_asks_for_jupyterlab_but_not_on_colab(monkeypatch):
    monkeypatch.delenv("COLAB_RELEASE_TAG", raising=False)
    assert "jupyterlab" in {finding.name for finding in report.environment_report()}
    monkeypatch.setenv("COLAB_RELEASE_TAG", "release-colab")
    named = {finding.name for finding in report.environment_report()}
    assert "jupyterlab" not in named
    assert {"torch", "d2l"} <= named


def test_doctor_sees_a_wrong_fcn_voc(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("FCN_VOC", str(tmp_path))
    assert main(["doctor"]) == 1
    assert "give the folder that holds JPEGImages" in capsys.readouterr().out


def test_a_path_in_the_home_folder_is_named_without_it(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert report._short(tmp_path / "data") == "~/data"


def test_voc_is_found_in_its_two_places(monkeypatch, tmp_path, voc_folder, capsys):
    monkeypatch.delenv("FCN_VOC", raising=False)
    monkeypatch.setenv("FCN_DATA", str(tmp_path / "data"))
    assert data_dir() == tmp_path / "data"
    assert find_voc() is None
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSE", 0)
    monkeypatch.setattr(download, "_check_space", lambda *sizes: None)
    assert main(["data", "voc", "--mirror", "http://127.0.0.1:1/voc.tar"]) == 1
    said = capsys.readouterr().err.splitlines()[-1]
    assert said.startswith("fcn: VOCtrainval_11-May-2012.tar cannot be downloaded (http://127.0")
    monkeypatch.setenv("FCN_VOC", str(voc_folder))
    assert find_voc() == voc_folder
    assert main(["data", "voc"]) == 0
    monkeypatch.setenv("FCN_VOC", "none")
    assert find_voc() is None
    monkeypatch.delenv("FCN_VOC")
    (tmp_path / "data" / "VOCdevkit").mkdir(parents=True)
    voc_folder.rename(tmp_path / "data" / "VOCdevkit" / "VOC2012")
    assert find_voc() == tmp_path / "data" / "VOCdevkit" / "VOC2012"


def test_fcn_voc_must_name_a_voc(monkeypatch, tmp_path):
    monkeypatch.setenv("FCN_VOC", str(tmp_path))
    with pytest.raises(DataError, match=r"FCN_VOC names .* unset FCN_VOC"):
        find_voc()


def test_a_folder_that_cannot_be_written_is_one_sentence(monkeypatch, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("FCN_DATA", str(tmp_path / "file"))
    assert main(["data", "shapes"]) == 1
    assert capsys.readouterr().err.startswith("fcn: ")


def test_the_module_is_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "fcnlib", "data", "voc"],
        env={**os.environ, "FCN_VOC": "none"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1


@pytest.mark.parametrize("missing", ["torch", "torchvision"])
def test_doctor_says_what_to_do_where_a_library_is_broken(monkeypatch, capsys, missing):
    """All versions are right, and the import fails, as where a system library is missing."""
    monkeypatch.setitem(sys.modules, missing, None)
    assert main(["doctor"]) == 1
    out = capsys.readouterr().out
    assert "NO  torch " in out and "does not import (" in out
    assert "install both again: pip install --force-reinstall torch torchvision" in out


def test_a_name_that_the_output_cannot_write(monkeypatch, voc_folder):
    """As on Windows, where what goes into a file or pipe is cp1252."""
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), encoding="cp1252"))
    names = ["background", *(f"кот{k}" for k in range(20))]
    (voc_folder / "labels.txt").write_text("\n".join(names) + "\n", encoding="utf-8")
    assert main(["data", "check", str(voc_folder)]) == 0
    sys.stdout.flush()
    assert b"\\u043a\\u043e\\u0442" in sys.stdout.buffer.getvalue()
