"""Makers of LRGIs: DipRefGC, the simulator, and other people's generators behind a command or a server."""

from __future__ import annotations

import base64
import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

import numpy as np

from refgc.dataset.external import SECONDS, ExternalProgram
from refgc.dataset.manifest import Generation, Pair, Task
from refgc.dataset.settings import ForeignTask, TripletSettings
from refgc.diptych.conditions import build, panel_size, right_panel
from refgc.diptych.prompts import diptych_prompt
from refgc.diptych.sources import check_can_run, missing_libraries, on_cpu
from refgc.errors import EngineError, InputError, quoted
from refgc.imaging.arrays import Size, bicubic, size_of
from refgc.imaging.image import ASPECT_TOLERANCE, MIN_SIDE, Image, Mask, encoded, mask_image, open_image
from refgc.machine import DEVICE
from refgc.simulator.artifacts import Strengths, simulate, smaller

if TYPE_CHECKING:
    from refgc.diptych.generator import DiptychGenerator

# From the weakest to the strongest of each simulated artifact; drawn uniformly. Chosen by hand, not fitted: half and
# twice the simulator's own defaults, and at most 1.
SPREAD = (0.5, 2.0)
# The largest answer of a server that is read, in bytes. A PNG of 4096x4096 pixels of noise takes 50 million.
MAX_ANSWER_BYTES = 64_000_000
# How often a server that is not reached or fails is asked in all.
ATTEMPTS = 3
GREY = 128
PLACEHOLDERS = ("hrri", "hrri_mask", "hrgt", "mask", "background", "object", "caption", "seed", "output")
GENERATOR_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,39}")


@dataclass(frozen=True, slots=True, eq=False)
class PairPictures:
    """The pictures of a pair.

    Attributes:
        hrri: the reference.
        hrri_mask: the object in it, of its size.
        hrgt: the ground truth.
        hrgt_mask: the object in it, of its size.
    """

    hrri: Image
    hrri_mask: Mask
    hrgt: Image
    hrgt_mask: Mask

    @property
    def lrgi_size(self) -> Size:
        """(width, height) of the pair's LRGI: a quarter of the HRGT's side, as in the paper.

        Raises:
            InputError: it would be too small for a picture.
        """
        size = smaller(self.hrgt.size)
        if min(size) < MIN_SIDE:
            width, height = self.hrgt.size
            raise InputError(f"The HRGT is {width}x{height} pixels, too small for an LRGI of a quarter of its side.")
        return size


@dataclass(frozen=True, slots=True, eq=False)
class DrawnLrgi:
    """An LRGI before it is checked.

    Attributes:
        picture: of `PairPictures.lrgi_size`; of another aspect ratio for customisation.
        panel: the same as the generator drew it; None for the simulator.
        made: how.
        outline_is_known: whether the object has the HRGT's outline by construction, so that it needs no check.
    """

    picture: Image
    panel: Image | None
    made: Generation
    outline_is_known: bool = False


class LrgiMaker(Protocol):
    """Draws LRGIs; deterministic where its generator is."""

    def draw(self, pair: Pair, pictures: PairPictures, seed: int) -> DrawnLrgi:
        """An LRGI of the pair's scene.

        Raises:
            InputError: this one cannot be drawn.
            EngineError: none can.
            OSError: the disk is full.
        """
        ...


class LrgiSource(Protocol):
    """How to get a maker: small and picklable, so that it can be sent to a worker."""

    @property
    def name(self) -> str:
        """The generator's name, in ids and rows."""
        ...

    @property
    def task(self) -> Task:
        """How the generator is used."""
        ...

    def check(self) -> None:
        """Refuses what can never draw, before anything is begun.

        Raises:
            InputError: an option cannot be used.
            EngineError: what it needs is not on this machine.
        """
        ...

    def open(self) -> LrgiMaker:
        """The maker, with its model loaded."""
        ...


@dataclass(frozen=True, slots=True)
class Simulator:
    """Draws the four artifacts onto the HRGT; needs no weights. See `refgc.simulator`."""

    name: str = "simulator"
    task: Literal["simulated"] = "simulated"

    def check(self) -> None:
        """It draws everywhere."""

    def open(self) -> Simulator:
        """Itself."""
        return self

    def draw(self, pair: Pair, pictures: PairPictures, seed: int) -> DrawnLrgi:
        """See `LrgiMaker.draw`; the same bytes on any processor. The artifacts lie on the object alone."""
        del pair
        strengths = drawn_strengths(seed)
        size = pictures.lrgi_size
        simulated = simulate(pictures.hrgt, pictures.hrgt_mask, size=size, strengths=strengths, seed=seed)
        made = Generation(
            generator=self.name, simulated=True, task=self.task, seed=seed, strengths=strengths.model_dump()
        )
        return DrawnLrgi(simulated.image, None, made, outline_is_known=True)


def drawn_strengths(seed: int) -> Strengths:
    """Strengths of the simulated artifacts, each drawn within `SPREAD` of its default; the same seed gives the same."""
    random = np.random.default_rng([seed, 4])
    # Rounded so that the same number is written and read everywhere.
    return Strengths(
        **{name: round(min(1.0, float(random.uniform(*SPREAD)) * default), 4) for name, default in Strengths()}
    )


@dataclass(frozen=True, slots=True)
class DipRefGC:
    """DipRefGC on FLUX.1-dev, as the environment names it; on a GPU only."""

    name: str = "DipRefGC"
    task: Literal["diptych"] = "diptych"

    def check(self) -> None:
        """Refuses a machine without the libraries or a GPU.

        Raises:
            EngineError: they are not here.
        """
        if on_cpu():
            raise EngineError(
                f"{DEVICE} is cpu, where the diptych generator takes hours for a picture; unset it on a machine with a "
                "GPU, or add --simulated."
            )
        if missing := missing_libraries():
            raise EngineError(missing)
        try:
            check_can_run()
        except EngineError as error:
            # The way that is open elsewhere, the CPU, is refused above.
            raise EngineError(
                "DipRefGC needs an NVIDIA GPU and a torch with CUDA, and there are none here; use a machine that has "
                "them, or add --simulated, or name another generator by --generator-command or --server."
            ) from error

    def open(self) -> DiptychMaker:
        """The maker, its weights on the GPU."""
        from refgc.diptych.preview import open_generator

        generator = open_generator()
        generator.prepare()
        return DiptychMaker(generator)


@dataclass(frozen=True, slots=True, eq=False)
class DiptychMaker:
    """DipRefGC, loaded."""

    generator: DiptychGenerator

    def draw(self, pair: Pair, pictures: PairPictures, seed: int) -> DrawnLrgi:
        """See `LrgiMaker.draw`: 512x512 a panel for a square HRGT, then bicubic, as in the paper."""
        conditions = build(
            pictures.hrri,
            pictures.hrri_mask,
            pictures.hrgt,
            pictures.hrgt_mask,
            panel=panel_size(pictures.hrgt.size),
        )
        drawn = self.generator.generate(conditions, pair.object_name, pair.caption, seed)
        panel = np.ascontiguousarray(right_panel(drawn.diptych, conditions.panels))
        sources = self.generator.sources
        weights = {
            "base": sources.base,
            "inpainting_controlnet": sources.inpainting_controlnet,
            "canny_controlnet": sources.canny_controlnet,
            **({} if sources.loras is None else {"loras": sources.loras}),
        }
        made = Generation(
            generator=DipRefGC().name,
            simulated=False,
            task="diptych",
            weights=weights,
            seed=seed,
            prompt=diptych_prompt(pair.object_name, pair.caption),
        )
        return DrawnLrgi(Image(bicubic(panel, pictures.lrgi_size)), Image(panel), made)


@dataclass(frozen=True, slots=True)
class Command:
    """Another generator behind a command, which is run once for each LRGI.

    Attributes:
        template: the command, its words split as a shell does but run without one. `{hrri}`, `{hrri_mask}`, `{hrgt}`,
            `{mask}` (the object in the HRGT) and `{background}` (the HRGT with the object cut out to grey) become PNG
            files, `{object}`, `{caption}` and `{seed}` words. It writes its picture to `{output}`, which ends in .png.
        name: of the generator.
        task: "compositing" draws into the HRGT's scene, in its frame; "customisation" into a scene of its own.
        seconds: how long it may take for one picture.
    """

    template: str
    name: str
    task: ForeignTask = "compositing"
    seconds: float = SECONDS

    @property
    def program(self) -> ExternalProgram:
        """What is run."""
        return ExternalProgram(self.template, "generator", PLACEHOLDERS, self.seconds)

    def check(self) -> None:
        """Refuses a name that cannot be used, and what `ExternalProgram.check` refuses.

        Raises:
            InputError: the name or the template cannot be used.
            EngineError: there is no such program.
        """
        _check_name(self.name)
        self.program.check()

    def open(self) -> Command:
        """Itself."""
        return self

    def draw(self, pair: Pair, pictures: PairPictures, seed: int) -> DrawnLrgi:
        """See `LrgiMaker.draw`."""
        with tempfile.TemporaryDirectory(prefix="refgc-") as name:
            folder = Path(name)
            output = folder / "output.png"
            files = {kind: folder / f"{kind}.png" for kind in ("hrri", "hrri_mask", "hrgt", "mask", "background")}
            for kind, content in _pictures_for(pictures).items():
                files[kind].write_bytes(content)
            values = {kind: str(path) for kind, path in files.items()} | _words_for(pair, seed)
            self.program.run({**values, "output": str(output)})
            if not output.is_file():
                raise InputError("The generator ended without a picture.")
            picture = open_image(output, name="generator's picture")
        return _foreign(picture, pictures, self.name, self.task, pair, seed)


@dataclass(frozen=True, slots=True)
class Server:
    """Another generator behind a web address.

    It gets a POST with a JSON object: `object`, `caption`, `seed`, `task`, and in base64 the PNG files `hrri`,
    `hrri_mask`, `hrgt`, `mask` (the object in the HRGT) and `background` (the HRGT with the object cut out to grey). It
    answers with the file of a picture.

    Attributes:
        address: beginning with http:// or https://.
        name: of the generator.
        task: see `Command`.
        seconds: how long it may take for one picture.
    """

    address: str
    name: str
    task: ForeignTask = "compositing"
    seconds: float = SECONDS

    def check(self) -> None:
        """Refuses what is no web address.

        Raises:
            InputError: it is none.
        """
        _check_name(self.name)
        if not re.fullmatch(r"https?://[^\s/]+\S*", self.address):
            raise InputError(f"The server {quoted(self.address)} is no web address; begin with http:// or https://.")

    def open(self) -> Server:
        """Itself."""
        return self

    def draw(self, pair: Pair, pictures: PairPictures, seed: int) -> DrawnLrgi:
        """See `LrgiMaker.draw`; a server that is not reached is none that can draw."""
        files = {kind: base64.b64encode(content).decode() for kind, content in _pictures_for(pictures).items()}
        content = self._ask({**_words_for(pair, seed), "seed": seed, "task": self.task, **files})
        with tempfile.TemporaryDirectory(prefix="refgc-") as folder:
            file = Path(folder) / "answer"
            file.write_bytes(content)
            try:
                picture = open_image(file, name="server's answer")
            except InputError as error:
                # Nobody else knows the file, which is gone.
                raise InputError(str(error).replace(f" {file.name!r}", "")) from error
        return _foreign(picture, pictures, self.name, self.task, pair, seed)

    def _ask(self, question: Mapping[str, Any]) -> bytes:
        import httpx

        for attempt in range(1, ATTEMPTS + 1):
            try:
                return self._answer(question)
            except httpx.TimeoutException as error:
                raise InputError(f"The server took longer than {self.seconds:g} seconds.") from error
            except httpx.HTTPStatusError as error:
                status = error.response.status_code
                if status in (401, 403, 404, 405):
                    raise EngineError(f"The server {quoted(self.address)} refuses ({status}); check it.") from error
                if status < 500 and status != 429:
                    raise InputError(f"The server refuses this pair ({status}).") from error
                if attempt == ATTEMPTS:
                    raise InputError(f"The server fails at this pair ({status}).") from error
            except (httpx.TransportError, httpx.InvalidURL) as error:
                if attempt == ATTEMPTS:
                    reason = " ".join(str(error).split()) or type(error).__name__
                    reason = re.sub(r"^\[Errno -?\d+\] ", "", reason)
                    raise EngineError(
                        f"The server {quoted(self.address)} is not reached ({reason}); start it or correct --server."
                    ) from error
            time.sleep(attempt)
        raise AssertionError("the last attempt returns or raises")

    def _answer(self, question: Mapping[str, Any]) -> bytes:
        import httpx

        content = bytearray()
        with httpx.stream("POST", self.address, json=question, timeout=self.seconds) as answer:
            answer.raise_for_status()
            for piece in answer.iter_bytes():
                content += piece
                if len(content) > MAX_ANSWER_BYTES:
                    raise InputError(f"The server's answer has more than {MAX_ANSWER_BYTES} bytes.")
        return bytes(content)


def chosen_source(settings: TripletSettings) -> LrgiSource:
    """The generator that the settings choose: DipRefGC where they name no other.

    Raises:
        InputError: they name several, another one without its name, or a name without another one.
    """
    command, server, name = settings.generator_command, settings.server, settings.generator_name
    if sum((settings.simulated, command is not None, server is not None)) > 1:
        raise InputError(
            "More than one generator is given; choose one of --simulated, --generator-command and --server."
        )
    if command is None and server is None:
        if name is not None:
            raise InputError("--generator-name is for --generator-command and --server; leave it out.")
        return Simulator() if settings.simulated else DipRefGC()
    if name is None:
        raise InputError("The generator has no name; add --generator-name, such as --generator-name InsertAnything.")
    if command is not None:
        return Command(command, name, settings.task)
    assert server is not None, "one of the two is given"
    return Server(server, name, settings.task)


def _check_name(name: str) -> None:
    if not GENERATOR_NAME.fullmatch(name):
        raise InputError(
            f"The generator's name {quoted(name)} cannot be used; take letters, digits, dots and dashes, 40 at most."
        )


def _pictures_for(pictures: PairPictures) -> dict[str, bytes]:
    """What another generator is given, as PNG files."""
    alpha = pictures.hrgt_mask.values
    shown = {
        "hrri": pictures.hrri,
        "hrri_mask": mask_image(pictures.hrri_mask),
        "hrgt": pictures.hrgt,
        "mask": mask_image(pictures.hrgt_mask),
        # Whatever the mask touches is cut out, so that a soft edge keeps nothing of the object.
        "background": Image(np.where(alpha[..., None] > 0, np.uint8(GREY), pictures.hrgt.pixels)),
    }
    return {kind: encoded(image, f"{kind}.png") for kind, image in shown.items()}


def _words_for(pair: Pair, seed: int) -> dict[str, str]:
    return {"object": pair.object_name, "caption": pair.caption or pair.object_name, "seed": str(seed)}


def _foreign(picture: Image, pictures: PairPictures, name: str, task: ForeignTask, pair: Pair, seed: int) -> DrawnLrgi:
    """Another generator's picture as an LRGI, by bicubic interpolation.

    Raises:
        InputError: it is too small, or not of the HRGT's aspect ratio though it should show the HRGT's scene.
    """
    size, (width, height) = pictures.lrgi_size, picture.size
    if task == "customisation":
        scale = max(size) / max(width, height)
        size = max(1, round(width * scale)), max(1, round(height * scale))
    elif abs(width * size[1] / (height * size[0]) - 1) > ASPECT_TOLERANCE:
        raise InputError(
            f"The generator's picture is {width}x{height} pixels, not of the HRGT's aspect ratio; it should show the "
            "HRGT's whole scene."
        )
    if width < size[0] or height < size[1] or min(size) < MIN_SIDE:
        raise InputError(f"The generator's picture is {width}x{height} pixels, and the LRGI {size[0]}x{size[1]}.")
    flat = Image(picture.pixels)
    small = flat if size_of(flat.pixels) == size else Image(bicubic(flat.pixels, size))
    made = Generation(generator=name, simulated=False, task=task, seed=seed, prompt=pair.caption or pair.object_name)
    return DrawnLrgi(small, flat, made)
