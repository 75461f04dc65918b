"""The options that `refgc refine` and `refgc watch` share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

EngineChoice = Literal["auto", "correspondence", "diffusion"]
SurroundingsChoice = Literal["plain", "fast", "best"]
ProfileChoice = Literal["srgb", "display-p3"]
LayersChoice = Literal["ora", "psd"]
# As suffixes of files.
FormatChoice = Literal["png", "jpeg", "webp"]

# Stands for a standard stream. A path is compared by identity, since "./-", the file of that name, becomes equal to it.
STREAM = Path("-")


def path_or_stream(text: str) -> Path:
    """What an argument of the command line stands for; a file called "-" is given as "./-"."""
    return STREAM if text == "-" else Path(text)


def is_stream(path: Path | None) -> bool:
    """Whether an argument, from `path_or_stream`, stands for a standard stream."""
    return path is STREAM


Scale = Annotated[int, typer.Option(help="Output size over generated size: 1, 2 or 4.")]
EngineName = Annotated[
    EngineChoice,
    typer.Option(
        help="correspondence needs no weights; diffusion takes the base that REFGC_BASE names, such as klein or "
        "kontext; auto takes the best that `refgc doctor` finds ready."
    ),
]
ReferenceMask = Annotated[
    list[Path] | None,
    typer.Option(
        parser=path_or_stream,
        metavar="<path>",
        help="The object in the first reference, white on black; found when not given. Or once for each reference.",
    ),
]
ObjectName = Annotated[str, typer.Option("--object", help="The object in words.")]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Strength = Annotated[
    float, typer.Option(help="How much of the reference to bring in, from 0 (plain enlargement) to 1.")
]
SurroundingsName = Annotated[
    SurroundingsChoice,
    typer.Option(
        help="How what lies around the object is enlarged: plain, or drawn by a network that "
        "`refgc setup --surroundings` gets, fast or best. docs/surroundings.md says what they gain."
    ),
]
Profile = Annotated[
    ProfileChoice, typer.Option(help="Colour space of the refined picture's file; its profile is embedded.")
]
Quality = Annotated[
    int | None, typer.Option(help="Of a JPEG or WebP, from 1 to 100; 95 when not given.", show_default=False)
]
Bits = Annotated[int, typer.Option(help="Bits of each channel: 8, or 16 in a PNG.")]
Speed = Annotated[
    str | None,
    typer.Option(
        help="How the diffusion engine is made faster, such as compile,step-cache=0.1; also REFGC_SPEED. "
        "docs/diffusion.md lists them."
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print nothing but errors.")]
