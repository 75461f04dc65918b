"""The settings of a run that makes pairs: one TOML file, checked; what stands on the command line goes before it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refgc.dataset.manifest import Share
from refgc.errors import InputError, quoted

Positive = Annotated[int, Field(gt=0)]
Size = Annotated[float, Field(gt=0.0)]


class PairSettings(BaseModel):
    """How pairs are made. All defaults were chosen by hand, not fitted, but for two.

    Attributes:
        collection: name of the collection in the rows; None takes the name of the source's folder.
        licence: of the collection, where the captions file gives none for an object.
        address: where the collection can be had.
        pairs_per_object: the most pairs of one object.
        frames_per_object: the most frames or photos of one object that are looked at; each is matched with each.
        frame_seconds: of a video, one frame is taken from each stretch of so many seconds, its sharpest.
        longest_video: seconds; what comes later in a video is not read.
        shot_threshold: change of content that begins a new shot, in levels of hue, saturation and value from 0 to 255
            (PySceneDetect's ContentDetector).
        least_sharpness: of a frame and of the object in it, in [0, 1]; see `refgc.dataset.frames.sharpness`.
        darkest: least mean luma of a frame, in levels of 255.
        brightest: largest mean luma of a frame, in levels of 255.
        duplicate_bits: frames whose perceptual hashes of 64 bits differ in at most so many bits are duplicates.
        least_mask_quality: least overlap (intersection over union) of the masks that two prompts give.
        least_object_side: longer side of the object in its frame, in pixels.
        cut_share: largest share of the object's outline that may lie at the border of the frame.
        log_chance: largest log10 of the probability that two photos which share nothing match as well; see
            `refgc.correspondence.coherence`. Objects of one outline and other prints were seen to reach -5.7.
        least_matches: least number of matches of a pair that agree.
        least_overlap: least share of the HRGT's object that the HRRI shows as well, by matches; see
            `refgc.dataset.views`. It was fitted on rendered turntables of three products (`benchmarks/turntables.py`):
            where the HRRI truly showed half of the HRGT's surface, matches said about 0.7.
        least_outline_overlap: least intersection over union of both masks after the similarity of the matches, where
            one of them was not given by the source. It was chosen on DreamBooth's photos, whose pairs were looked at:
            all masks that had lost a large part, or taken in a hand, were below it, and so were a few good ones. Of the
            turntables' pairs, which turn by 30 or 60 degrees, half are below it with true masks.
        least_shift: least median motion of the matches after the best similarity, in parts of the object's side.
        most_shift: largest one.
        least_degrees: least angle between the views where the source has poses.
        most_degrees: largest one.
        side: width and height of the pictures of a pair, in pixels.
        hrri_object: the object's longer side in the HRRI, as a share of the picture's side; less where the object is
            small in its frame.
        hrgt_object: the same of the HRGT.
        least_object: least of both: an LRGI of a quarter of the side must still show the object.
        enlargement: the most pixels of a picture for each pixel of its frame.
    """

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    collection: str | None = None
    licence: str | None = None
    address: str | None = None
    pairs_per_object: Positive = 6
    frames_per_object: Annotated[int, Field(ge=2, le=200)] = 16
    frame_seconds: Size = 0.5
    longest_video: Size = 600.0
    shot_threshold: Size = 27.0
    least_sharpness: Share = 0.2
    darkest: Annotated[float, Field(ge=0.0, le=255.0)] = 12.0
    brightest: Annotated[float, Field(ge=0.0, le=255.0)] = 250.0
    duplicate_bits: Annotated[int, Field(ge=0, le=63)] = 2
    least_mask_quality: Share = 0.85
    least_object_side: Positive = 128
    cut_share: Share = 0.02
    log_chance: Annotated[float, Field(le=0.0)] = -8.0
    least_matches: Positive = 20
    least_overlap: Share = 0.7
    least_outline_overlap: Share = 0.72
    least_shift: Annotated[float, Field(ge=0.0)] = 0.005
    most_shift: Size = 0.2
    least_degrees: Annotated[float, Field(ge=0.0, le=180.0)] = 5.0
    most_degrees: Annotated[float, Field(ge=0.0, le=180.0)] = 60.0
    side: Annotated[int, Field(ge=64, le=4096)] = 1024
    hrri_object: Share = 0.85
    hrgt_object: Share = 0.6
    least_object: Share = 0.25
    enlargement: Size = 1.5


class RunSettings(BaseModel):
    """The settings file of a run.

    Attributes:
        pairs: table of `refgc dataset pairs`.
        triplets: table of `refgc dataset triplets`, which checks it itself.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: PairSettings = PairSettings()
    triplets: dict[str, Any] = {}


def read_pair_settings(file: Path | None, flags: Mapping[str, Any]) -> PairSettings:
    """The settings of a run.

    Args:
        file: TOML with a table `[pairs]`; None takes the defaults.
        flags: what the command line says, by the name of the setting; None where it says nothing.

    Raises:
        InputError: the file cannot be read, has a key that is not known, or a value cannot be used.
    """
    content: dict[str, Any] = {}
    if file is not None:
        try:
            content = tomllib.loads(file.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"The settings {quoted(str(file))} cannot be read ({error.strerror}).") from error
        except ValueError as error:
            raise InputError(f"The settings {quoted(str(file))} are no TOML ({error}).") from error
    table = content.get("pairs", {})
    given = {name: value for name, value in flags.items() if value is not None}
    try:
        return RunSettings.model_validate(
            {**content, "pairs": {**table, **given} if isinstance(table, dict) else table}
        ).pairs
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        name = ".".join(map(str, first["loc"]))
        if first["type"] == "extra_forbidden":
            raise InputError(
                f"The settings have no {quoted(name)}; `refgc.dataset.settings.PairSettings` lists those there are."
            ) from error
        raise InputError(f"The setting {name} cannot be used: {first['msg']}.") from error
