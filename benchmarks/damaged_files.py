"""Damaged and malicious picture files through the intake, in this process's kind and in processes of their own.

usage: python -m benchmarks.damaged_files [--corpus FILE] [--json FILE]

Each file has to be answered by a picture or by one sentence, within 20 seconds and 1.5 GB of memory. What is read must
not depend on what lay in memory before: each file is read twice, with two fillings of fresh memory (where the C library
is glibc). The exit status is 1 where a file failed. With --corpus, files of another Python file are taken, which has a
function `corpus` that yields kind, name, bytes and expectation ("ok", "refuse" or "any"); nothing is written then
unless --json is given. The wait for a process of its own is measured as well, on a JPEG of 1024x1024 pixels.
"""

import argparse
import hashlib
import importlib.util
import json
import os
import resource
import select
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image as PILImage

from refgc.errors import InputError
from refgc.imaging.image import Image, open_image
from refgc.page.service.decoding import MEMORY_BYTES, Decoder
from tests.support.damaged import DamagedFile, corpus

LONGEST_SECONDS = 20.0
MOST_MEGABYTES = 1500
# glibc fills fresh memory with the complement of this byte.
FILLINGS = ("17", "238")
FIGURES = Path(__file__).with_name("security.json")
ROUNDS = 15


@dataclass(frozen=True)
class Reading:
    """What became of one file."""

    outcome: str
    detail: str
    seconds: float


def digest(image: Image) -> str:
    """Names the pixels and the transparency."""
    alpha = b"" if image.alpha is None else image.alpha.values.tobytes()
    return hashlib.sha256(image.pixels.tobytes() + alpha).hexdigest()


def read(path: Path, opener: Callable[[Path], Image]) -> Reading:
    """Read one file; every error that is no sentence counts as a traceback."""
    start = time.perf_counter()
    try:
        outcome, detail = "picture", digest(opener(path))
    except InputError as error:
        outcome, detail = "refused", str(error)
    except Exception as error:
        outcome, detail = "traceback", repr(error)
    return Reading(outcome, detail, time.perf_counter() - start)


# ==== in one process, file after file
def work() -> None:
    """Read the files whose names arrive line by line; answer each by a line."""
    for line in sys.stdin:
        reading = read(Path(line.rstrip("\n")), lambda path: open_image(path, name="reference"))
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / (1024**2 if sys.platform == "darwin" else 1024)
        print(json.dumps([reading.outcome, reading.detail, reading.seconds, peak]), flush=True)


class Worker:
    """A process that reads file after file, started anew when one of them ends it or takes too long."""

    def __init__(self, filling: str) -> None:
        self.environment = os.environ | {"MALLOC_PERTURB_": filling}
        self.process = self.start()
        self.peak = 0.0

    def start(self) -> "subprocess.Popen[str]":
        """A fresh process."""
        command = (sys.executable, "-W", "ignore", "-m", "benchmarks.damaged_files", "--work")
        return subprocess.Popen(
            command, env=self.environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )

    def read(self, path: Path) -> Reading:
        """What becomes of a file."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{path}\n")
        ready, _, _ = select.select([self.process.stdout], [], [], LONGEST_SECONDS + 5)
        line = self.process.stdout.readline() if ready else ""
        if not line:
            self.process.kill()
            ended = self.process.wait()
            self.process = self.start()
            return Reading("crash" if ready else "hang", str(ended), LONGEST_SECONDS)
        outcome, detail, seconds, peak = json.loads(line)
        self.peak = max(self.peak, peak)
        return Reading(outcome, detail, seconds)


def faults_of(file: DamagedFile, reading: Reading) -> list[str]:
    """What is wrong with a reading."""
    faults = []
    if reading.outcome not in ("picture", "refused"):
        faults.append(f"{reading.outcome}: {reading.detail}")
    if reading.outcome == "refused" and ("\n" in reading.detail or not reading.detail.endswith(".")):
        faults.append("not one sentence")
    wanted = {"ok": "picture", "refuse": "refused"}.get(file.expected, reading.outcome)
    if reading.outcome != wanted:
        faults.append(f"is {reading.outcome}, not {wanted}: {reading.detail}")
    if reading.seconds > LONGEST_SECONDS:
        faults.append("took too long")
    return faults


def summary(readings: list[Reading]) -> dict[str, Any]:
    """Counts and times."""
    counts = Counter(reading.outcome for reading in readings)
    seconds = sorted(reading.seconds for reading in readings)
    return {
        "pictures": counts.pop("picture", 0),
        "refused": counts.pop("refused", 0),
        "failed": counts.total(),
        "seconds_median": round(statistics.median(seconds), 4),
        "seconds_slowest": round(seconds[-1], 2),
    }


def measured_intake(files: Iterator[DamagedFile]) -> tuple[dict[str, Any], list[str]]:
    """All files through the intake, both ways; the figures and what went wrong."""
    faults: list[str] = []
    in_process: list[Reading] = []
    apart: list[Reading] = []
    workers = [Worker(filling) for filling in FILLINGS]
    decoder = Decoder(cache_bytes=0)
    with tempfile.TemporaryDirectory() as folder:
        for number, file in enumerate(files):
            path = Path(folder, f"{number}")
            path.mkdir()
            path /= file.name.replace("/", "_")
            path.write_bytes(file.content)
            first, second = (worker.read(path) for worker in workers)
            alone = read(path, lambda path: decoder.image(path, name="reference"))
            path.unlink()
            in_process.append(first)
            apart.append(alone)
            found = [*faults_of(file, first), *(f"apart: {fault}" for fault in faults_of(file, alone))]
            if (first.outcome, first.detail) != (second.outcome, second.detail):
                found.append(f"depends on memory: {first.outcome}, {second.outcome}")
            if (first.outcome, first.detail) != (alone.outcome, alone.detail):
                found.append(f"differs apart: {first.detail} against {alone.detail}")
            for fault in found:
                faults.append(f"{file.kind}/{file.name}: {fault}")
                print(faults[-1], flush=True)
    decoder.close()
    peak = max(worker.peak for worker in workers)
    for worker in workers:
        worker.process.kill()
    if peak > MOST_MEGABYTES:
        faults.append(f"memory: {peak:.0f} MB")
    figures = {
        "files": len(in_process),
        "in_process": summary(in_process) | {"megabytes_peak": round(peak)},
        "own_process": summary(apart) | {"megabytes_limit": MEMORY_BYTES // 1_000_000},
        "faults": len(faults),
    }
    return figures, faults


# ==== the wait
def measured_wait() -> dict[str, float]:
    """How much longer a JPEG of 1024x1024 pixels takes in a process of its own, in milliseconds."""
    rng = np.random.default_rng(0)
    smooth = np.cumsum(rng.normal(0, 3, (1024, 1024, 3)), axis=1) + 128
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "picture.jpg")
        PILImage.fromarray(smooth.clip(0, 255).astype(np.uint8)).save(path, quality=92)
        decoder = Decoder(cache_bytes=0)
        kept = Decoder()
        ways: dict[str, Callable[[Path], Image]] = {
            "in_process_ms": lambda path: open_image(path, name="reference"),
            "own_process_ms": lambda path: decoder.image(path, name="reference"),
            "kept_ms": lambda path: kept.image(path, name="reference"),
        }
        figures = {}
        for name, way in ways.items():
            # The first starts what starts the others, and is long past when a visitor comes.
            way(path)
            figures[name] = round(statistics.median(read(path, way).seconds for _ in range(ROUNDS)) * 1000, 1)
        decoder.close()
        kept.close()
    figures["extra_ms"] = round(figures["own_process_ms"] - figures["in_process_ms"], 1)
    return figures


def files_of(source: Path) -> Iterator[DamagedFile]:
    """The files of another Python file."""
    spec = importlib.util.spec_from_file_location("other_damaged_files", source)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    for kind, name, content, expected in module.corpus():
        yield DamagedFile(kind, name, content, expected)


def main() -> None:
    """Measure, and write the figures beside those of other benchmarks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--corpus", type=Path)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.work:
        work()
        return
    intake, faults = measured_intake(files_of(arguments.corpus) if arguments.corpus else corpus())
    figures = {"intake": intake, "decoding_wait": measured_wait()}
    print(json.dumps(figures, indent=2))
    target = arguments.json or (None if arguments.corpus else FIGURES)
    if target:
        written = json.loads(target.read_text(encoding="utf-8")) if target.exists() else {}
        target.write_text(json.dumps(written | figures, indent=2) + "\n", encoding="utf-8")
    sys.exit(bool(faults))


if __name__ == "__main__":
    main()
