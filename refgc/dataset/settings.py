"""The settings of runs that make pairs and triplets: one TOML file, checked; the command line goes before it."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refgc.dataset.language_model import LEAST_PIXELS, MAX_PIXELS
from refgc.dataset.manifest import Share
from refgc.errors import InputError, first_fault, one_line, quoted
from refgc.runner import RunnerName

Positive = Annotated[int, Field(gt=0)]
Size = Annotated[float, Field(gt=0.0)]
ForeignTask: TypeAlias = Literal["compositing", "customisation"]
MaskChoice: TypeAlias = Literal["auto", "source", "weight-free", "sam3", "sam3-video"]
# The least overlap of the LRGI's outline with the HRGT's. Fitted on the ten products of examples/ and the segmenter
# without weights: of LRGIs that were simulated in the true pose, at weak and strong artifacts, the lowest was 0.939. Of
# those whose object was left out, or moved by a tenth of its side, turned by 10 degrees or more, or made a tenth
# smaller, the highest was 0.90, but for a square cushion that was turned by 90 degrees.
LEAST_OVERLAP = 0.92


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
        masks: who makes the masks. "auto" takes the source's where it has them, else the weight-free segmenter's;
            "source" leaves out frames without one. The others make all masks themselves: "weight-free", "sam3" in each
            picture, "sam3-video" along a video. SAM 3 is the one that `REFGC_SAM` names.
        least_mask_quality: least overlap (intersection over union) of the masks that two prompts give to the
            weight-free segmenter.
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
        server: the address of an OpenAI-compatible server, whose model filters, names and captions.
        model: which of the server's models, None for its first; without a server, a folder or Hub repository on this
            machine with a Qwen3-VL.
        no_vlm: whether to go without such a model. Either it or one of `server` and `model` is to be chosen.
        least_points: a frame or pair to which the model gives fewer points in anything, of 1 to 5, is left out.
        max_pixels: of a picture that the model is shown; a larger one is made smaller.
        runner: see `refgc.runner.run`.
        workers: see there.
        gpus_per_worker: see there. None takes 1 where workers hold a model and this machine has a GPU for it, else 0.
    """

    # Where the work is done, which does not change what comes out. Of the model the name does; a run keeps it.
    PLACES: ClassVar[frozenset[str]] = frozenset({"server", "model", "no_vlm", "runner", "workers", "gpus_per_worker"})

    # What a flag takes the place of beside the same key of the file.
    INSTEAD: ClassVar[Mapping[str, frozenset[str]]] = {
        "server": frozenset({"no_vlm"}),
        "model": frozenset({"no_vlm"}),
        "no_vlm": frozenset({"server", "model"}),
    }

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
    masks: MaskChoice = "auto"
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
    server: str | None = None
    model: str | None = None
    no_vlm: bool = False
    least_points: Annotated[int, Field(ge=1, le=5)] = 3
    max_pixels: Annotated[int, Field(ge=LEAST_PIXELS)] = MAX_PIXELS
    runner: RunnerName = "local"
    workers: Positive | None = None
    gpus_per_worker: Annotated[int, Field(ge=0)] | None = None


class TripletSettings(BaseModel):
    """How triplets are made. DipRefGC draws unless `simulated`, `generator_command` or `server` is given.

    Attributes:
        simulated: whether the LRGIs are simulated, without any weights.
        generator_command: a command that draws them; see `refgc.dataset.lrgi.Command`.
        server: the address of a server that draws them; see `refgc.dataset.lrgi.Server`.
        generator_name: what the command or server is called in the rows.
        task: whether the command or server draws into the HRGT's scene or one of its own.
        seeds: how many LRGIs of each pair.
        unreviewed: whether pairs are taken that not enough people have looked at. Those that were picked without a
            multimodal model (`filtered_by` is None) always are, since nobody was meant to review them.
        least_overlap: of the outlines of LRGI and HRGT, as intersection over union in [0, 1].
        runner: see `refgc.runner.run`.
        workers: see there.
        gpus_per_worker: see there; None takes 1 for DipRefGC, else 0.
    """

    # What a flag takes the place of beside the same key of the file. Another generator has another name.
    INSTEAD: ClassVar[Mapping[str, frozenset[str]]] = {
        "simulated": frozenset({"generator_command", "server", "generator_name"}),
        "generator_command": frozenset({"simulated", "server", "generator_name"}),
        "server": frozenset({"simulated", "generator_command", "generator_name"}),
    }

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    simulated: bool = False
    generator_command: str | None = None
    server: str | None = None
    generator_name: str | None = None
    task: ForeignTask = "compositing"
    seeds: Annotated[int, Field(ge=1, le=1000)] = 1
    unreviewed: bool = False
    least_overlap: Share = LEAST_OVERLAP
    runner: RunnerName = "local"
    workers: Positive | None = None
    gpus_per_worker: Annotated[int, Field(ge=0)] | None = None


class RunSettings(BaseModel):
    """The settings file of a run.

    Attributes:
        pairs: table of `refgc dataset pairs`.
        triplets: table of `refgc dataset triplets`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    pairs: PairSettings = PairSettings()
    triplets: TripletSettings = TripletSettings()


def read_pair_settings(file: Path | None, flags: Mapping[str, Any]) -> PairSettings:
    """The settings of a run that makes pairs.

    Args:
        file: TOML with a table `[pairs]`; None takes the defaults. All its tables are checked.
        flags: what the command line says, by the name of the setting; None where it says nothing.

    Raises:
        InputError: the file cannot be read, has a key that is not known, or a value cannot be used.
    """
    return _read(file, "pairs", flags, PairSettings.INSTEAD).pairs


def read_triplet_settings(file: Path | None, flags: Mapping[str, Any]) -> TripletSettings:
    """The settings of a run that makes triplets, of the table `[triplets]`; see `read_pair_settings`."""
    return _read(file, "triplets", flags, TripletSettings.INSTEAD).triplets


def read_toml(path: Path) -> dict[str, Any]:
    """What a TOML file holds.

    Raises:
        InputError: it cannot be read, or is none.
    """
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{quoted(str(path))} cannot be read ({error.strerror}).") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"{quoted(str(path))} is no TOML ({one_line(str(error))}); mend it.") from error


def _read(file: Path | None, name: str, flags: Mapping[str, Any], instead: Mapping[str, frozenset[str]]) -> RunSettings:
    content = {} if file is None else read_toml(file)
    try:
        return RunSettings.model_validate({**content, name: _flags_first(content.get(name, {}), flags, instead)})
    except ValidationError as error:
        field, fault = first_fault(error)
        if error.errors(include_url=False, include_input=False)[0]["type"] == "extra_forbidden":
            raise InputError(f"The settings have no {quoted(field)}; {_known_instead(field)}.") from error
        raise InputError(f"The setting {field} cannot be used: {fault}.") from error


def _known_instead(field: str) -> str:
    """What there is in place of a name that the settings do not have."""
    tables = {"pairs": tuple(PairSettings.model_fields), "triplets": tuple(TripletSettings.model_fields)}
    table, _, name = field.partition(".")
    if table not in tables:
        return f"put each setting into one of the tables {' and '.join(f'[{known}]' for known in tables)}"
    alike = get_close_matches(name, tables[table], n=1)
    return f"perhaps {alike[0]} is meant" if alike else f"there are {', '.join(tables[table])}"


def _flags_first(table: Any, flags: Mapping[str, Any], instead: Mapping[str, frozenset[str]]) -> Any:
    """A table of the file with what the command line says in place of its own; what is no table stays as it is."""
    if not isinstance(table, dict):
        return table
    given = {name: value for name, value in flags.items() if value is not None}
    replaced = {other for name in given for other in instead.get(name, ())}
    return {name: value for name, value in table.items() if name not in replaced} | given
