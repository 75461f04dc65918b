"""Files of visits: what is deleted, when, and what never is."""

from __future__ import annotations

import errno
import os
import re
import socket
import time
from pathlib import Path

import pytest

from refgc.imaging.files import MEGABYTE
from refgc.page.app import build_demo
from refgc.page.service.runs import Service
from refgc.page.service.storage import NoRoomError, check_room, is_disk_full, new_folder, start_janitor, sweep
from refgc.settings import Settings
from tests.support.running import served


@pytest.fixture(autouse=True)
def uploads(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path / "uploads"))
    return tmp_path / "uploads"


def make(folder: Path) -> Path:
    folder.mkdir(parents=True)
    (folder / "picture.webp").write_bytes(b"picture")
    return folder


def age(path: Path, seconds: float) -> Path:
    os.utime(path, (time.time() - seconds,) * 2, follow_symlinks=False)
    return path


def test_sweep_deletes_what_is_old_and_ours(tmp_path: Path):
    old = [make(tmp_path / kind / ("0" * 32)) for kind in ("refined", "marked")]
    left_behind = make(tmp_path / ("a" * 64))
    stranger = make(tmp_path / "somebody-elses" / "pictures")
    (tmp_path / "notes.txt").write_text("kept")
    time.sleep(0.05)
    middle = time.time()
    time.sleep(0.05)
    young = [make(tmp_path / kind / ("1" * 32)) for kind in ("refined", "marked")]
    own = make(tmp_path / ("b" * 64))
    assert sweep(tmp_path, older_than=middle, started=middle) == len(old) + 1
    assert not any(folder.exists() for folder in [*old, left_behind])
    assert all(folder.exists() for folder in [*young, own, stranger, tmp_path / "notes.txt"])
    assert sweep(tmp_path, older_than=time.time() + 10, started=middle) == len(young)
    assert own.exists()


def test_sweep_follows_no_link(tmp_path: Path):
    outside = make(tmp_path / "outside" / ("0" * 32))
    uploads = tmp_path / "uploads"
    uploads.mkdir()
    (uploads / "refined").symlink_to(tmp_path / "outside", target_is_directory=True)
    (uploads / "preview").mkdir()
    (uploads / "preview" / ("1" * 32)).symlink_to(outside, target_is_directory=True)
    (uploads / ("c" * 64)).symlink_to(outside, target_is_directory=True)
    (uploads / "tmpabcd1234").symlink_to(outside / "picture.webp")
    inner = make(uploads / "marked" / ("2" * 32))
    (inner / "link").symlink_to(outside, target_is_directory=True)
    sweep(uploads, older_than=time.time() + 10, started=time.time() + 10, now=time.time() + 1000)
    assert not inner.exists()
    assert (outside / "picture.webp").read_bytes() == b"picture"


def test_broken_off_uploads_and_empty_folders_go_soon(tmp_path: Path):
    now = time.time()
    broken_off, going_on = tmp_path / "tmpabcd_123", tmp_path / "tmpzyxw_987"
    empty, fresh, empty_own = tmp_path / ("d" * 64), tmp_path / ("e" * 64), tmp_path / "refined" / ("3" * 32)
    strangers = tmp_path / "tmpfile.png"
    for file in (broken_off, going_on, strangers):
        file.write_bytes(b"part of a picture")
    for folder in (empty, fresh, empty_own):
        folder.mkdir(parents=True)
    full = make(tmp_path / "refined" / ("4" * 32))
    for path in (broken_off, strangers, empty, empty_own, full):
        age(path, 180)
    assert sweep(tmp_path, older_than=now - 3600, started=now - 3600) == 3
    assert not any(path.exists() for path in (broken_off, empty, empty_own))
    assert all(path.exists() for path in (going_on, strangers, fresh, full))


def test_janitor_sweeps_at_once_and_again_until_it_is_stopped():
    kept = make(new_folder("refined"))
    rounds: list[int] = []
    broken = [OSError("once")]

    def chore() -> None:
        rounds.append(len(rounds))
        if broken:
            raise broken.pop()

    stop = start_janitor(0.3, [chore])
    ends_at = time.monotonic() + 20
    while kept.exists() or len(rounds) < 3:
        assert time.monotonic() < ends_at
        time.sleep(0.02)
    stop()
    time.sleep(0.2)
    before = len(rounds)
    time.sleep(0.3)
    assert len(rounds) == before


def test_pictures_that_the_page_shows_from_its_start_stay(tmp_path: Path):
    demo = build_demo(Service(Settings()))
    shown = [Path(path) for block in demo.blocks.values() for path in getattr(block, "keep_in_cache", ())]
    shown = [path for path in shown if path.is_relative_to(tmp_path)]
    assert len(shown) >= 10
    rounds: list[int] = []
    stop = start_janitor(0.06, [lambda: rounds.append(len(rounds))])
    ends_at = time.monotonic() + 20
    while len(rounds) < 5:
        assert time.monotonic() < ends_at
        time.sleep(0.02)
    stop()
    assert all(path.is_file() for path in shown)


def test_folders_of_results_cannot_be_guessed(uploads: Path):
    first, second = new_folder("refined"), new_folder("refined")
    assert first.parent == second.parent == uploads / "refined"
    assert first != second
    assert re.fullmatch(r"[0-9a-f]{32}", first.name)


def test_nearly_full_disk_is_told():
    check_room(0)
    with pytest.raises(NoRoomError, match="no room left for new pictures; please try again in a few minutes"):
        check_room(1e18)


def test_full_disk_is_found_behind_other_errors():
    error = RuntimeError("while writing")
    error.__cause__ = OSError(errno.ENOSPC, "No space left on device")
    assert is_disk_full(error)
    assert not is_disk_full(OSError(errno.EACCES, "Permission denied"))


def test_upload_that_is_broken_off_is_found_by_the_sweep(uploads: Path):
    def service() -> Service:
        return Service(Settings.model_validate({"spare_megabytes": 0}))

    form = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'
    with served(uploads, service) as page:
        head = (
            "POST /gradio_api/upload HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: multipart/form-data; boundary=x\r\n"
            f"Content-Length: {2 * MEGABYTE}\r\n\r\n"
        )
        port = int(page.address.rpartition(":")[2])
        with socket.create_connection(("127.0.0.1", port)) as connection:
            connection.sendall(head.encode() + form + bytes(MEGABYTE))
            ends_at = time.monotonic() + 20
            while sum(file.stat().st_size for file in uploads.glob("tmp*")) < MEGABYTE // 2:
                assert time.monotonic() < ends_at
                time.sleep(0.05)
            (partial,) = uploads.glob("tmp*")
            sweep(uploads, older_than=0, started=0)
            assert partial.exists()
        sweep(uploads, older_than=0, started=0, now=time.time() + 130)
        assert not partial.exists()
