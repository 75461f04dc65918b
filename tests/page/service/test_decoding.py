"""Visitors' files are decoded in processes of their own, which are limited, forgotten and leave nothing behind."""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from PIL import Image as PILImage

from refgc.errors import InputError
from refgc.imaging.image import Image, open_image, open_mask
from refgc.page.service.decoding import Decoder, StoppedError
from tests.support.damaged import corpus, short_tiff, small_png
from tests.support.pictures import encoded, noise, quadrants, refusal

# Long enough for a machine that does much else.
PATIENCE = 30


@pytest.fixture(scope="module")
def decoder() -> Iterator[Decoder]:
    decoder = Decoder()
    yield decoder
    decoder.close()


@pytest.fixture
def own_decoder() -> Iterator[Callable[..., Decoder]]:
    """Makes decoders with limits of their own."""
    made: list[Decoder] = []

    def own_decoder(**limits: Any) -> Decoder:
        made.append(Decoder(**limits))
        return made[-1]

    yield own_decoder
    for each in made:
        each.close()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    """A BMP of 64x48 pixels that is old enough to be kept."""
    path = tmp_path / "picture.bmp"
    path.write_bytes(encoded(PILImage.fromarray(quadrants()), "BMP"))
    time.sleep(0.06)
    return path


@pytest.fixture
def slow_picture(tmp_path: Path) -> Path:
    """A file that takes seconds: Pillow reads this maximum pixel by pixel, in Python."""
    path = tmp_path / "slow.ppm"
    path.write_bytes(b"P5 5000 5000 254\n" + bytes(5000 * 5000))
    return path


def children() -> set[psutil.Process]:
    """All processes below this one."""
    return set(psutil.Process().children(recursive=True))


def wait_until(condition: Callable[[], object]) -> None:
    """Fails where a condition does not come true."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def started_by(before: set[psutil.Process], count: int) -> set[psutil.Process]:
    """Waits for as many processes more than before, and gives them."""
    wait_until(lambda: len(children() - before) >= count)
    return children() - before


# --- the same as in this process ------------------------------------------------------------------------------------
@pytest.mark.parametrize("fork", [True, False], ids=["forked", "started anew"])
def test_pictures_and_masks_are_the_same_as_in_this_process(fork, own_decoder, tmp_path):
    decoder = own_decoder(fork=fork)
    pixels = np.dstack([noise(40, 50), np.full((40, 50), 255, np.uint8)])
    pixels[:10, :, 3] = 100
    for name, content in {
        "opaque.jpg": encoded(PILImage.fromarray(pixels[..., :3]), "JPEG"),
        "transparent.png": encoded(PILImage.fromarray(pixels), "PNG"),
    }.items():
        path = tmp_path / name
        path.write_bytes(content)
        image, expected = decoder.image(path, name="reference"), open_image(path, name="reference")
        np.testing.assert_array_equal(image.pixels, expected.pixels)
        assert (image.alpha is None) == (expected.alpha is None)
        if image.alpha is not None and expected.alpha is not None:
            np.testing.assert_array_equal(image.alpha.values, expected.alpha.values)
        assert not image.pixels.flags.writeable
        # A mask of half the size is resized.
        mask = decoder.mask(path, size=(100, 80), name="mask")
        np.testing.assert_array_equal(mask.values, open_mask(path, size=(100, 80), name="mask").values)


def test_size_of_what_was_decoded_is_known(decoder, picture):
    assert decoder.known_size(picture) is None
    decoder.image(picture, name="picture", keep=False)
    assert decoder.known_size(picture) == (64, 48)


def test_damaged_files_end_as_in_this_process(decoder, tmp_path):
    for number, file in enumerate(islice(corpus(), 3, None, 50)):
        path = tmp_path / str(number)
        path.write_bytes(file.content)
        ways: list[Callable[..., Image]] = [open_image, decoder.image]
        here, apart = (outcome(way, path) for way in ways)
        assert here == apart, file.name


def outcome(way: Callable[..., Image], path: Path) -> str | bytes:
    """The pixels, or the sentence."""
    try:
        return way(path, name="reference").pixels.tobytes()
    except InputError as error:
        return str(error)


@pytest.mark.parametrize("path", ["nowhere.png", "a\0b.png", "\ud800.png", "x" * 100_000, ""])
def test_files_that_are_not_there(path, decoder, tmp_path):
    expected = refusal(lambda: open_image(tmp_path / path, name="reference"))
    assert refusal(lambda: decoder.image(tmp_path / path, name="reference")) == expected


def test_several_threads_get_their_own_pictures(decoder, tmp_path):
    def same(level: int) -> bool:
        path = tmp_path / f"{level}.png"
        PILImage.new("L", (40 + level, 50), level).save(path)
        image = decoder.image(path, name="reference")
        return image.size == (40 + level, 50) and bool((image.pixels == level).all())

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(same, range(24)))


# --- walls ----------------------------------------------------------------------------------------------------------
def test_a_short_tiff_strip_yields_nothing(decoder, tmp_path):
    path = tmp_path / "short.tif"
    path.write_bytes(short_tiff("jpeg"))
    assert "is damaged or cut off" in refusal(lambda: decoder.image(path, name="reference"))


def test_a_repeated_exif_prefix_is_refused_in_no_time(decoder, tmp_path):
    path = tmp_path / "repeated.png"
    path.write_bytes(small_png((b"eXIf", b"Exif\0\0" * 1_300_000)))
    assert "more EXIF data" in refusal(lambda: decoder.image(path, name="reference"))


@pytest.mark.skipif(sys.platform != "linux", reason="the limit of address space is Linux's")
def test_memory_is_limited(own_decoder, tmp_path):
    decoder = own_decoder(memory=450_000_000)
    path = tmp_path / "flat.png"
    path.write_bytes(encoded(PILImage.new("RGB", (7000, 7000)), "PNG", compress_level=1))
    sentence = refusal(lambda: decoder.image(path, name="reference"))
    assert sentence == "The reference takes too much memory to decode; make it smaller."


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "started anew"])
def test_time_is_limited(fork, own_decoder, slow_picture):
    decoder = own_decoder(seconds=1, fork=fork)
    start = time.monotonic()
    sentence = refusal(lambda: decoder.image(slow_picture, name="reference"))
    assert sentence.startswith("The reference 'slow.ppm' takes too long to decode; make it smaller")
    assert time.monotonic() - start < 4


@pytest.mark.parametrize("fork", [True, False], ids=["forked", "started anew"])
def test_a_run_that_ends_takes_its_process_along(fork, own_decoder, slow_picture, picture):
    decoder = own_decoder(fork=fork)
    # What starts the others has started.
    decoder.image(picture, name="reference")
    before, stop = children(), threading.Event()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(decoder.image, slow_picture, name="reference", stop=stop)
        started_by(before, 2 if fork else 1)
        stop.set()
        with pytest.raises(StoppedError):
            run.result(PATIENCE)
    wait_until(lambda: children() <= before)
    with pytest.raises(StoppedError):
        decoder.image(slow_picture, name="reference", stop=stop)


def test_closing_ends_all_processes(own_decoder, slow_picture):
    before = children()
    decoder = own_decoder()
    with ThreadPoolExecutor(2) as pool:
        runs = [pool.submit(decoder.image, slow_picture, name="reference") for _ in range(2)]
        started_by(before, 5)
        decoder.close()
        for run in runs:
            with pytest.raises(StoppedError):
                run.result(PATIENCE)
    wait_until(lambda: children() <= before)
    with pytest.raises(StoppedError):
        decoder.image(slow_picture, name="reference")


def test_no_process_outlives_the_page(slow_picture):
    code = (
        "import sys, threading; from pathlib import Path; from refgc.page.service.decoding import Decoder\n"
        "decoder = Decoder()\n"
        "threading.Thread(target=decoder.image, args=(Path(sys.argv[1]),), kwargs={'name': 'x'}, daemon=True).start()\n"
        "sys.stdin.read()"
    )
    before = children()
    page = subprocess.Popen([sys.executable, "-c", code, str(slow_picture)], stdin=subprocess.PIPE)
    below = started_by(before, 4) - {psutil.Process(page.pid)}
    page.kill()
    page.communicate()
    _, alive = psutil.wait_procs(below, timeout=PATIENCE)
    assert not alive


def test_a_process_that_is_killed_is_answered_by_a_sentence(own_decoder, slow_picture, picture):
    decoder = own_decoder()
    decoder.image(picture, name="reference")
    before = children()
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(decoder.image, slow_picture, name="reference")
        for process in started_by(before, 2):
            process.kill()
        sentence = refusal(lambda: run.result(PATIENCE))
    assert sentence.startswith("The reference 'slow.ppm' cannot be decoded, its decoder failed on it; save it again")
    # Also the process that forks the others may be lost.
    for process in before & children():
        if "decode_child" in " ".join(process.cmdline()):
            process.kill()
            process.wait(PATIENCE)
    PILImage.fromarray(noise(48, 64)).save(picture)
    assert decoder.image(picture, name="reference").size == (64, 48)


@pytest.mark.skipif(sys.platform != "linux", reason="looks into /proc")
def test_a_process_sees_no_secret_and_no_other_file(own_decoder, slow_picture, monkeypatch):
    monkeypatch.setenv("REFGC_TEST_SECRET", "hidden")
    with tempfile.NamedTemporaryFile() as other:
        os.set_inheritable(other.fileno(), True)
        before = children()
        decoder = own_decoder()
        with ThreadPoolExecutor(1) as pool:
            stop = threading.Event()
            run = pool.submit(decoder.image, slow_picture, name="reference", stop=stop)
            wait_until(lambda: any(opens(process, slow_picture) for process in children() - before))
            for process in children() - before:
                assert "REFGC_TEST_SECRET" not in process.environ()
                assert not opens(process, Path(other.name))
                assert process.net_connections("inet") == []
            (decoding,) = (process for process in children() - before if opens(process, slow_picture))
            # The null device three times, its connection, the file, and by what its end is noticed.
            assert decoding.num_fds() <= 7
            stop.set()
            with pytest.raises(StoppedError):
                run.result(PATIENCE)


def opens(process: psutil.Process, path: Path) -> bool:
    """Whether a process has a file open."""
    try:
        return str(path) in {file.path for file in process.open_files()}
    except psutil.Error:
        return False


def test_a_process_decodes_one_file_only(own_decoder, slow_picture):
    most = len(children()) + 1
    decoder = own_decoder(cache_bytes=0)
    seen: list[psutil.Process] = []
    for _ in range(2):
        stop = threading.Event()
        with ThreadPoolExecutor(1) as pool:
            run = pool.submit(decoder.image, slow_picture, name="reference", stop=stop)
            wait_until(lambda: any(opens(process, slow_picture) for process in children()))
            seen += [process for process in children() if opens(process, slow_picture)]
            stop.set()
            with pytest.raises(StoppedError):
                run.result(PATIENCE)
        # The process that forks the others stays.
        wait_until(lambda: len(children()) <= most)
    assert len(set(seen)) == 2


def test_so_many_decode_at_a_time(own_decoder, slow_picture):
    decoder = own_decoder(at_once=1)
    before, stop = children(), threading.Event()
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(decoder.image, slow_picture, name="reference", stop=stop) for _ in range(3)]
        started_by(before, 2)
        time.sleep(0.3)
        assert sum(opens(process, slow_picture) for process in children()) <= 1
        stop.set()
        for run in runs:
            with pytest.raises(StoppedError):
                run.result(PATIENCE)


# --- what is kept ---------------------------------------------------------------------------------------------------
def test_a_file_is_decoded_once(decoder, picture):
    assert decoder.image(picture, name="reference") is decoder.image(picture, name="generated picture")
    mask = decoder.mask(picture, size=(64, 48), name="mask")
    assert decoder.mask(picture, size=(64, 48), name="mask") is mask
    assert decoder.mask(picture, size=(128, 96), name="mask").size == (128, 96)


def test_a_file_that_nobody_will_ask_for_again_is_not_kept(decoder, picture):
    first = decoder.image(picture, name="reference", keep=False)
    second = decoder.image(picture, name="reference")
    assert second is not first
    assert decoder.image(picture, name="reference", keep=False) is second


def test_a_changed_file_is_decoded_again(decoder, picture):
    first = decoder.image(picture, name="reference")
    status = picture.stat()
    content = encoded(PILImage.fromarray(quadrants()[::-1]), "BMP")
    assert len(content) == status.st_size
    picture.write_bytes(content)
    os.utime(picture, ns=(status.st_atime_ns, status.st_mtime_ns))
    time.sleep(0.06)
    second = decoder.image(picture, name="reference")
    np.testing.assert_array_equal(second.pixels, first.pixels[::-1])


def test_a_deleted_file_is_not_given_again(decoder, picture):
    decoder.image(picture, name="reference")
    picture.unlink()
    assert "cannot be found" in refusal(lambda: decoder.image(picture, name="reference"))


def test_what_is_kept_is_bounded(own_decoder, tmp_path):
    size = 50 * 40 * 3
    decoder = own_decoder(cache_bytes=2 * size)
    paths = [tmp_path / f"{number}.png" for number in range(3)]
    for path in paths:
        PILImage.new("RGB", (50, 40), "red").save(path)
    PILImage.new("RGB", (100, 80), "red").save(tmp_path / "large.png")
    time.sleep(0.06)
    first, second = (decoder.image(path, name="reference") for path in paths[:2])
    large = decoder.image(tmp_path / "large.png", name="reference")
    assert decoder.image(tmp_path / "large.png", name="reference") is not large
    assert decoder.image(paths[0], name="reference") is first
    decoder.image(paths[2], name="reference")
    # The second was unused for longest.
    assert decoder.image(paths[0], name="reference") is first
    assert decoder.image(paths[1], name="reference") is not second
