"""A small dataset whose test split can be evaluated, and methods that are real commands."""

from __future__ import annotations

import sys
from pathlib import Path

from refgc.dataset.split import split_dataset
from tests.support.tiny_dataset import make_dataset

# Copies the generated picture to the output at the size that is asked for, and notes its run in a file.
SCRIPT = """
import sys
from pathlib import Path
from PIL import Image
generated, output, side, fails = sys.argv[1:5]
log = Path(__file__).with_name("log")
with open(log, "a") as file:
    file.write("run\\n")
if fails and sum(1 for _ in open(log)) % int(fails) == 0:
    sys.exit("out of luck")
Image.open(generated).resize((int(side), int(side))).save(output)
"""


def evaluated_set(root: Path, objects: int = 3) -> Path:
    """Objects with two triplets each, all in the test split."""
    make_dataset(root, objects=objects)
    split_dataset(root, test=1, validation=0)
    return root


def copying(folder: Path, *, side: int = 64, fails: int = 0, label: str = "copy") -> str:
    """A method that is a command; `fails` lets each so-many-th run fail."""
    script = folder / "copy.py"
    script.write_text(SCRIPT)
    words = f'"{sys.executable}" "{script}" {{generated}} {{output}} {side} "{fails or ""}"'
    return f"{label}=command:{words}"


def runs_of(folder: Path) -> int:
    """How often the command was run."""
    log = folder / "log"
    return len(log.read_text().splitlines()) if log.exists() else 0
