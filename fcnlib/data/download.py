"""The download of PASCAL VOC 2012: several mirrors, resumed after a break, checked, unpacked."""

import hashlib
import os
import shutil
import sys
import tarfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PureWindowsPath
from urllib.error import HTTPError, URLError
from urllib.request import Request, urlopen

from filelock import FileLock, Timeout
from tqdm import tqdm

from fcnlib.data.places import data_dir, find_voc
from fcnlib.errors import DataError


@dataclass(frozen=True)
class Archive:
    """What is known of an archive: file name, bytes, and SHA-1 (the strongest hash published)."""

    name: str
    size: int
    sha1: str


VOC2012 = Archive(
    "VOCtrainval_11-May-2012.tar", 1_999_639_040, "4e443f8a2eca6b1dac8a6c57641b67dd40621a49"
)
MIRRORS = (  # the file's hash is known, so a mirror need not be trusted
    "https://thor.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
    "https://data.pjreddie.com/files/VOCtrainval_11-May-2012.tar",
    "http://d2l-data.s3-accelerate.amazonaws.com/VOCtrainval_11-May-2012.tar",
    "http://host.robots.ox.ac.uk/pascal/VOC/voc2012/VOCtrainval_11-May-2012.tar",
)
TRIES = 3  # in a row without a new byte; then it is the next mirror's turn
PAUSE = 1.0  # seconds between tries
CHUNK = 1 << 18


class _MirrorError(Exception):
    """What a mirror did wrong, in a few words; ``again`` if a second try may help."""

    def __init__(self, reason: object, again: bool = False) -> None:
        super().__init__(" ".join(str(reason).split())[:100])
        self.again = again


def download_voc(
    *, mirrors: Sequence[str] = MIRRORS, archive: Archive = VOC2012, timeout: float = 15.0
) -> Path:
    """Return the folder of PASCAL VOC 2012; download it (2 GB) where there is none.

    What :func:`find_voc` finds is used as it is. Else the archive lands in
    :func:`data_dir`, is checked, unpacked into ``VOCdevkit/VOC2012`` there, and deleted; an
    archive of the right name that lies there already is used, and deleted, too. A broken
    download is resumed, by the next call as well; the folder appears whole or not at all.
    A connection fails after ``timeout`` seconds without a byte. Raises DataError.
    """
    if root := find_voc():
        return root
    if os.environ.get("FCN_VOC") == "none":
        raise DataError("FCN_VOC is none, which hides every PASCAL VOC: unset it to download VOC.")
    folder = data_dir()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder / f".{archive.name}.lock"):
            return find_voc() or _download(folder, mirrors, archive, timeout)
    except OSError as error:  # those of the network became _MirrorError
        raise DataError(
            f"{error.filename or folder} cannot be used ({error.strerror or error}): mend that, "
            "or name another folder for data with FCN_DATA."
        ) from error


@contextmanager
def _alone(path: Path) -> Iterator[None]:
    """Keep other processes out. The system frees the lock of a process that was killed."""
    lock = FileLock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        _say("Another process downloads PASCAL VOC 2012: waiting for it.")
        lock.acquire()
    try:
        yield
    finally:
        lock.release()


def _download(folder: Path, mirrors: Sequence[str], archive: Archive, timeout: float) -> Path:
    root = folder / "VOCdevkit" / "VOC2012"
    if root.exists():
        raise DataError(
            f"{root} is there, but not whole: it has no ImageSets/Segmentation; move it away."
        )
    tar, part = folder / archive.name, folder / f"{archive.name}.part"
    beside = folder / f".{archive.name}.unpacking"
    shutil.rmtree(beside, ignore_errors=True)  # of a process that was killed
    _check_space(folder, archive.size, _size(tar) or _size(part))
    if not tar.exists():
        _fetch(mirrors, part, archive, timeout)
        part.rename(tar)
    elif _sha1(tar) != archive.sha1:
        raise DataError(
            f"{tar} is damaged or another archive (its SHA-1 is not {archive.sha1}): copy it "
            "again, or delete it, and it is downloaded."
        )
    try:
        _unpack(tar, beside, root)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
    tar.unlink()
    part.unlink(missing_ok=True)
    return root


def _check_space(folder: Path, size: int, have: int) -> None:
    needed = 2.1 * size - have  # archive and files; a disk rounds each file up
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise DataError(
            f"{folder} has {free / 1e9:.1f} GB free, but to download and unpack PASCAL VOC 2012 "
            f"takes {needed / 1e9:.1f} GB: free some, or name another folder with FCN_DATA."
        )


def _fetch(mirrors: Sequence[str], part: Path, archive: Archive, timeout: float) -> None:
    """Make the part whole, from the first mirror that can, or raise DataError."""
    reasons = []
    for url in mirrors:
        _say(f"Downloading {archive.name} ({archive.size / 1e9:.1f} GB) from {url}")
        try:
            return _fetch_from(url, part, archive, timeout)
        except _MirrorError as error:
            reasons.append(f"{url}: {error}")
            _say(f"That failed: {error}.")
    raise DataError(
        f"{archive.name} cannot be downloaded ({'; '.join(reasons)}): try again later, which "
        f"goes on from here, or put that file into {part.parent} yourself."
    )


def _fetch_from(url: str, part: Path, archive: Archive, timeout: float) -> None:
    mixed = _size(part) > 0
    failures, furthest = 0, _size(part)
    while _size(part) < archive.size:
        try:
            _receive(url, part, archive.size, timeout)
        except _MirrorError as error:
            failures = 0 if _size(part) > furthest else failures + 1
            furthest = max(furthest, _size(part))
            if failures == TRIES or not error.again:
                raise
            time.sleep(PAUSE)
    if _sha1(part) == archive.sha1:
        return
    part.unlink()
    if not mixed:
        raise _MirrorError("its file has the wrong SHA-1")
    _fetch_from(url, part, archive, timeout)  # the fault may lie in what was there before


def _receive(url: str, part: Path, size: int, timeout: float) -> None:
    """Ask the mirror for what the part lacks, and append it, up to the known size."""
    with _network_errors(timeout):
        answer, have = _ask(url, _size(part), size, timeout)
    bar = tqdm(
        desc="downloading", initial=have, total=size, unit="B", unit_scale=True, leave=False,
        disable=None,
    )  # fmt: skip
    with answer, bar, part.open("ab" if have else "wb") as file:
        while have < size:
            with _network_errors(timeout):
                data = answer.read1(min(CHUNK, size - have))
            if not data:
                raise _MirrorError(f"the connection broke after {have} of {size} bytes", True)
            file.write(data)
            have += len(data)
            bar.update(len(data))


def _ask(url: str, start: int, size: int, timeout: float) -> tuple[HTTPResponse, int]:
    """Ask for the bytes from ``start`` on; return the answer, and where it does start."""
    headers = {"Range": f"bytes={start}-"} if start else {}
    try:
        answer = urlopen(Request(url, headers=headers), timeout=timeout)
    except HTTPError as error:
        if start and error.code == 416:  # it has no such range, or no ranges at all
            return _ask(url, 0, size, timeout)
        raise
    if start and answer.status == 206:
        if answer.headers["Content-Range"] == f"bytes {start}-{size - 1}/{size}":
            return answer, start
        answer.close()
        return _ask(url, 0, size, timeout)
    length = answer.headers["Content-Length"]
    if answer.status == 200 and length == str(size):
        return answer, 0
    answer.close()  # such as the page of a hotel that wants a password: keep what is there
    raise _MirrorError(f"its file has {length or 'an unknown number of'} bytes, not {size}")


@contextmanager
def _network_errors(timeout: float) -> Iterator[None]:
    """Turn what urllib raises into _MirrorError."""
    try:
        yield
    except HTTPError as error:
        again = error.code >= 500 or error.code in (408, 429)
        raise _MirrorError(f"HTTP {error.code} {error.reason}", again) from error
    except (OSError, HTTPException, ValueError) as error:  # ValueError: no such kind of URL
        reason = error.reason if isinstance(error, URLError) else error
        if isinstance(reason, TimeoutError):
            reason = f"no answer for {timeout:g} seconds"
        raise _MirrorError(getattr(reason, "strerror", None) or reason, again=True) from error


def _unpack(tar: Path, beside: Path, root: Path) -> None:
    """Unpack the archive into ``beside``, then move its VOC 2012 to ``root``."""
    unpacked = beside / "VOCdevkit" / "VOC2012"
    try:
        with tarfile.open(tar, "r:") as archive:
            archive.extraction_filter = getattr(tarfile, "data_filter", None)  # from 3.11.4
            archive.extractall(beside, _plain_members(archive))
        if not (unpacked / "ImageSets" / "Segmentation").is_dir():
            raise ValueError("there is no VOCdevkit/VOC2012/ImageSets/Segmentation in it")
    except (tarfile.TarError, ValueError) as error:
        raise DataError(f"{tar} cannot be unpacked ({error}): delete it, and try again.") from error
    root.parent.mkdir(exist_ok=True)
    unpacked.rename(root)


def _plain_members(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    """Yield the members; raise ValueError at one that leads out, a link, or a device."""
    for member in tqdm(archive, "unpacking", unit="file", leave=False, disable=None):
        name = PureWindowsPath(member.name)  # knows /, \ and drives
        if name.anchor or ".." in name.parts:
            raise ValueError(f"its member {member.name!r} leads out of the folder")
        if not (member.isreg() or member.isdir()):
            raise ValueError(f"its member {member.name!r} is neither a file nor a folder")
        yield member


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _sha1(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha1").hexdigest()


def _say(text: str) -> None:
    tqdm.write(text, file=sys.stderr)
