"""How much the page does for how many at a time, by environment variables."""

from __future__ import annotations

import os
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refgc.errors import InputError


class ServiceSettings(BaseModel):
    """The limits of the service; every field is set by the environment variable of its name in capitals, with REFGC_.

    A refinement without weights takes seconds on a few cores, the model's about a minute on a GPU: with the defaults
    the last visitor of a full line waits minutes, not hours.
    """

    model_config = ConfigDict(frozen=True)

    max_waiting: int = Field(16, ge=0, le=1000, description="who may wait for one engine; more are told to try again")
    wait_seconds: float = Field(900, gt=0, description="longest wait for one's turn")
    run_seconds: float = Field(900, gt=0, description="longest run; what takes longer is ended")
    visit_jobs: int = Field(2, ge=1, description="runs of one visit, running or waiting")
    visit_jobs_per_hour: int = Field(120, ge=1, description="runs that one visit may start in an hour")
    keep_hours: float = Field(6, gt=0, description="when uploads and results are deleted, and made results forgotten")
    cache_megabytes: float = Field(1024, ge=0, description="room for made results that are given again; 0 for none")
    spare_megabytes: float = Field(256, ge=0, description="free room on the disk below which nothing is run")
    allowed_hosts: str = Field(
        "", description="hosts that the page may be reached by, such as example.com,*.example.org; empty for any"
    )
    header_seconds: float = Field(10, gt=0, description="how long a connection may stay open without a request")
    body_seconds: float = Field(20, gt=0, description="how long a request's body may take, beside its bytes' time")
    body_bytes_per_second: float = Field(16_000, gt=0, description="slowest rate at which a body may come in")
    address_uploads: int = Field(64, ge=1, description="requests with a body that one address may send at a time")
    address_connections: int = Field(512, ge=1, description="open connections of one address")

    @classmethod
    def from_environment(cls) -> Self:
        """The settings of this process.

        Raises:
            InputError: a variable is no number of the right size.
        """
        given = {name: os.environ.get(f"REFGC_{name.upper()}", "").strip() for name in cls.model_fields}
        try:
            return cls.model_validate({name: value for name, value in given.items() if value})
        except ValidationError as error:
            first = error.errors()[0]
            name = f"REFGC_{str(first['loc'][0]).upper()}"
            reason = first["msg"].removeprefix("Input ")
            raise InputError(f"{name} is {first['input']!r}, which cannot be used: it {reason}.") from error
