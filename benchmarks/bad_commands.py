"""Bad lists, bad options and damaged pictures through the command: how it answers, how fast, with how much memory.

    python -m benchmarks.bad_commands [--damaged FILE.py] [--every N]

Each case runs in a process of its own, forked from one that has imported everything, in a folder of its own. A case is
answered well when the command ends with one sentence and status 2, or, for a damaged picture that can be read, with
status 0 and a picture of the right size. `--damaged` names a Python file whose function `corpus()` yields the damaged
pictures as (class, file name, content, expectation), with the expectation "ok", "refuse" or "any".

The figures go into `benchmarks/security.json` under "command".
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import os
import platform
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import PIL.Image

from refgc.cli.main import main
from refgc.imaging.files import MEGABYTE, write_whole
from tests.support.bad_lists import BadCall, bad_calls, furnish, refine_one
from tests.support.command import ENVIRONMENT

FIGURES = Path(__file__).with_name("security.json")
LONGEST_SECONDS = 20.0
MOST_BYTES = 1500 * MEGABYTE
# Everything that the command imports late, so that a fork finds it in memory.
LATE = ("cv2", "refgc.batch", "refgc.correspondence.engine", "refgc.diptych.preview", "refgc.outputs.preview")


@dataclass(frozen=True, slots=True)
class Answer:
    """How one case ended; `fault` is empty where it was answered well."""

    name: str
    seconds: float
    memory: int
    fault: str


def run_cases(every: int, damaged: Path | None) -> dict[str, Any]:
    """Runs all cases, and returns the figures."""
    for name in LATE:
        importlib.import_module(name)
    calls = list(bad_calls())[::every]
    figures: dict[str, Any] = {"lists and options": summary([answer_to_call(call) for call in calls])}
    if damaged is not None:
        pictures = list(damaged_pictures(damaged))[::every]
        figures["damaged pictures"] = summary([answer_to_picture(*picture) for picture in pictures])
    return {
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}",
        "limits": {"seconds": LONGEST_SECONDS, "megabytes": MOST_BYTES // MEGABYTE},
        **figures,
    }


def answer_to_call(call: BadCall) -> Answer:
    """Runs a bad list or a bad option."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        furnish(folder)
        status, out, err, seconds, memory = run_forked(call.within(folder), {**ENVIRONMENT, **call.environment}, folder)
    fault = "" if status == 2 and is_one_sentence(err) else f"status {status}, stderr {err[-300:]!r}"
    if call.is_line and not out.endswith("0 refined, 2 finished before, 1 without a result.\n"):
        fault += f", the list stopped: {out[-300:]!r}"
    return judged(call.name, seconds, memory, fault)


def answer_to_picture(name: str, content: bytes, expected: str) -> Answer:
    """Runs a refinement whose reference is a damaged picture."""
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        furnish(folder)
        (folder / name).write_bytes(content)
        call = BadCall(name, (*refine_one(reference=f"FOLDER/{name}"), "--scale", "1"))
        status, out, err, seconds, memory = run_forked(call.within(folder), ENVIRONMENT, folder)
        fault = ""
        if status == 0:
            with PIL.Image.open(folder / "out" / "new.png") as picture:
                right = picture.size == (16, 16) and not err
            fault = "" if right and expected != "refuse" else f"a picture, stderr {err[-300:]!r}"
        elif status != 2 or expected == "ok" or out or not is_one_sentence(err):
            fault = f"status {status}, stdout {out[-100:]!r}, stderr {err[-300:]!r}"
    return judged(name, seconds, memory, fault)


def judged(name: str, seconds: float, memory: int, fault: str) -> Answer:
    if seconds > LONGEST_SECONDS:
        fault += f", {seconds:.0f} seconds"
    if memory > MOST_BYTES:
        fault += f", {memory / MEGABYTE:.0f} MB"
    return Answer(name, seconds, memory, fault.removeprefix(", "))


def is_one_sentence(text: str) -> bool:
    return text.count("\n") == 1 and text.endswith(".\n") and "Traceback" not in text and "RefGC failed" not in text


def run_forked(arguments: list[str], environment: dict[str, str], folder: Path) -> tuple[int, str, str, float, int]:
    """Runs the command in a child; returns its status, stdout, stderr, seconds, and most bytes of memory."""
    out, err = folder / "stdout.txt", folder / "stderr.txt"
    began = time.perf_counter()
    child = os.fork()
    if not child:
        for path, number in ((out, 1), (err, 2)):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT), number)
        os.environ.clear()
        os.environ.update(environment)
        # Ends what hangs, with a signal that nobody handles.
        signal.alarm(round(3 * LONGEST_SECONDS))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        status = 70
        try:
            main(arguments)
        except SystemExit as ended:
            status = ended.code if isinstance(ended.code, int) else 1
        finally:
            sys.stderr.flush()
            os._exit(status)
    _, code, used = os.wait4(child, 0)
    texts = [path.read_text(encoding="utf-8", errors="backslashreplace") for path in (out, err)]
    seconds = time.perf_counter() - began
    return os.waitstatus_to_exitcode(code), texts[0], texts[1], seconds, used.ru_maxrss * 1024


def damaged_pictures(file: Path) -> Iterator[tuple[str, bytes, str]]:
    """Those of a file with a function `corpus`."""
    named = importlib.util.spec_from_file_location("damaged", file)
    assert named is not None
    assert named.loader is not None
    module = importlib.util.module_from_spec(named)
    named.loader.exec_module(module)
    for _, name, content, expected in module.corpus():
        yield name, content, expected


def summary(answers: list[Answer]) -> dict[str, Any]:
    """Figures of many answers."""
    slowest = max(answers, key=lambda answer: answer.seconds)
    largest = max(answers, key=lambda answer: answer.memory)
    return {
        "cases": len(answers),
        "answered well": sum(not answer.fault for answer in answers),
        "faults": {answer.name: answer.fault for answer in answers if answer.fault},
        "slowest": {"name": slowest.name, "seconds": round(slowest.seconds, 2)},
        "most memory": {"name": largest.name, "megabytes": round(largest.memory / MEGABYTE)},
    }


def record(key: str, figures: dict[str, Any]) -> None:
    """Puts the figures into the file, beside those of other benchmarks."""
    known = json.loads(FIGURES.read_text(encoding="utf-8")) if FIGURES.exists() else {}
    write_whole(FIGURES, (json.dumps({**known, key: figures}, indent=2, sort_keys=True) + "\n").encode())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--damaged", type=Path, help="a Python file with a function corpus()")
    parser.add_argument("--every", type=int, default=1, metavar="N", help="only each Nth case, for a try")
    given = parser.parse_args()
    found = run_cases(given.every, given.damaged)
    print(json.dumps(found, indent=2))
    if given.every == 1:
        record("command", found)
