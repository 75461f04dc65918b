"""Bad lists of pairs and bad options for the command; each is to be answered by one sentence and status 2.

`benchmarks.bad_commands` runs all of them, and the tests a fixed tenth.
"""

from __future__ import annotations

import codecs
import json
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image as PILImage

from refgc.pairs import MAX_LINE, MAX_LIST_BYTES, MAX_PAIRS

GOOD = {"reference": "reference.png", "generated": "generated.png"}


@dataclass(frozen=True, slots=True)
class BadCall:
    """One call of the command.

    Attributes:
        name: of the case.
        arguments: of the command; FOLDER stands for the folder that `furnish` has filled.
        environment: variables to be set.
        prepare: makes what only this case needs in the folder.
        is_line: whether it is a list in which one line is bad, between two good ones.
    """

    name: str
    arguments: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)
    prepare: Callable[[Path], None] = lambda folder: None
    is_line: bool = False

    def within(self, folder: Path) -> list[str]:
        """Prepares the folder, and gives the arguments."""
        self.prepare(folder)
        return [argument.replace("FOLDER", str(folder)) for argument in self.arguments]


def furnish(folder: Path) -> None:
    """Fills an empty folder with a pair and with files, links and folders that cannot be used."""
    rng = np.random.default_rng(5)
    PILImage.fromarray(rng.integers(0, 255, (48, 48, 3), np.uint8)).save(folder / "reference.png")
    PILImage.fromarray(rng.integers(0, 255, (16, 16, 3), np.uint8)).save(folder / "generated.png")
    PILImage.new("L", (16, 16)).save(folder / "black.png")
    PILImage.new("L", (90, 30), 255).save(folder / "wide.png")
    PILImage.new("RGB", (1, 1)).save(folder / "dot.png")
    (folder / "cut.png").write_bytes((folder / "reference.png").read_bytes()[:400])
    (folder / "text.png").write_text("this is no picture\n")
    (folder / "empty.png").touch()
    (folder / "loop.png").symlink_to(folder / "pool.png")
    (folder / "pool.png").symlink_to(folder / "loop.png")
    os.mkfifo(folder / "pipe.png")
    out, elsewhere = folder / "out", folder / "elsewhere"
    for made in (out, elsewhere, folder / "none", out / "folder.png"):
        made.mkdir()
    (out / "link").symlink_to(elsewhere)
    (out / "loop.png").symlink_to(out / "loop.png")
    (out / "file.png").write_text("in the way")
    # The results of the good lines, so that they count as finished and take no time.
    for name in ("before.png", "after.png"):
        (out / name).write_text("an earlier result")


def bad_lines() -> dict[str, bytes]:
    """Lines of a .jsonl list of which none can be used, by their names."""
    broken = {
        "a list": b"[1]", "null": b"null", "true": b"true", "a text": b'"text"', "a number": b"12",
        "infinity": b"Infinity", "a brace": b"{", "a dash": b"-", "nothing given": b"{}", "two objects": b"{} {}",
        "single quotes": b"{'reference': 'reference.png'}", "a comment": b"// reference.png, generated.png",
        "a comma too many": b'{"reference": "reference.png", "generated": "generated.png",}',
        "a comma too few": b'{"reference": "reference.png" "generated": "generated.png"}',
        "only a reference": b'{"reference": "reference.png"}', "only a generated": b'{"generated": "generated.png"}',
        "a key twice": b'{"reference": "a.png", "reference": "reference.png", "generated": "generated.png"}',
        "nested deeply": b"[" * 9000 + b"]" * 9000,
        "objects nested deeply": b'{"reference":' * 1200 + b"1" + b"}" * 1200,
        "nested and cut off": b'{"reference":[' * 900,
        "a NUL": b'{"reference": "reference\0.png", "generated": "generated.png"}',
        "only NULs": b"\0" * 500,
        "a tab in a text": b'{"reference": "refer\tence.png", "generated": "generated.png"}',
        "not UTF-8": b'{"reference": "caf\xe9.png", "generated": "generated.png"}',
        "an encoded surrogate": b'{"reference": "\xed\xa0\x80.png", "generated": "generated.png"}',
        "overlong UTF-8": b'{"reference": "\xc0\xaf.png", "generated": "generated.png"}',
        "a mark of byte order": codecs.BOM_UTF8 + b'{"reference": "reference.png", "generated": "generated.png"}',
        "a long line": b'{"reference": "' + b"x" * MAX_LINE + b'", "generated": "generated.png"}',
        "a line of a megabyte": b" " * 10 + b"9" * 1_000_000,
        "a number of many digits": b'{"reference": "reference.png", "generated": "generated.png", "seed": '
        + b"9" * 5000 + b"}",
    }  # fmt: skip
    return broken | {name: json.dumps(GOOD | change).encode() for name, change in bad_values().items()}


def bad_values() -> dict[str, dict[str, object]]:
    """What a line may say instead, by the names of the cases."""
    long_name, long_path = "x" * 300 + ".png", "x/" * 2500 + "x.png"
    columns: dict[str, list[object]] = {
        "reference": [
            3, None, [], {}, "", True, "absent.png", "none", "loop.png", "loop.png/x.png", "/dev/zero", "pipe.png",
            "text.png", "empty.png", "cut.png", "dot.png", "https://example.org/a.png", "data:image/png;base64,AAAA",
            long_name, long_path, "a\0b.png", "\ud800.png", "\udc80.png", "/proc/self/mem", "/proc/self/environ",
            "\x1b[31mred.png", "reference.png/x.png",
        ],
        "generated": [4, None, "absent.png", "none", "loop.png", "dot.png", "a\0b.png", "\udfff.png", long_path],
        "reference_mask": ["absent.png", "wide.png", "text.png", "loop.png", 7],
        "generated_mask": ["black.png", "absent.png", "wide.png", "none"],
        "output": [
            "../out.png", "a/../../out.png", "/tmp/out.png", "link/out.png", "link/../../out.png", ".", "..", "/",
            "x", "x.txt", ".png", 5, long_name, long_path, "a\0b.png", "\ud83d.png", "loop.png",
            "loop.png/x.png", "folder.png", "file.png/x.png",
        ],
        "scale": [True, False, 3, 0, -4, float("nan"), float("inf"), 1e9, "four", [4], {"to": 4}, 2.5, "1_0", 10**40],
        "seed": [True, -1, 2**63, 1.5, "x", float("inf"), [0], 10**4000],
        "strength": [True, -0.1, 1.01, float("nan"), float("inf"), float("-inf"), "much", {}],
        "surroundings": ["lovely", 5, True, ["fast"]],
        "object": [5, " ", "a\nb", "x" * 300, "\x1b[31m", "\ud800", ["cup"]],
        "colour": ["red"],
        "\ud800": [1],
    }  # fmt: skip
    return {
        f"{column} {number}": {"output": f"{column}-{number}.png".replace("\ud800", "half"), column: value}
        for column, values in columns.items()
        for number, value in enumerate(values)
    }


CSV_HEADER = b"reference,generated,output,scale,seed,strength"
CSV_LINES = {
    "too many cells": b"reference.png,generated.png,,,,,,,,",
    "a quote left open": b'"reference.png,generated.png',
    "a quote left open at the end": b'reference.png,"generated.png',
    "text after a quote": b'"reference"x.png,generated.png',
    "only a quote": b'"',
    "a NUL": b"reference\0.png,generated.png",
    "not UTF-8": b"caf\xe9.png,generated.png",
    "half a character": b"\xed\xb0\x80.png,generated.png",
    "a return in a line": b"reference.png,generated\r.png,",
    "no generated": b"reference.png",
    "no reference": b",generated.png",
    "scale in words": b"reference.png,generated.png,,four",
    "scale true": b"reference.png,generated.png,,true",
    "seed half": b"reference.png,generated.png,,,0.5",
    "seed of many digits": b"reference.png,generated.png,,," + b"1" * 5000,
    "strength two": b"reference.png,generated.png,two.png,,,2",
    "strength no number": b"reference.png,generated.png,nan.png,,,nan",
    "a formula": b"=cmd|'/C calc'!A0,generated.png,calc.png",
    "output outside": b"reference.png,generated.png,../out.png",
    "output with a semicolon": b"reference.png;generated.png",
    "a long line": b"x" * (MAX_LINE + 1) + b",generated.png",
}


def with_lines(name: str, lines: Mapping[str, bytes]) -> bytes:
    """A list of that name, of bad lines between two good ones."""
    if name.endswith(".csv"):
        good = b"reference.png,generated.png,before.png", b"reference.png,generated.png,after.png"
        return b"\n".join((CSV_HEADER, good[0], *lines.values(), good[1], b""))
    first, last = (json.dumps(GOOD | {"output": output}).encode() for output in ("before.png", "after.png"))
    return b"\n".join((first, *lines.values(), last, b""))


def a_list(name: str, content: bytes) -> Callable[[Path], None]:
    """What writes it."""

    def prepare(folder: Path) -> None:
        (folder / name).write_bytes(content)

    return prepare


def refine_list(source: str, *more: str) -> tuple[str, ...]:
    return ("refine", "--pairs", f"FOLDER/{source}", "--output", "FOLDER/out", "--scale", "1", *more)


def refine_one(**changed: str | None) -> tuple[str, ...]:
    """`refgc refine` on the pair, with some options changed, or left out where they are None."""
    options: dict[str, str | None] = {
        "reference": "FOLDER/reference.png", "generated": "FOLDER/generated.png", "output": "FOLDER/out/new.png",
        **changed,
    }  # fmt: skip
    given = {name.replace("_", "-"): value for name, value in options.items() if value is not None}
    return ("refine", *(word for name, value in given.items() for word in (f"--{name}", value)))


def preview(**changed: str) -> tuple[str, ...]:
    options = {"reference": "FOLDER/reference.png", "scene": "FOLDER/wide.png", "output": "FOLDER/made", **changed}
    return ("preview", *(word for name, value in options.items() for word in (f"--{name.replace('_', '-')}", value)))


def bad_calls() -> Iterator[BadCall]:
    """All of them, always in the same order."""
    for kind, lines in (("jsonl", bad_lines()), ("csv", CSV_LINES)):
        for name, line in lines.items():
            prepare = a_list(f"pairs.{kind}", with_lines(f"pairs.{kind}", {name: line}))
            yield BadCall(f"{kind} line: {name}", refine_list(f"pairs.{kind}"), prepare=prepare, is_line=True)
    yield from bad_lists()
    for name, arguments in bad_options().items():
        yield BadCall(f"option: {name}", arguments)
    for variable, value in BAD_VARIABLES:
        yield BadCall(f"variable: {variable}={value[:20]}", refine_one(), {variable: value})


def bad_lists() -> Iterator[BadCall]:
    """Lists and folders that cannot be used as a whole."""
    contents = {
        "empty.csv": b"", "blank.csv": b"\n \n\n", "only-a-header.csv": CSV_HEADER + b"\n", "blank.jsonl": b"\n\n",
        "empty.jsonl": b"", "unknown-column.csv": b"reference,generated,colour\na,b,c\n",
        "no-generated.csv": b"reference\na\n", "column-twice.csv": b"reference,generated,reference\na,b,c\n",
        "semicolons.csv": b"reference;generated\na;b\n", "latin-header.csv": b"r\xe9f\xe9rence,generated\na,b\n",
        "utf-16.csv": "reference,generated\na,b\n".encode("utf-16"), "utf-16.jsonl": json.dumps(GOOD).encode("utf-16"),
        "nul-header.csv": b"reference\0,generated\na,b\n", "long-header.csv": b"x" * 1_000_000 + b"\na,b\n",
        "open-header.csv": b'"reference,generated\na,b\n', "returns.csv": b"reference,generated\ra,b\r",
        "json.csv": json.dumps(GOOD).encode(), "list.txt": b"a b\n", "list": b"a b\n",
        "zeros.csv": bytes(100_000), "zeros.jsonl": bytes(100_000), "picture.csv": b"\x89PNG\r\n\x1a\n" + bytes(1000),
        "many.jsonl": (json.dumps(GOOD).encode() + b"\n") * (MAX_PAIRS + 1),
        "one-place.jsonl": (json.dumps(GOOD | {"output": "same.png"}).encode() + b"\n") * 2,
        "over-an-input.jsonl": json.dumps(GOOD | {"reference": "out/file.png", "output": "file.png"}).encode(),
    }  # fmt: skip
    for name, content in contents.items():
        yield BadCall(f"list: {name}", refine_list(name), prepare=a_list(name, content))
    good = a_list("pairs.jsonl", json.dumps(GOOD).encode())
    yield BadCall("list: too large", refine_list("large.csv"), prepare=_sparse("large.csv", MAX_LIST_BYTES + 1))
    for name in ("absent.csv", "none", "loop.png", "pipe.png", "/dev/null", "reference.png", "reference.png/x.csv"):
        yield BadCall(f"list: {name}", refine_list(name))
    yield BadCall("list: a folder half filled", refine_list("pairs"), prepare=_half_filled)
    for option, value in (
        ("--output", "FOLDER/text.png"), ("--output", "FOLDER/loop.png"), ("--output", "FOLDER/loop.png/out"),
        ("--report", "FOLDER/text.png"), ("--stages", "FOLDER/loop.png"), ("--report", "FOLDER/" + "x" * 300),
        ("--reference", "FOLDER/reference.png"), ("--output", "/proc/out"), ("--scale", "3"), ("--seed", "-1"),
    ):  # fmt: skip
        yield BadCall(f"list with {option} {value[:30]}", refine_list("pairs.jsonl", option, value), prepare=good)


def bad_options() -> dict[str, tuple[str, ...]]:
    """Arguments that cannot be used, by the names of the cases."""
    long = "x" * 100_000
    values: dict[str, list[str | None]] = {
        "reference": [None, "", "FOLDER", "FOLDER/loop.png", "FOLDER/pipe.png", "/dev/zero", "http://a/b.png", long],
        "generated": [None, "FOLDER/absent.png", "FOLDER/loop.png", "FOLDER/dot.png", "\x1b[31m.png"],
        "output": [
            None, "", "FOLDER/out", "FOLDER/x", "FOLDER/absent/x.png", "FOLDER/loop.png", "FOLDER/loop.png/x.png",
            "FOLDER/reference.png", "FOLDER/text.png/x.png", f"FOLDER/{'x' * 300}.png", long + ".png",
        ],
        "reference_mask": ["FOLDER/wide.png", "FOLDER/absent.png", "FOLDER/loop.png"],
        "generated_mask": ["FOLDER/black.png", "FOLDER/text.png", "FOLDER/none"],
        "scale": ["3", "0", "-1", "four", "", "1.5", "true", "nan", "9" * 5000, "0x4", "1e3"],
        "seed": ["-1", "1.5", "", "x", str(2**63), "9" * 5000, "true", "inf"],
        "strength": ["-1", "1.1", "nan", "inf", "-inf", "much", "", "1e999", "true"],
        "surroundings": ["lovely", "", "Best"],
        "engine": ["magic", "", "Correspondence"],
        "object": ["", " ", "a\nb", "x" * 300, "\x1b[31m", "\udcff"],
        "report": ["FOLDER", "/dev/null", "FOLDER/absent/x.json", "FOLDER/out/new.png", "FOLDER/loop.png"],
        "stages": ["FOLDER/text.png", "FOLDER/loop.png", "FOLDER/text.png/x"],
        "speed": ["faster", "step-cache=2", "step-cache=much", "quantization=1", "no-step-cache", "fuse=1", long],
        "pairs": ["FOLDER"],
        "refernce": ["x.png"],
        "allow_outside": ["yes"],
    }  # fmt: skip
    calls = {
        f"{option} {number}": refine_one(**{option: value})
        for option, given in values.items()
        for number, value in enumerate(given)
    }
    previews: dict[str, list[str]] = {
        "artifact": ["texture-loss", "texture-loss=2", "texture-loss=nan", "rust=1", "=", "texture-loss=0.5=1", ""],
        "factor": ["3", "0", "two", "9" * 5000],
        "scene": ["FOLDER/absent.png", "FOLDER/loop.png", "FOLDER/dot.png"],
        "output": ["FOLDER/text.png", "FOLDER/loop.png", "FOLDER/out/file.png/x"],
        "caption": ["", "a\nb"],
        "generator": ["magic"],
        "seed": ["-1"],
    }
    calls |= {
        f"preview {option} {number}": preview(**{option: value})
        for option, given in previews.items()
        for number, value in enumerate(given)
    }
    return calls | {
        "nothing": (), "unknown command": ("refin",), "a long command": (long,), "no value": ("refine", "--output"),
        "an argument too many": ("doctor", "extra"), "unknown option": ("doctor", "--verbose"),
        "port 0": ("page", "--port", "0"), "port in words": ("page", "--port", "http"),
        "port too high": ("page", "--port", "65536"),
    }  # fmt: skip


BAD_VARIABLES = (
    ("REFGC_DEVICE", "tpu"), ("REFGC_MAX_WAITING", "9" * 5000), ("REFGC_KEEP_HOURS", "nan"), ("REFGC_MCP", "maybe"),
    ("REFGC_SPEED", "faster"), ("REFGC_DEBUG", "perhaps"),
)  # fmt: skip


def _sparse(name: str, size: int) -> Callable[[Path], None]:
    def prepare(folder: Path) -> None:
        with (folder / name).open("wb") as file:
            file.truncate(size)

    return prepare


def _half_filled(folder: Path) -> None:
    (folder / "pairs" / "half").mkdir(parents=True)
    (folder / "pairs" / "half" / "hrri.png").write_bytes((folder / "reference.png").read_bytes())
