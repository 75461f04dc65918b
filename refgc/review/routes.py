"""What the page asks for: rows, pictures, outlines, and to write down what a person says."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Literal, TypeVar

from pydantic import AfterValidator, Field
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response
from starlette.routing import Route

from refgc.dataset.corrections import Correction, ViewName, object_share
from refgc.dataset.manifest import Id
from refgc.dataset.store import store_mask
from refgc.dataset.verdicts import VerdictLog, checked_name, utc_now
from refgc.errors import InputError
from refgc.review.masks import Click, mended, outline_of
from refgc.review.rows import PictureName, ReviewedRows, view_of
from refgc.webui.endpoints import NEVER, Asked, answered, posted

PREFIX = "/review/"
# Why a row is rejected; the key of each is its number. The eighth is for triplets.
REASONS = (
    "other object",
    "other side",
    "blurred",
    "mask wrong",
    "occluded",
    "cut off",
    "person or private",
    "LRGI in another pose",
    "other",
)
TRIPLET_REASONS = ("LRGI in another pose",)
# More rows than a page holds at once, and more clicks than anybody makes.
MOST_ROWS, MOST_HELD, MOST_CLICKS = 20, 100, 200
# What is asked for by its hash never changes.
FOREVER = {"Cache-Control": "private, max-age=31536000, immutable", "X-Content-Type-Options": "nosniff"}

Rater = Annotated[str, AfterValidator(lambda text: _name(text))]


class AskedRows(Asked):
    """Rows for a person to look at; `holding` are those that the page has already."""

    rater: Rater
    most: Annotated[int, Field(ge=0, le=MOST_ROWS)]
    holding: Annotated[tuple[Id, ...], Field(max_length=MOST_HELD)] = ()


class AskedVerdict(Asked):
    """What a person says of a row; `seconds` is how long the person looked."""

    row: Id
    rater: Rater
    accepted: bool
    reasons: Annotated[tuple[Literal[REASONS], ...], Field(max_length=len(REASONS))] = ()  # type: ignore[valid-type]
    seconds: Annotated[float, Field(ge=0)]


class AskedMask(Asked):
    """Clicks in one view of a row; with `keep` the mask is written down, else it is only shown."""

    row: Id
    view: ViewName
    rater: Rater
    clicks: Annotated[tuple[Click, ...], Field(max_length=MOST_CLICKS)]
    anew: bool = False
    keep: bool = False


class AskedLeave(Asked):
    """Somebody leaves the page."""

    rater: Rater


class ReviewRoutes:
    """The endpoints of one dataset's review."""

    def __init__(self, rows: ReviewedRows, log: VerdictLog) -> None:
        """Args: `rows` are shown, and `log` has what is said of them."""
        self._rows, self._log = rows, log

    def routes(self) -> list[Route]:
        """For the server's app; all of them begin with `PREFIX`."""
        return [
            Route(f"{PREFIX}rows", posted(AskedRows, self._lease), methods=["POST"]),
            Route(f"{PREFIX}verdicts", posted(AskedVerdict, self._record), methods=["POST"]),
            Route(f"{PREFIX}masks", posted(AskedMask, self._mend), methods=["POST"]),
            Route(f"{PREFIX}leave", posted(AskedLeave, self._leave), methods=["POST"]),
            Route(f"{PREFIX}progress", answered(self._progress)),
            Route(f"{PREFIX}history", answered(self._history)),
            Route(f"{PREFIX}rows/{{row}}", answered(self._row)),
            Route(f"{PREFIX}pictures/{{row}}/{{name}}", answered(self._picture)),
            Route(f"{PREFIX}outlines/{{row}}/{{name}}", answered(self._outline)),
        ]

    def _card(self, row: str, rater: str) -> dict[str, Any]:
        said = self._log.said_by(row, rater)
        return {
            **self._rows.card(row),
            "said": None if said is None else {"accepted": said.accepted, "reasons": said.reasons},
        }

    def _lease(self, asked: AskedRows) -> dict[str, Any]:
        given = self._log.lease(asked.rater, asked.most, asked.holding)
        return {"rows": [self._card(row, asked.rater) for row in given], "counts": self._counts(asked.rater)}

    def _record(self, asked: AskedVerdict) -> dict[str, Any]:
        if asked.accepted == bool(asked.reasons):
            raise InputError("A rejected row needs a reason, and an accepted one has none.")
        self._log.record(
            asked.row,
            asked.rater,
            accepted=asked.accepted,
            # In the order of the list, each once.
            reasons=[reason for reason in REASONS if reason in asked.reasons],
            seconds=asked.seconds,
        )
        return {"counts": self._counts(asked.rater)}

    def _mend(self, asked: AskedMask) -> dict[str, Any]:
        pair = self._rows.pair_of(asked.row)
        mask = mended(self._rows.root, view_of(pair, asked.view), asked.clicks, anew=asked.anew)
        if asked.keep:
            correction = Correction(
                row=pair.id,
                view=asked.view,
                mask=store_mask(self._rows.root, mask),
                object_share=object_share(mask),
                rater=asked.rater,
                time=utc_now(),
            )
            self._log.correct(correction)
            self._rows.apply(correction)
        return {"outline": outline_of(mask), "card": self._card(asked.row, asked.rater) if asked.keep else None}

    def _leave(self, asked: AskedLeave) -> dict[str, Any]:
        self._log.give_back(asked.rater)
        return {}

    def _progress(self, request: Request) -> Response:
        counts = self._counts(_rater_of(request))
        return JSONResponse({"counts": counts, "agreement": self._log.agreement()}, headers=NEVER)

    def _history(self, request: Request) -> Response:
        return JSONResponse({"rows": self._log.history(_rater_of(request), MOST_ROWS)}, headers=NEVER)

    def _row(self, request: Request) -> Response:
        return JSONResponse(self._card(request.path_params["row"], _rater_of(request)), headers=NEVER)

    def _picture(self, request: Request) -> Response:
        names: dict[str, PictureName] = {"hrri": "hrri", "hrgt": "hrgt", "lrgi": "lrgi"}
        name = _one_of(names, request.path_params["name"])
        path = self._rows.picture(request.path_params["row"], name)
        return FileResponse(path, media_type="image/png", headers=FOREVER)

    def _outline(self, request: Request) -> Response:
        views: dict[str, ViewName] = {"hrri": "hrri", "hrgt": "hrgt"}
        view = _one_of(views, request.path_params["name"])
        return JSONResponse(self._rows.outline(request.path_params["row"], view), headers=FOREVER)

    def _counts(self, rater: str) -> dict[str, int]:
        return asdict(self._log.counts(rater))


def _name(text: str) -> str:
    try:
        return checked_name(text)
    except InputError as error:
        raise ValueError(str(error)) from error


def _rater_of(request: Request) -> str:
    return checked_name(request.query_params.get("rater", ""))


Name = TypeVar("Name", bound=str)


def _one_of(names: dict[str, Name], name: str) -> Name:
    if name not in names:
        raise InputError(f"There is no such picture; ask for one of {', '.join(names)}.")
    return names[name]
