"""The download of VOC against mirrors on this machine that break, lie, stall and send traps."""

import hashlib
import io
import signal
import subprocess
import sys
import tarfile
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from fcnlib.cli import main
from fcnlib.data import DataError, SegmentationFolder, download, download_voc, find_voc
from fcnlib.data.download import Archive

NAME = "VOCtrainval_11-May-2012.tar"
DEAD = "http://127.0.0.1:1/voc.tar"
Behaviour = Callable[["Handler"], None]


class Mirror(ThreadingHTTPServer):
    """A server of one file that behaves once in each of the given ways, then as the last."""

    daemon_threads = True

    def __init__(self, data: bytes, *behaviours: Behaviour) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.data = data
        self.behaviours = list(behaviours)
        self.url = f"http://127.0.0.1:{self.server_port}/{NAME}"
        self.ranges: list[str | None] = []  # of each request
        self.sent = 0
        self.go_on = threading.Event()
        threading.Thread(target=self.serve_forever, args=(0.01,), daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: Mirror

    def do_GET(self) -> None:
        self.server.ranges.append(self.headers["Range"])
        behaviours = self.server.behaviours
        behave = behaviours.pop(0) if len(behaviours) > 1 else behaviours[0]
        behave(self)

    @property
    def start(self) -> int:
        return int((self.headers["Range"] or "bytes=0-")[6:-1])

    def head(self, status: int, **headers: object) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()

    def body(self, data: bytes) -> None:
        try:
            for begin in range(0, len(data), 4096):
                self.wfile.write(data[begin : begin + 4096])
                self.server.sent += len(data[begin : begin + 4096])
        except OSError:
            pass  # they do not want more

    def log_message(self, *args: object) -> None:
        pass


def good(h: Handler, data: bytes | None = None, stop: int | None = None) -> None:
    data = data or h.server.data
    length = len(data) - h.start
    if h.start:
        where = f"bytes {h.start}-{len(data) - 1}/{len(data)}"
        h.head(206, Content_Length=length, Content_Range=where)
    else:
        h.head(200, Content_Length=length)
    h.body(data[h.start : stop])


def cut(stop: int) -> Behaviour:
    return lambda h: good(h, stop=stop)


def stall(stop: int) -> Behaviour:
    def behave(h: Handler) -> None:
        good(h, stop=stop)
        h.server.go_on.wait(20)

    return behave


def held(h: Handler) -> None:
    h.server.go_on.wait(20)
    good(h)


def ignores_range(h: Handler) -> None:
    h.head(200, Content_Length=len(h.server.data))
    h.body(h.server.data)


def wrong_bytes(h: Handler) -> None:
    good(h, data=bytes(len(h.server.data)))


def says_length(length: int | None) -> Behaviour:
    def behave(h: Handler) -> None:
        h.head(200, **({} if length is None else {"Content_Length": length}))
        h.body(h.server.data)

    return behave


def status(code: int) -> Behaviour:
    return lambda h: h.head(code)


def wrong_range(h: Handler) -> None:
    """Ask for any part, and you get the last 10 bytes."""
    if not h.start:
        return good(h)
    size = len(h.server.data)
    h.head(206, Content_Length=10, Content_Range=f"bytes {size - 10}-{size - 1}/{size}")
    h.body(h.server.data[-10:])


def endless(h: Handler) -> None:
    """Resume rightly, but never end."""
    size = len(h.server.data)
    h.head(206, Content_Range=f"bytes {h.start}-{size - 1}/{size}")
    h.body(h.server.data[h.start :] + bytes(10 * size))


def no_ranges(h: Handler) -> None:
    status(416)(h) if h.start else good(h)


@pytest.fixture
def tar(voc_folder: Path) -> bytes:
    """An archive as VOC's is built: about 200 KB."""
    filler = np.random.default_rng(0).bytes(150_000)
    (voc_folder / "JPEGImages" / "filler.jpg").write_bytes(filler)
    return pack(voc_folder)


def pack(voc: Path, *more: tarfile.TarInfo) -> bytes:
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as archive:
        archive.add(voc, "VOCdevkit/VOC2012")
        for member in more:
            archive.addfile(member, io.BytesIO(b"evil") if member.isreg() else None)
    return file.getvalue()


def facts(data: bytes) -> Archive:
    return Archive(NAME, len(data), hashlib.sha1(data).hexdigest())


@pytest.fixture
def place(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("FCN_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("FCN_VOC", raising=False)
    monkeypatch.setattr(download, "PAUSE", 0)
    return tmp_path / "data"


@pytest.fixture
def mirror(tar: bytes) -> Iterator[Callable[..., Mirror]]:
    """Start a mirror of the archive: mirror(behaviour, ...)."""
    mirrors: list[Mirror] = []

    def start(*behaviours: Behaviour, data: bytes = tar) -> Mirror:
        mirrors.append(Mirror(data, *behaviours))
        return mirrors[-1]

    yield start
    for each in mirrors:
        each.go_on.set()
        each.shutdown()
        each.server_close()


def get(tar: bytes, *mirrors: Mirror | str, timeout: float = 15) -> Path:
    urls = [m if isinstance(m, str) else m.url for m in mirrors]
    return download_voc(mirrors=urls, archive=facts(tar), timeout=timeout)


def left(place: Path) -> set[str]:
    """What lies in the data folder, without the lock; nothing may lie beside it."""
    assert {path.name for path in place.parent.iterdir()} <= {"data", "voc"}
    return {path.name for path in place.iterdir()} - {f".{NAME}.lock"}


def check_whole(place: Path, root: Path, tar: bytes) -> None:
    """The folder holds what the archive holds, and nothing else is left."""
    assert root == place / "VOCdevkit" / "VOC2012" == find_voc()
    assert left(place) == {"VOCdevkit"}
    with tarfile.open(fileobj=io.BytesIO(tar)) as archive:
        assert {place / name for name in archive.getnames()} == {*(place / "VOCdevkit").rglob("*")}
        for member in archive:
            path = place / member.name
            assert path.is_dir() if member.isdir() else path.is_file()
            if member.isreg():
                assert path.read_bytes() == archive.extractfile(member).read()
    assert len(SegmentationFolder(root, "train")) == 2


def check_fails(
    place: Path, tar: bytes, *mirrors: Mirror | str, remain: set[str], **options: float
) -> str:
    """The download fails with one sentence; nothing looks whole; only ``remain`` is left."""
    with pytest.raises(DataError) as raised:
        get(tar, *mirrors, **options)
    said = str(raised.value)
    assert "\n" not in said
    assert said.endswith(".")
    assert find_voc() is None
    assert left(place) == remain
    return said


def test_a_good_mirror(place, tar, mirror, capsys):
    one = mirror(good)
    check_whole(place, get(tar, one), tar)
    assert one.ranges == [None]
    assert one.sent == len(tar)
    assert get(tar, one) == find_voc()  # found, not asked for again
    assert one.ranges == [None]
    assert one.url in capsys.readouterr().err


def test_the_command(place, tar, mirror, monkeypatch, capsys):
    monkeypatch.setitem(download_voc.__kwdefaults__, "archive", facts(tar))
    monkeypatch.setitem(download_voc.__kwdefaults__, "mirrors", "not to be asked")
    first, second = mirror(status(404)), mirror(good)
    assert main(["data", "voc", "--mirror", first.url]) == 1
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"fcn: {NAME} cannot be downl")
    assert main(["data", "voc", "--mirror", first.url, "--mirror", second.url]) == 0
    assert capsys.readouterr().out == f"PASCAL VOC 2012 is in {place / 'VOCdevkit' / 'VOC2012'}\n"


def test_the_built_in_archive():
    assert download_voc.__kwdefaults__["archive"] == Archive(
        NAME, 1999639040, "4e443f8a2eca6b1dac8a6c57641b67dd40621a49"
    )
    assert len(download.MIRRORS) == len(set(download.MIRRORS)) == 4
    assert all(url.endswith(f"/{NAME}") for url in download.MIRRORS)


def test_an_existing_voc_is_used(place, tar, mirror, voc_folder, monkeypatch):
    one = mirror(good)
    monkeypatch.setenv("FCN_VOC", str(voc_folder))
    assert get(tar, one) == voc_folder
    assert not place.exists()
    monkeypatch.setenv("FCN_VOC", "none")
    with pytest.raises(DataError, match="unset"):
        get(tar, one)
    assert not place.exists()
    monkeypatch.delenv("FCN_VOC")
    (place / "VOCdevkit").mkdir(parents=True)
    voc_folder.rename(place / "VOCdevkit" / "VOC2012")
    assert get(tar, one) == place / "VOCdevkit" / "VOC2012"
    assert one.ranges == []


def test_a_half_voc_is_not_touched(place, tar, mirror):
    (place / "VOCdevkit/VOC2012/JPEGImages").mkdir(parents=True)
    one = mirror(good)
    assert "move it away" in check_fails(place, tar, one, remain={"VOCdevkit"})
    assert one.ranges == []


def test_a_broken_line_is_resumed(place, tar, mirror):
    one = mirror(cut(50_000), cut(120_000), good)
    check_whole(place, get(tar, one), tar)
    assert one.ranges == [None, "bytes=50000-", "bytes=120000-"]
    assert one.sent == len(tar)


def test_a_line_that_breaks_often_but_goes_on_is_resumed(place, tar, mirror):
    one = mirror(*(cut(n * 20_000) for n in range(1, 8)), good)
    check_whole(place, get(tar, one), tar)


def test_another_mirror_goes_on_where_the_first_broke(place, tar, mirror):
    first, second = mirror(cut(50_000), status(404)), mirror(good)
    check_whole(place, get(tar, first, second), tar)
    assert second.ranges == ["bytes=50000-"]


def test_the_next_call_goes_on(place, tar, mirror):
    one = mirror(cut(50_000))
    said = check_fails(place, tar, one, remain={f"{NAME}.part"})
    assert "the connection broke after 50000 of" in said
    assert len(one.ranges) == 4  # once with new bytes, three times without
    two = mirror(good)
    check_whole(place, get(tar, two), tar)
    assert two.ranges == ["bytes=50000-"]


@pytest.mark.parametrize("behaviour", [ignores_range, no_ranges, wrong_range])
def test_a_mirror_that_cannot_resume_starts_anew(place, tar, mirror, behaviour):
    one = mirror(cut(50_000), behaviour)
    check_whole(place, get(tar, one), tar)
    assert one.ranges[:2] == [None, "bytes=50000-"]


def test_a_body_without_end_stops_at_the_known_size(place, tar, mirror):
    one = mirror(cut(50_000), endless)
    check_whole(place, get(tar, one), tar)


@pytest.mark.parametrize("more", [-1000, 1000, None])
def test_a_wrong_length_is_refused_and_the_part_kept(place, tar, mirror, more):
    lies = says_length(None if more is None else len(tar) + more)
    first, second = mirror(cut(50_000), lies), mirror(good)
    check_whole(place, get(tar, first, second), tar)
    assert second.ranges == ["bytes=50000-"]
    assert len(first.ranges) == 2  # asked no third time


@pytest.mark.parametrize("code", [404, 403, 416])
def test_a_mirror_without_the_file_is_asked_once(place, tar, mirror, code):
    first, second = mirror(status(code)), mirror(good)
    check_whole(place, get(tar, first, second), tar)
    assert len(first.ranges) == 1


def test_a_busy_mirror_is_asked_again(place, tar, mirror):
    one = mirror(status(503), status(429), good)
    check_whole(place, get(tar, one), tar)


def test_a_stalling_mirror(place, tar, mirror):
    first, second = mirror(stall(50_000)), mirror(good)
    began = time.monotonic()
    said = check_fails(place, tar, first, remain={f"{NAME}.part"}, timeout=0.2)
    assert "no answer for 0.2 seconds" in said
    assert time.monotonic() - began < 15
    check_whole(place, get(tar, first, second, timeout=0.4), tar)
    assert second.ranges[0] == "bytes=50000-"


def test_wrong_bytes_are_thrown_away(place, tar, mirror, capsys):
    first, second = mirror(wrong_bytes), mirror(good)
    check_whole(place, get(tar, first, second), tar)
    assert second.ranges == [None]
    assert "wrong SHA-1" in capsys.readouterr().err


def test_wrong_bytes_everywhere(place, tar, mirror):
    one, two = mirror(wrong_bytes), mirror(wrong_bytes)
    said = check_fails(place, tar, one, two, remain=set())
    assert said.count("its file has the wrong SHA-1") == 2
    assert str(place) in said


@pytest.mark.parametrize("size", [50_000, 10_000_000])
def test_a_rotten_part_is_not_blamed_on_the_mirror(place, tar, mirror, size):
    place.mkdir()
    (place / f"{NAME}.part").write_bytes(b"r" * size)
    one = mirror(good)
    check_whole(place, get(tar, one), tar)
    assert one.ranges[-1] is None


def test_all_mirrors_dead(place, tar, mirror):
    mirrors = (DEAD, mirror(status(500)), "nonsense", "http://[")
    said = check_fails(place, tar, *mirrors, remain=set())
    assert f"({DEAD}: Connection refused; " in said
    assert "HTTP 500 Internal Server Error; nonsense: unknown url type" in said
    assert said.endswith(f"put that file into {place} yourself.")


def test_an_archive_put_there_by_hand(place, tar, mirror):
    place.mkdir()
    (place / NAME).write_bytes(tar)
    (place / f"{NAME}.part").write_bytes(tar[:1000])
    one = mirror(good)
    check_whole(place, get(tar, one), tar)
    assert one.ranges == []


def test_a_damaged_archive_put_there_by_hand_stays(place, tar, mirror):
    place.mkdir()
    (place / NAME).write_bytes(tar[:-1])
    one = mirror(good)
    said = check_fails(place, tar, one, remain={NAME})
    assert said.startswith(f"{place / NAME} is damaged or another archive")
    assert one.ranges == []


def member(name: str, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    info.size = 4 if kind == tarfile.REGTYPE else 0
    return info


INSIDE = "VOCdevkit/VOC2012/evil"
TRAPS = {
    "way out": [member("../evil")],
    "way out from within": [member("VOCdevkit/VOC2012/../../../evil")],
    "way out for Windows": [member("VOCdevkit\\..\\..\\evil")],
    "drive": [member("C:evil")],
    "absolute": [member("/TMP/evil")],
    "folder outside": [member("../evil", tarfile.DIRTYPE)],
    "symbolic link": [member(INSIDE, tarfile.SYMTYPE, "/TMP")],
    "link inside": [member(INSIDE, tarfile.SYMTYPE, "JPEGImages")],
    "file through a link": [member(INSIDE, tarfile.SYMTYPE, "/TMP"), member(f"{INSIDE}/evil")],
    "hard link": [member(INSIDE, tarfile.LNKTYPE, "VOCdevkit/VOC2012/JPEGImages/a.jpg")],
    "hard link outside": [member(INSIDE, tarfile.LNKTYPE, "../../voc/JPEGImages/a.jpg")],
    "device": [member(INSIDE, tarfile.CHRTYPE)],
    "block device": [member(INSIDE, tarfile.BLKTYPE)],
    "pipe": [member(INSIDE, tarfile.FIFOTYPE)],
}


@pytest.mark.parametrize("filtered", [True, False])
@pytest.mark.parametrize("trap", TRAPS)
def test_an_archive_with_a_trap(place, voc_folder, mirror, monkeypatch, tmp_path, trap, filtered):
    if not filtered:  # Python before 3.11.4
        monkeypatch.setattr(tarfile, "data_filter", lambda member, path: member, raising=False)
    members = [m.replace(deep=True) for m in TRAPS[trap]]
    for each in members:
        each.name = each.name.replace("/TMP", str(tmp_path))
        each.linkname = each.linkname.replace("/TMP", str(tmp_path))
    evil = pack(voc_folder, *members)
    said = check_fails(place, evil, mirror(good, data=evil), remain={NAME})
    assert f"{place / NAME} cannot be unpacked (its member " in said
    assert not list(tmp_path.rglob("*evil*"))
    assert not list(voc_folder.rglob("*evil*"))


def test_a_truncated_archive_of_the_right_hash(place, tar, mirror):
    for half in (tar[: len(tar) // 2], b"no archive", tar[:512]):
        said = check_fails(place, half, mirror(good, data=half), remain={NAME})
        assert "cannot be unpacked" in said
        (place / NAME).unlink()


def test_an_archive_without_voc_2012(place, tmp_path, mirror):
    (tmp_path / "data").mkdir()
    other = pack(tmp_path / "data")
    said = check_fails(place, other, mirror(good, data=other), remain={NAME})
    assert "cannot be unpacked (there is no VOCdevkit/VOC2012/ImageSets" in said


def test_not_enough_space(place, tar, mirror, monkeypatch):
    size = 2.1 * len(tar)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: SimpleNamespace(free=size - 1))
    one = mirror(cut(50_000), status(404), good)
    said = check_fails(place, tar, one, remain=set())
    assert said.startswith(f"{place} has 0.0 GB free, ")
    assert one.ranges == []
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: SimpleNamespace(free=size + 1))
    check_fails(place, tar, one, remain={f"{NAME}.part"})
    free = SimpleNamespace(free=size - 49_999)  # what is there already need not be free
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: free)
    check_whole(place, get(tar, one), tar)


def test_the_space_that_is_named(place, monkeypatch):
    free = SimpleNamespace(free=3.1e9)
    monkeypatch.setattr(download.shutil, "disk_usage", lambda _: free)
    with pytest.raises(DataError, match=r"has 3\.1 GB free, but .* takes 4\.2 GB: "):
        download_voc(mirrors=[])


@pytest.mark.skipif(sys.platform == "win32", reason="has no such limit")
@pytest.mark.parametrize("limit", [50_000, 170_000])
def test_a_disk_that_is_full_all_the_same(place, tar, mirror, limit):
    """The part, then a file of the archive, cannot be written whole."""
    import resource

    one = mirror(good)
    old = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, old[1]))
    try:
        said = check_fails(place, tar, one, remain={f"{NAME}.part"})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, old)
    assert "cannot be used (File too large)" in said
    assert len(one.ranges) == 1  # no mirror is blamed
    check_whole(place, get(tar, one), tar)


def test_a_folder_that_cannot_be_made(place, tar, mirror):
    place.write_text("")
    with pytest.raises(DataError, match=r"data cannot be used \(.*FCN_DATA"):
        get(tar, mirror(good))


@pytest.mark.skipif(sys.platform == "win32", reason="sends the signal as POSIX does")
def test_ctrl_c_keeps_the_part(place, tar, mirror, monkeypatch, capsys):
    part = place / f"{NAME}.part"

    def interrupt(h: Handler) -> None:
        good(h, stop=50_000)
        wait_for(lambda: part.exists() and part.stat().st_size > 0)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)
        h.server.go_on.wait(20)

    monkeypatch.setitem(download_voc.__kwdefaults__, "archive", facts(tar))
    one = mirror(interrupt, good)
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        assert main(["data", "voc", "--mirror", one.url]) == 130
    finally:
        signal.signal(signal.SIGINT, old)
    assert capsys.readouterr().err.endswith("fcn: stopped.\n")
    assert left(place) == {part.name}
    have = part.stat().st_size
    check_whole(place, get(tar, one), tar)
    assert one.ranges == [None, f"bytes={have}-"]


def wait_for(condition: Callable[[], bool], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def let_go_when_one_waits(monkeypatch: pytest.MonkeyPatch, one: Mirror) -> None:
    def say(text: str) -> None:
        if text.startswith("Another process downloads PASCAL VOC 2012"):
            one.go_on.set()

    monkeypatch.setattr(download, "_say", say)


def test_two_threads_at_once(place, tar, mirror, monkeypatch):
    one = mirror(held)
    let_go_when_one_waits(monkeypatch, one)
    roots: list[Path] = []
    threads = [threading.Thread(target=lambda: roots.append(get(tar, one))) for _ in range(2)]
    threads[0].start()
    wait_for(lambda: len(one.ranges) == 1)
    threads[1].start()
    for thread in threads:
        thread.join(20)
    assert len(roots) == 2
    assert one.ranges == [None]
    check_whole(place, roots[0], tar)
    assert roots[0] == roots[1]


CHILD = """
import sys, time, types
import fcnlib

package = types.ModuleType("fcnlib.data")  # without torch, which takes seconds
package.__path__ = [fcnlib.__path__[0] + "/data"]
sys.modules["fcnlib.data"] = package
from fcnlib.data import download

url, name, size, sha1, slow = sys.argv[1:]
if slow == "slow":
    real = download._plain_members

    def members(archive):
        for member in real(archive):
            yield member
            if member.name.endswith("/train.txt"):
                print("unpacking", flush=True)
                time.sleep(60)

    download._plain_members = members
download.download_voc(mirrors=[url], archive=download.Archive(name, int(size), sha1))
"""


def start_child(tar: bytes, one: Mirror, how: str = "") -> subprocess.Popen:
    archive = facts(tar)
    command = [sys.executable, "-c", CHILD, one.url, NAME, str(archive.size), archive.sha1, how]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_two_processes_at_once(place, tar, mirror, monkeypatch):
    one = mirror(held)
    let_go_when_one_waits(monkeypatch, one)
    child = start_child(tar, one)
    wait_for(lambda: len(one.ranges) == 1)
    root = get(tar, one)
    assert child.wait(60) == 0
    check_whole(place, root, tar)
    assert one.ranges == [None]
    assert one.go_on.is_set()


def test_killed_while_downloading(place, tar, mirror):
    one = mirror(stall(50_000), good)
    part = place / f"{NAME}.part"
    child = start_child(tar, one)
    wait_for(lambda: part.exists() and part.stat().st_size > 0)
    child.kill()
    child.wait(60)
    assert find_voc() is None
    assert left(place) == {part.name}
    have = part.stat().st_size
    check_whole(place, get(tar, one), tar)
    assert one.ranges == [None, f"bytes={have}-"]


def test_killed_while_unpacking(place, tar, mirror):
    one = mirror(good)
    child = start_child(tar, one, "slow")
    assert child.stdout.readline() == "unpacking\n"
    child.kill()
    child.wait(60)
    assert find_voc() is None
    assert left(place) == {NAME, f".{NAME}.unpacking"}
    assert list((place / f".{NAME}.unpacking").rglob("train.txt"))
    (place / f".{NAME}.unpacking/VOCdevkit/VOC2012/half").write_text("of a file")
    check_whole(place, get(tar, one), tar)
    assert one.ranges == [None]  # what was downloaded is used


def test_killed_between_download_and_check(place, tar, mirror):
    place.mkdir()
    (place / f"{NAME}.part").write_bytes(tar)
    check_whole(place, get(tar, DEAD), tar)
