"""What the page asks for: to begin, to go on, the pictures, and to write down answers.

Nothing that leaves the server says which method made what: a picture is asked for by a random token of its showing and
its place, comes without name, date or tag, and all results of a showing have the same number of bytes.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from refgc.errors import InputError
from refgc.study.definition import PICTURES, Picture, Study
from refgc.study.store import AnswerStore, Standing
from refgc.webui.endpoints import Asked, answered, posted

PREFIX = "/study/"
# Longer than anybody looks at one item; a computer that slept counts as this.
LONGEST_SECONDS = 3600.0
# A picture of a showing never changes.
PICTURE_HEADERS = {"Cache-Control": "private, max-age=86400, immutable", "X-Content-Type-Options": "nosniff"}
REFERENCE, GENERATED = "reference", "generated"
# A chunk of PNG that programs pass over (ancillary, private, safe to copy); and the size of an empty chunk.
PADDING, EMPTY_CHUNK = b"paDd", 12
END = b"IEND"

Code = Annotated[str, Field(min_length=1, max_length=40)]
Token = Annotated[str, Field(min_length=1, max_length=40)]


class AskedBegin(Asked):
    """Somebody has read what the study is about and takes part."""

    agreed: bool


class AskedResume(Asked):
    """Somebody comes back with a code."""

    code: Code


class AskedAnswers(Asked):
    """What somebody says of a showing: by question the place of the chosen result, 0 for no difference."""

    code: Code
    token: Token
    answers: Annotated[dict[str, Annotated[int, Field(ge=0)]], Field(max_length=9)]
    seconds: Annotated[float, Field(ge=0)]


class StudyRoutes:
    """The endpoints of one study."""

    def __init__(self, folder: Path, study: Study, store: AnswerStore) -> None:
        """Args: `folder` has the pictures of `study`, and `store` its answers."""
        self._pictures, self._study, self._store = folder / PICTURES, study, store
        self._shown = study.shown()

    def routes(self) -> list[Route]:
        """For the server's app; all of them begin with `PREFIX`."""
        return [
            Route(f"{PREFIX}begin", posted(AskedBegin, self._begin), methods=["POST"]),
            Route(f"{PREFIX}resume", posted(AskedResume, self._resume), methods=["POST"]),
            Route(f"{PREFIX}answers", posted(AskedAnswers, self._record), methods=["POST"]),
            Route(f"{PREFIX}withdraw", posted(AskedResume, self._withdraw), methods=["POST"]),
            Route(f"{PREFIX}pictures/{{token}}/{{place}}", answered(self._picture)),
        ]

    def _begin(self, asked: AskedBegin) -> dict[str, Any]:
        if not asked.agreed:
            raise InputError("Only who agrees can take part.")
        return self._told(self._store.begin())

    def _resume(self, asked: AskedResume) -> dict[str, Any]:
        return self._told(self._store.resume(asked.code))

    def _record(self, asked: AskedAnswers) -> dict[str, Any]:
        seconds = min(asked.seconds, LONGEST_SECONDS)
        return self._told(self._store.record(asked.code, asked.token, asked.answers, seconds))

    def _withdraw(self, asked: AskedResume) -> dict[str, Any]:
        self._store.withdraw(asked.code)
        return {}

    def _told(self, standing: Standing) -> dict[str, Any]:
        trials = []
        for trial in standing.trials:
            item = self._shown[trial.showing.item]
            result = next(iter(item.choices.values()))
            trials.append({"token": trial.token, "number": trial.place + 1, "size": (result.width, result.height)})
        return {"code": standing.code, "total": standing.total, "done": standing.done, "trials": trials}

    def _picture(self, request: Request) -> Response:
        showing = self._store.shown(request.path_params["token"])
        item, place = self._shown[showing.item], request.path_params["place"]
        if place in (REFERENCE, GENERATED):
            content = self._content(item.reference if place == REFERENCE else item.generated)
        else:
            if place not in map(str, range(1, len(showing.order) + 1)):
                raise InputError("There is no such picture; load the page again.")
            size = max((self._pictures / picture.file).stat().st_size for picture in item.choices.values())
            chosen = item.choices[showing.order[int(place) - 1]]
            content = padded(self._content(chosen), size + EMPTY_CHUNK)
        return Response(content, media_type="image/png", headers=PICTURE_HEADERS)

    def _content(self, picture: Picture) -> bytes:
        return (self._pictures / picture.file).read_bytes()


def padded(png: bytes, size: int) -> bytes:
    """The same picture with a chunk of zeros, so that the length of its file says nothing of its content.

    Args:
        png: a file.
        size: bytes of the result, at least `EMPTY_CHUNK` more than the file has.
    """
    body = PADDING + bytes(size - len(png) - EMPTY_CHUNK)
    end = png.rindex(END) - 4
    return png[:end] + struct.pack(">I", len(body) - 4) + body + struct.pack(">I", zlib.crc32(body)) + png[end:]


def told_problem(_: Request, error: Exception) -> JSONResponse:
    """The answer where there is nothing at a path."""
    return JSONResponse({"error": "There is nothing here."}, getattr(error, "status_code", 404))
