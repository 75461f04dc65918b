"""The authors' pictures: fetched once, within limits, from one host; what goes wrong is told in one line."""

from __future__ import annotations

import asyncio
import socket
import struct
import time
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import PIL.Image
import pytest

from refgc.imaging.image import open_image
from refgc.page.gallery.cards import CREDIT, render_paper
from refgc.page.gallery.paper import (
    PAPER_ADDRESS,
    PAPER_SETS,
    DownloadError,
    Outcome,
    PaperPictures,
    UnreachableError,
    download,
    open_client,
)
from tests.support.coroutines import completed
from tests.support.picture_host import Host, body, picture, picture_host, silence, status, trickle, without_length

FILES = [file for wanted in PAPER_SETS for file in wanted.files]


@pytest.fixture
def host() -> Iterator[Host]:
    with picture_host() as host:
        yield host


# In this process, since starting one for each picture takes its time.
decode = partial(open_image, name="picture")


def paper(host: Host, folder: Path, **limits: float) -> PaperPictures:
    return PaperPictures(folder, decode, address=host.address, **{"seconds": 5.0, **limits})  # type: ignore[arg-type]


def get(pictures: PaperPictures) -> Outcome:
    return completed(pictures.get())


def fetch(host: Host, name: str = "a.png", *, most_bytes: int = 10_000, seconds: float = 5.0) -> bytes:
    with open_client(seconds) as client:
        return download(client, host.address + name, most_bytes=most_bytes, seconds=seconds)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def huge_png() -> bytes:
    """The beginning of a PNG that says it is 30000 x 30000 pixels."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", 30_000, 30_000, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0")) + chunk(b"IEND", b"")


def test_names_are_those_of_the_project_page() -> None:
    assert PAPER_ADDRESS == "https://cmlab-korea.github.io/RefGC-SR2/asset/"
    for generator in ("gemini", "chatgpt", "qwen"):
        assert {f"{generator}_HRRI.jpg", f"{generator}_LRGI.png", f"{generator}_output.png"} <= set(FILES)
    for scene in ("camera", "doll", "jar", "rabbit"):
        assert {f"{scene}_HRRI.png", f"{scene}_LRGI.png", f"{scene}_output.png"} <= set(FILES)
    assert len(FILES) == 21


def test_download_gives_the_bytes(host: Host) -> None:
    assert fetch(host) == picture("a.png")


@pytest.mark.parametrize("code", [301, 302, 307, 308])
def test_no_redirect_is_followed(host: Host, code: int) -> None:
    host.answers["a.png"] = status(code, f"{host.address}elsewhere.png")
    with pytest.raises(DownloadError, match=str(code)):
        fetch(host)
    assert not any("elsewhere" in path for path in host.asked)


@pytest.mark.parametrize("code", [404, 403, 500, 204])
def test_any_answer_but_ok_is_no_picture(host: Host, code: int) -> None:
    host.answers["a.png"] = status(code)
    with pytest.raises(DownloadError, match=str(code)):
        fetch(host)


@pytest.mark.parametrize("answer", [body, without_length])
def test_size_is_limited_as_announced_and_as_read(host: Host, answer) -> None:
    host.answers["a.png"] = answer(bytes(2_000_001))
    with pytest.raises(DownloadError, match="larger than 2 MB"):
        fetch(host, most_bytes=2_000_000)
    assert len(fetch(host, most_bytes=2_000_001)) == 2_000_001


@pytest.mark.parametrize("slow", [silence, trickle])
def test_time_is_limited(host: Host, slow) -> None:
    host.answers["a.png"] = slow(20)
    begun = time.monotonic()
    with pytest.raises(DownloadError, match=r"longer than 0\.5 seconds"):
        fetch(host, most_bytes=10**9, seconds=0.5)
    assert time.monotonic() - begun < 10


def test_no_connection_is_told_apart() -> None:
    with open_client(2) as client, pytest.raises(UnreachableError):
        download(client, f"http://127.0.0.1:{free_port()}/a.png", most_bytes=10, seconds=2)


def test_all_are_fetched_once_and_kept_as_webp(host: Host, tmp_path: Path) -> None:
    pictures = paper(host, tmp_path / "paper")
    assert host.asked.total() == 0, "nothing is fetched before it is asked for"
    outcome = get(pictures)
    assert outcome == Outcome(PAPER_SETS)
    assert sorted(path.rsplit("/", 1)[-1] for path in host.asked) == sorted(FILES)
    for file in FILES:
        for name in (f"{Path(file).stem}.webp", f"{Path(file).stem}-small.webp"):
            with PIL.Image.open(tmp_path / "paper" / name) as kept:
                assert (kept.format, kept.size) == ("WEBP", (96, 96))
    assert len(list((tmp_path / "paper").iterdir())) == 2 * len(FILES), "what arrived is not kept beside it"

    assert get(pictures) == outcome
    assert get(paper(host, tmp_path / "paper")) == outcome, "another process finds them"
    assert host.asked.total() == len(FILES)


def test_visitors_at_the_same_time_share_one_fetching(host: Host, tmp_path: Path) -> None:
    pictures = paper(host, tmp_path)

    async def five() -> list[Outcome]:
        return await asyncio.gather(*(pictures.get() for _ in range(5)))

    assert completed(five()) == [Outcome(PAPER_SETS)] * 5
    assert set(host.asked.values()) == {1}


def test_deleted_files_are_fetched_again(host: Host, tmp_path: Path) -> None:
    pictures = paper(host, tmp_path)
    get(pictures)
    (tmp_path / "doll_LRGI-small.webp").unlink()
    assert get(pictures) == Outcome(PAPER_SETS)
    assert host.asked["/asset/doll_LRGI.png"] == 2
    assert host.asked.total() == len(FILES) + 1


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        (status(404), "answered 404"),
        (status(302, "http://127.0.0.1:9/"), "answered 302"),
        (body(b"<html>not a picture</html>"), "no picture that can be read"),
        (body(picture("cut")[:60]), "no picture that can be read"),
        (body(huge_png()), "no picture that can be read"),
        (body(bytes(3_000_001)), "larger than 3 MB"),
        (trickle(20), "longer than 1 seconds"),
    ],
    ids=["missing", "elsewhere", "no picture", "cut off", "too many pixels", "too large", "too slow"],
)
def test_one_bad_picture_hides_its_set_alone(host: Host, tmp_path: Path, answer, reason: str) -> None:
    host.answers["doll_output.png"] = answer
    outcome = get(paper(host, tmp_path, seconds=1, most_bytes=3_000_000))
    assert [wanted.name for wanted in outcome.sets] == ["gemini", "chatgpt", "qwen", "camera", "jar", "rabbit"]
    assert outcome.problem.startswith("1 of 7 are not shown now: ")
    assert reason in outcome.problem
    assert not list(tmp_path.glob("doll_output*"))


def test_without_network_one_line_says_so_and_the_host_is_left_alone(tmp_path: Path) -> None:
    port = free_port()
    pictures = PaperPictures(tmp_path, decode, address=f"http://127.0.0.1:{port}/", seconds=2)
    outcome = get(pictures)
    assert outcome.sets == ()
    assert outcome.problem == "They are not shown now: no connection to its server. See them on the project page."
    with socket.create_server(("127.0.0.1", port)) as listening:
        listening.settimeout(0.3)
        assert get(pictures) == outcome
        with pytest.raises(TimeoutError):
            listening.accept()


def test_after_a_while_it_is_tried_again(host: Host, tmp_path: Path) -> None:
    host.answers["jar_HRRI.png"] = status(503)
    pictures = paper(host, tmp_path, retry_seconds=0.0)
    assert len(get(pictures).sets) == 6
    del host.answers["jar_HRRI.png"]
    assert get(pictures) == Outcome(PAPER_SETS)


def test_where_nothing_can_be_written_that_is_told(host: Host, tmp_path: Path) -> None:
    (tmp_path / "paper").write_text("a file where the folder should be")
    outcome = get(paper(host, tmp_path / "paper"))
    assert outcome.sets == ()
    assert "no room" in outcome.problem


def test_what_is_shown_credits_the_authors() -> None:
    assert "CC BY-SA 4.0" in CREDIT
    assert "CMLab, Chung-Ang University" in CREDIT
    shown = render_paper(Outcome(PAPER_SETS[:2], "5 of 7 are <missing>."))
    assert shown.count('<li class="card"') == 2
    assert "&lt;missing&gt;" in shown
    assert 'src="folder:gemini_HRRI.webp"' in shown
    assert shown.count("CC BY-SA 4.0") == 2
    assert '<li class="card"' not in render_paper(Outcome((), "None."))
