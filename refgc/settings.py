"""Every environment variable of RefGC, read and checked in one place.

Importing this module imports pydantic-settings. Modules that `refgc --help` loads therefore import it only when they
need it.
"""

from __future__ import annotations

import os
from functools import lru_cache
from typing import Any

from pydantic import Field, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, SettingsConfigDict

from refgc.errors import InputError, quoted

PREFIX = "REFGC_"
# Limits far above any sensible value, which timers, databases and the system's calls can still take.
MOST_SECONDS, MOST_HOURS, MOST_MEGABYTES, MOST_COUNT = 1_000_000, 100_000, 1_000_000_000, 1_000_000
# Distinct sets of values that one process keeps checked. A process has one, the tests have a few.
KEPT = 16


class Settings(BaseSettings):
    """The values of all REFGC_ variables; each field is set by the variable of its name in capitals.

    A variable that is empty or blank counts as not set. The limits of the page are meant so that the last visitor of a
    full queue waits minutes, not hours: a refinement without weights takes seconds on a few cores, and one with the
    model about a minute on a GPU.
    """

    model_config = SettingsConfigDict(env_prefix=PREFIX, frozen=True, extra="ignore")

    debug: bool = Field(False, description="print a traceback for every error, as `--debug` does")
    device: str | None = Field(
        None,
        pattern=r"^(cpu|cuda(:\d{1,3})?)$",
        description="where the models run; without it the first GPU. On a CPU one picture takes hours at full size",
        json_schema_extra={"allowed": "cuda, cuda:1 (the second GPU) or cpu"},
    )
    weights: str | None = Field(
        None,
        description="where `refgc setup` keeps the small networks that run on the processor; "
        "`~/.cache/refgc/weights` when not set",
        json_schema_extra={"allowed": "a folder"},
    )
    base: str | None = Field(
        None,
        description="the base model of the diffusion engine; `auto` when not set, which takes the adapter's base, "
        "else one that is on this machine, else `klein`",
        json_schema_extra={"allowed": "auto, klein, klein-base, kontext, a folder or a Hub repository"},
    )
    adapter: str | None = Field(
        None, description="FreqMoLE weights of the diffusion engine (`freqmole.safetensors`, `config.json`), or a LoRA"
    )
    together: bool | None = Field(
        None,
        description="whether the diffusion engine leaves the correspondence engine's pixels where that one is sure of "
        "them; without it where there is no adapter",
        json_schema_extra={"allowed": "1 or 0"},
    )
    speed: str = Field(
        "",
        description="speed options of the diffusion engine, where `--speed` is not given",
        json_schema_extra={"allowed": "options separated by commas, such as compile,step-cache=0.1"},
    )
    sam: str | None = Field(None, description="weights of SAM 2 or SAM 3, which find masks by a click, a box or words")
    diptych_base: str | None = Field(
        None,
        description="the FLUX.1-dev pipeline of the diptych generator; `black-forest-labs/FLUX.1-dev` when not set",
    )
    inpainting_controlnet: str | None = Field(None, description="the inpainting ControlNet of the diptych generator")
    canny_controlnet: str | None = Field(None, description="the Canny ControlNet of the diptych generator")
    diptych_loras: str | None = Field(
        None, description="LoRA of the two ControlNets, in the folders `inpainting` and `canny`"
    )

    serve: str | None = Field(
        None,
        pattern=r"^https?://[^\s\"'<>?#]{1,300}$",
        description="where `refgc serve` listens, whose engines the page then uses in the place of its own machine's",
        json_schema_extra={"allowed": "an address such as http://10.0.0.5:8000"},
    )
    shared: str | None = Field(
        None,
        description="a folder that all pages see, on a network file system: for cached results, and for those of each "
        "browser",
        json_schema_extra={"allowed": "a folder"},
    )
    repository: str | None = Field(
        None,
        pattern=r"^https?://[^\s\"'<>]{1,300}$",
        description="where the code of this page is to be had; the page and its code examples link to it",
        json_schema_extra={"allowed": "an address that begins with https://"},
    )
    mcp: bool = Field(False, description="offer the endpoints of the page as MCP tools too")
    max_waiting: int = Field(
        16, ge=0, le=1000, description="visitors who may wait for one engine, beside the one that is served"
    )
    wait_seconds: float = Field(900, gt=0, le=MOST_SECONDS, description="longest wait for one's turn")
    run_seconds: float = Field(900, gt=0, le=MOST_SECONDS, description="longest run; a longer one is ended")
    visit_jobs: int = Field(
        2, ge=1, le=MOST_COUNT, description="runs of one visit at the same time, running or waiting"
    )
    visit_jobs_per_hour: int = Field(120, ge=1, le=MOST_COUNT, description="runs that one visit may start in an hour")
    address_jobs_per_hour: int = Field(
        600, ge=1, le=MOST_COUNT, description="runs that may be started from one address in an hour"
    )
    visit_marks_per_minute: int = Field(
        120, ge=1, le=MOST_COUNT, description="marks that one visit may make in a minute"
    )
    marking_seconds: float = Field(
        20, gt=0, le=MOST_SECONDS, description="longest search for the object at a mark; a longer one is ended"
    )
    trusted_proxies: str = Field(
        "",
        description="proxies whose word for the client's address is taken",
        json_schema_extra={"allowed": "addresses or networks separated by commas, such as 10.0.0.0/8, or *"},
    )
    keep_hours: float = Field(
        6, gt=0, le=MOST_HOURS, description="age at which uploads, results and cached results are deleted"
    )
    cache_megabytes: float = Field(
        1024, ge=0, le=MOST_MEGABYTES, description="size of the cache of results, in millions of bytes; 0 for none"
    )
    spare_megabytes: float = Field(
        256,
        ge=0,
        le=MOST_MEGABYTES,
        description="free room on the disk, in millions of bytes, below which nothing is taken in or run",
    )
    allowed_hosts: str = Field(
        "",
        description="host names that the page may be reached by; any when not set",
        json_schema_extra={"allowed": "names separated by commas, such as page.example or *.paper.example"},
    )
    header_seconds: float = Field(
        10, gt=0, le=MOST_SECONDS, description="longest time that a connection stays open without a request"
    )
    body_seconds: float = Field(
        20, gt=0, le=MOST_SECONDS, description="longest time for a request's body, beside the time for its bytes"
    )
    body_bytes_per_second: float = Field(
        16_000, gt=0, le=MOST_COUNT, description="slowest rate at which a request's body may come in"
    )
    address_uploads: int = Field(
        64, ge=1, le=MOST_COUNT, description="requests that one address may be sending at the same time"
    )
    address_connections: int = Field(512, ge=1, le=MOST_COUNT, description="open connections of one address")

    @model_validator(mode="before")
    @classmethod
    def _drop_blanks(cls, values: dict[str, Any]) -> dict[str, Any]:
        stripped = {name: value.strip() if isinstance(value, str) else value for name, value in values.items()}
        return {name: value for name, value in stripped.items() if value != ""}


def settings() -> Settings:
    """The settings as the environment is now.

    The environment is looked at on each call; values that were seen before are not checked again.

    Raises:
        InputError: a variable has a value that cannot be used. The sentence names it and says what to set.
    """
    return _checked(tuple(sorted(item for item in os.environ.items() if item[0].upper().startswith(PREFIX))))


def setting(variable: str) -> Any:
    """The value of one variable by its full name, such as "REFGC_BASE".

    Raises:
        InputError: as for `settings`.
    """
    return getattr(settings(), field_of(variable))


def field_of(variable: str) -> str:
    """The field that a variable sets: "base" for "REFGC_BASE"."""
    return variable.removeprefix(PREFIX).lower()


def variable_of(field: str) -> str:
    """The variable that sets a field: "REFGC_BASE" for "base"."""
    return PREFIX + field.upper()


def allowed(field: str) -> str:
    """What a field may be set to, as the end of "set it to"."""
    info = Settings.model_fields[field]
    if isinstance(info.json_schema_extra, dict):
        return str(info.json_schema_extra["allowed"])
    if info.annotation is bool:
        return "1 or 0"
    if info.annotation in (int, float):
        return _number(info)
    return "a folder or a Hub repository"


def _number(info: FieldInfo) -> str:
    limits = {
        name: getattr(limit, name) for limit in info.metadata for name in ("ge", "gt", "le") if hasattr(limit, name)
    }
    kind = "a whole number" if info.annotation is int else "a number"
    least = f"above {limits['gt']}, at most" if "gt" in limits else f"from {limits['ge']} to"
    return f"{kind} {least} {limits['le']}"


@lru_cache(maxsize=KEPT)
def _checked(_given: tuple[tuple[str, str], ...]) -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = str(first["loc"][0])
        raise InputError(f"{variable_of(field)} is {quoted(first['input'])}; set it to {allowed(field)}.") from error
