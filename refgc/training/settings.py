"""The settings of a training run: one TOML file, checked; `refgc train init` prints one with every default."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, TypeAlias, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    TypeAdapter,
    ValidationError,
    field_validator,
    model_validator,
)
from pydantic.fields import FieldInfo

from refgc.dataset.settings import read_toml
from refgc.diptych.settings import DrawingSettings
from refgc.diptych.sources import CANNY_CONTROLNET, FLUX_DEV, INPAINTING_CONTROLNET, PUBLISHED
from refgc.errors import InputError, first_fault, quoted
from refgc.flux.instruction import INSTRUCTION, OBJECT
from refgc.hub import FLUX_KONTEXT
from refgc.imaging.arrays import Size
from refgc.imaging.upscale import Enlargement
from refgc.model.initial_alpha import AlphaByDepth
from refgc.model.locate import SIZE_MULTIPLE
from refgc.model.objective_settings import ObjectiveSettings
from refgc.model.parameter_groups import OptimiserSettings
from refgc.runner import RunnerName

# The name of a checkpoint has eight digits.
MOST_STEPS = 99_999_999
# The bounds below keep numbers out that no run can use, such as a rank whose experts fill the memory. All were chosen
# by hand, far above what is usual.
MOST_SIDE = 4096
MOST_RANK = 1024
MOST_SAMPLES = 65_536


def _place(name: str) -> str:
    """An empty name would be the folder that the command runs in."""
    if not name.strip() or "\0" in name:
        raise ValueError("it names no folder")
    return name


def _sides(size: object) -> object:
    """Of TOML's types, of which a list is none in Python's strict mode; the whole is refused in one sentence."""
    if (
        isinstance(size, list | tuple)
        and len(size) == 2
        and all(type(side) is int and 0 < side <= MOST_SIDE and side % SIZE_MULTIPLE == 0 for side in size)
    ):
        return tuple(size)
    raise ValueError(f"both sides must be multiples of {SIZE_MULTIPLE} from {SIZE_MULTIPLE} to {MOST_SIDE}")


Place = Annotated[str, AfterValidator(_place)]
Sides = Annotated[Size, BeforeValidator(_sides)]
Steps = Annotated[int, Field(ge=1, le=MOST_STEPS)]
StepsOrNone = Annotated[int, Field(ge=0, le=MOST_STEPS)]
Samples = Annotated[int, Field(ge=1, le=MOST_SAMPLES)]
Rank = Annotated[int, Field(ge=1, le=MOST_RANK)]
Guidance = Annotated[float, Field(ge=0, le=100)]
# FLUX's noise schedule was trained with so many levels.
DenoisingSteps = Annotated[int, Field(ge=1, le=1000)]
Chance = Annotated[float, Field(ge=0.0, le=1.0)]
Decay = Annotated[float, Field(ge=0, lt=1)]
OptimiserName: TypeAlias = Literal["adamw", "adamw-8bit", "prodigy"]
ScheduleName: TypeAlias = Literal["constant", "cosine"]
TrackerName: TypeAlias = Literal["tensorboard", "trackio", "wandb"]


class Table(BaseModel):
    """Base of every table of the file: frozen, without unknown names, and of exact types: `true` is not 1."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False, strict=True)


class DataSettings(Table):
    """Which triplets are learnt from, and how they are cut. Inference cuts by the same code."""

    dataset: Place = Field(default="my-dataset", description="folder of the dataset, as `refgc dataset` makes it")
    unreviewed: bool = Field(default=False, description="take rows as well that too few people have looked at")
    cache: Place = Field(default="my-dataset-cache", description="folder for latents and prompt embeddings")
    whole: bool = Field(
        default=False,
        description="take the whole frame instead of a window around the object; inference then does so too",
    )
    working_size: Sides | None = Field(
        default=None,
        description="width and height of the window as the model sees it, multiples of 16, such as [512, 512]; without "
        "it the Kontext size of about a megapixel that is nearest in aspect",
    )
    enlargement: Enlargement = Field(
        default="bicubic", description='how the LRGI is enlarged: "bicubic" as in the paper, or "clean"'
    )
    compact_generated: bool = Field(
        default=False, description="give the LRGI at half the size, a quarter of its tokens"
    )
    prompt: str = Field(default=INSTRUCTION, description="the instruction; {object} is the object's name")
    drop_reference: Chance = Field(
        default=0.0, description="probability that a sample is learnt without its HRRI: zeros take its place"
    )
    drop_prompt: Chance = Field(default=0.0, description="probability that a sample is learnt with an empty prompt")

    @field_validator("prompt")
    @classmethod
    def _names_the_object(cls, prompt: str) -> str:
        if OBJECT not in prompt:
            raise ValueError(f"it has no {OBJECT} in it")
        return prompt


class WorkerSettings(Table):
    """Where `refgc train cache` does its work."""

    runner: RunnerName = Field(default="local", description='"local" processes, or "ray" on many machines')
    workers: Annotated[int, Field(ge=1, le=10_000)] | None = Field(
        default=None, description="how many at once; without it one for each GPU, and one where there is no GPU"
    )
    gpus_per_worker: Annotated[int, Field(ge=0, le=64)] | None = Field(
        default=None, description="GPUs of each worker; without it 1 where this machine has a GPU, else 0"
    )


class ModelSettings(Table):
    """What is trained, and on which base."""

    base: Place = Field(
        default=FLUX_KONTEXT, description="folder or Hub repository of FLUX.1-Kontext or FLUX.2 [klein]"
    )
    quantization: Literal["none", "int8"] = Field(
        default="none", description='of the frozen base: "none" for bf16, or "int8" for weights of 8 bits'
    )
    rank: Rank = Field(default=16, description="of each of the two experts; the paper's is not known to us")
    lora_alpha: float = Field(default=16.0, gt=0, le=10_000, description="the experts are scaled by lora_alpha / rank")
    reference_cache: bool = Field(
        default=False,
        description="let condition tokens attend to themselves alone, so that inference computes them once",
    )
    guidance: Guidance | None = Field(
        default=None, description="distilled guidance; without it 2.5 for FLUX.1-Kontext and none for FLUX.2"
    )
    gradient_checkpointing: bool = Field(
        default=True, description="compute each block again in the backward pass: a third more time, far less memory"
    )


class NoiseSettings(Table):
    """How the noise level sigma of each sample is drawn."""

    sampling: Literal["logit-normal", "uniform"] = Field(
        default="logit-normal", description='"logit-normal" (Esser et al., 2024) or "uniform"'
    )
    mean: float = Field(default=0.0, ge=-10, le=10, description="of the logit, for logit-normal")
    deviation: float = Field(default=1.0, gt=0, le=10, description="standard deviation of the logit, for logit-normal")
    shift: bool = Field(
        default=True, description="shift sigma by the number of tokens, as the base's own scheduler does at inference"
    )


class RunSettings(Table):
    """How long is trained, and on how many samples at once."""

    seed: Annotated[int, Field(ge=0, le=2**63 - 1)] = Field(default=0, description="of everything random")
    steps: Steps = Field(default=10_000, description="optimiser steps")
    batch_size: Samples = Field(
        default=8, description="samples of one optimiser step over all processes, whose number changes nothing"
    )
    samples_at_once: Samples = Field(
        default=1, description="samples of one forward pass; the rest of the batch is accumulated"
    )

    @model_validator(mode="after")
    def _whole_passes(self) -> RunSettings:
        if self.batch_size % self.samples_at_once:
            raise ValueError("batch_size must be a multiple of samples_at_once")
        return self


class OptimisationSettings(Table):
    """How the trained parameters are moved, whatever they are."""

    optimiser: OptimiserName = Field(
        default="adamw",
        description='"adamw", "adamw-8bit" (by bitsandbytes, on a GPU) or "prodigy" (learning rates of 1)',
    )
    beta1: Decay = Field(default=0.9, description="decay of the gradients' mean")
    beta2: Decay = Field(default=0.999, description="decay of their squares' mean")
    epsilon: float = Field(default=1e-8, ge=1e-12, le=1, description="added to the root of the squares' mean")
    schedule: ScheduleName = Field(
        default="constant", description='of the learning rates after the warm-up: "constant", or "cosine" down to 0'
    )
    warmup: StepsOrNone = Field(
        default=100, description="steps in which the learning rates rise evenly; the first has a small one, not 0"
    )
    clip: float = Field(
        default=1.0, ge=0, le=1e6, description="largest norm of all gradients together; 0 does not clip"
    )
    average: Decay = Field(
        default=0.0,
        description="decay of an exponential moving average of what is trained, which then becomes the adapter; "
        "0 keeps none",
    )


class CheckpointSettings(Table):
    """When the state is written, from which a run goes on."""

    every: Steps = Field(default=500, description="steps")
    keep: Steps = Field(default=3, description="how many of the newest stay")


class ValidationSettings(Table):
    """Pairs of the validation split that are refined in between."""

    every: StepsOrNone = Field(default=500, description="steps; 0 for never")
    pictures: Annotated[int, Field(ge=0, le=MOST_SAMPLES)] = Field(
        default=4, description="how many pairs, the first ones of the split"
    )
    steps: DenoisingSteps | None = Field(
        default=None, description="of the denoising; without it as many as the base was made for"
    )


class TrackingSettings(Table):
    """Who is told of the figures, beside metrics.jsonl."""

    trackers: tuple[TrackerName, ...] = Field(
        default=("tensorboard",), strict=False, description='any of "tensorboard", "trackio" and "wandb"'
    )
    project: str = Field(default="refgc-sr2", description="name of the project there")


class TrainingRun(Table):
    """What every kind of run has, whatever it trains."""

    folder: Place = Field(default="my-run", description="of checkpoints, figures and the finished adapter")
    run: RunSettings = RunSettings()
    noise: NoiseSettings = NoiseSettings()
    optimisation: OptimisationSettings = OptimisationSettings()
    checkpoints: CheckpointSettings = CheckpointSettings()
    tracking: TrackingSettings = TrackingSettings()
    workers: WorkerSettings = WorkerSettings()

    # What may differ between a checkpoint and the run that goes on from it: it changes no step that was taken.
    FREE: ClassVar[frozenset[str]] = frozenset(
        {"folder", "checkpoints", "validation", "tracking", "workers", "run.steps", "data.cache", "data.dataset"}
    )


class RefinerRun(TrainingRun):
    """FreqMoLE on a frozen base, from triplets."""

    kind: Literal["refiner"] = Field(default="refiner", description="what is trained")
    data: DataSettings = DataSettings()
    model: ModelSettings = ModelSettings()
    initial_alpha: AlphaByDepth = AlphaByDepth()
    objective: ObjectiveSettings = ObjectiveSettings()
    learning: OptimiserSettings = OptimiserSettings()
    validation: ValidationSettings = ValidationSettings()


class GeneratorDataSettings(Table):
    """Which pairs are learnt from. Their conditions are built by the code that builds them at inference."""

    dataset: Place = Field(default="my-dataset", description="folder of the dataset, as `refgc dataset` makes it")
    unreviewed: bool = Field(default=False, description="take pairs as well that too few people have looked at")
    cache: Place = Field(default="my-dataset-cache", description="folder for latents and prompt embeddings")
    panel_size: Sides | None = Field(
        default=None,
        description="width and height of each panel, multiples of 16; without it as at inference: 512x512 as in the "
        "paper for a square HRGT, and about as many pixels for others",
    )
    drop_edges: Chance = Field(
        default=0.0, description="probability that a sample is learnt without its edges: zeros take their place"
    )
    drop_prompt: Chance = Field(default=0.0, description="probability that a sample is learnt with an empty prompt")


class GeneratorModelSettings(Table):
    """What is trained, and on which base."""

    base: Place = Field(default=FLUX_DEV, description="folder or Hub repository of FLUX.1-dev")
    inpainting_controlnet: Place = Field(
        default=PUBLISHED[INPAINTING_CONTROLNET],
        description="its ControlNet for the content, likewise",
    )
    canny_controlnet: Place = Field(
        default=PUBLISHED[CANNY_CONTROLNET], description="its ControlNet for the pose, likewise"
    )
    quantization: Literal["none", "int8"] = Field(
        default="none", description='of the transformer alone: "none" for bf16, or "int8" for weights of 8 bits'
    )
    rank: Rank = Field(default=16, description="of both LoRAs; the paper's is not known to us")
    lora_alpha: Annotated[int, Field(ge=1, le=10_000)] = Field(
        default=16, description="the LoRAs are scaled by lora_alpha / rank"
    )
    projections: Literal["all", "attention"] = Field(
        default="all", description='of the ControlNets\' blocks that get a LoRA: "all", or those of the "attention"'
    )
    guidance: Guidance = Field(
        default=DrawingSettings().guidance_scale, description="distilled guidance; that of inference by default"
    )
    gradient_checkpointing: bool = Field(
        default=True, description="compute each block again in the backward pass: a third more time, far less memory"
    )


class GeneratorObjectiveSettings(Table):
    """What is minimised: flow matching on the right panel."""

    object_weighted: bool = Field(
        default=False, description="the object's latents count by panel area / object area, as in ImageCritic"
    )


class LoraSettings(Table):
    """How fast the LoRAs learn. The paper's values are not known to us; these are our choice."""

    learning_rate: float = Field(default=1e-4, gt=0, le=10, description="of both LoRAs")
    weight_decay: float = Field(default=0.0, ge=0, le=1, description="of both LoRAs")


class GeneratorValidationSettings(ValidationSettings):
    """Pairs of the validation split whose LRGIs are drawn in between."""

    steps: DenoisingSteps = Field(default=DrawingSettings().num_inference_steps, description="of the denoising")


class GeneratorRun(TrainingRun):
    """LoRA on DipRefGC's two ControlNets, from pairs."""

    kind: Literal["generator"] = Field(default="generator", description="what is trained")
    data: GeneratorDataSettings = GeneratorDataSettings()
    model: GeneratorModelSettings = GeneratorModelSettings()
    objective: GeneratorObjectiveSettings = GeneratorObjectiveSettings()
    learning: LoraSettings = LoraSettings()
    validation: GeneratorValidationSettings = GeneratorValidationSettings()


TAKES_UNREVIEWED = "`unreviewed = true` in `[data]`"
"""How the file of a run takes rows that too few people have looked at."""

KINDS: Mapping[str, type[RefinerRun | GeneratorRun]] = {"refiner": RefinerRun, "generator": GeneratorRun}
"""The settings of each kind of run, by what its file says."""

Run = TypeVar("Run", bound=TrainingRun)


def read_run(file: Path, kind: type[Run]) -> Run:
    """The settings of a run.

    Args:
        file: TOML, as `initial_file` gives one.
        kind: of the run that is wanted.

    Raises:
        InputError: the file cannot be read, is of another kind, has a name that is not known, or a value that cannot
            be used.
    """
    content = read_toml(file)
    wanted = next(name for name, one in KINDS.items() if one is kind)
    if content.get("kind", wanted) != wanted:
        raise InputError(f"{quoted(str(file))} is of the kind {quoted(content['kind'])}; give a file of a {wanted}.")
    try:
        return kind.model_validate(content)
    except ValidationError as error:
        raise InputError(_refusal(error, kind)) from error


def read_any_run(file: Path) -> RefinerRun | GeneratorRun:
    """The settings of a run of whatever kind its file says.

    Raises:
        InputError: as for `read_run`, or there is no such kind.
    """
    kind = read_toml(file).get("kind", "refiner")
    if not isinstance(kind, str) or kind not in KINDS:
        raise InputError(f"{quoted(str(file))} is of the kind {quoted(kind)}; choose {' or '.join(KINDS)}.")
    return read_run(file, KINDS[kind])


def initial_file(kind: str) -> str:
    """A TOML file with every setting of a kind of run at its default, and above each what it means.

    Raises:
        InputError: there is no such kind.
    """
    if kind not in KINDS:
        raise InputError(f"There is no kind of training {quoted(kind)}; choose {' or '.join(KINDS)}.")
    made_of = KINDS[kind]
    tables = {name: table for name, info in made_of.model_fields.items() if (table := _table(info))}
    plain = {name: info for name, info in made_of.model_fields.items() if name not in tables}
    lines = [f"# A run of `refgc train {kind}`. Every value is the default.", ""]
    # The kind first: it says what the rest may be.
    for name in sorted(plain, key=lambda name: name != "kind"):
        lines += _setting(name, plain[name])
    for name, table in tables.items():
        lines += ["", f"# {' '.join((table.__doc__ or '').split(chr(10) * 2)[0].split())}", f"[{name}]"]
        for key, info in table.model_fields.items():
            lines += _setting(key, info)
    return "\n".join(lines) + "\n"


def resuming_settings(run: TrainingRun) -> dict[str, Any]:
    """The settings that a checkpoint and a run that goes on from it must have in common, flat by their names."""
    content = run.model_dump(mode="json")
    flat = {
        f"{table}.{name}": value
        for table, values in content.items()
        if isinstance(values, dict)
        for name, value in values.items()
    }
    free = type(run).FREE - ({"run.steps"} if run.optimisation.schedule == "cosine" else frozenset())
    return {name: value for name, value in flat.items() if not {name, name.partition(".")[0]} & free}


def _table(info: FieldInfo) -> type[BaseModel] | None:
    """The class of a setting that is a table of its own."""
    found = info.annotation
    return found if isinstance(found, type) and issubclass(found, BaseModel) else None


def _setting(name: str, info: FieldInfo) -> Iterator[str]:
    """A comment, and the line with the default; a setting that has none is commented out."""
    range_ = range_of(info)
    yield f"# {info.description}" + (f" ({range_})" if range_ else "")
    if info.default is None:
        yield f"# {name} ="
    else:
        yield f"{name} = {json.dumps(info.default)}"


def range_of(info: FieldInfo) -> str:
    """The numbers that a setting may have, such as "from 1 to 1024"; empty where it is no number.

    Args:
        info: of the setting. Its type, `None` aside, and its bounds are read from pydantic's JSON schema.
    """
    schema = _number_schema(info)
    if not schema:
        return ""
    least, most = (
        _digits(schema[name] if name in schema else schema[f"exclusive{name.capitalize()}"])
        for name in ("minimum", "maximum")
    )
    if "minimum" in schema and "maximum" in schema:
        return f"from {least} to {most}"
    above = f"at least {least}" if "minimum" in schema else f"above {least}"
    return f"{above} and {'at most' if 'maximum' in schema else 'below'} {most}"


def _number_schema(info: FieldInfo) -> dict[str, Any]:
    """The JSON schema of a setting that is a number; empty where it is none."""
    whole: Any = Annotated[info.annotation, *info.metadata] if info.metadata else info.annotation
    schema = TypeAdapter(whole).json_schema()
    of_numbers = [one for one in schema.get("anyOf", [schema]) if one.get("type") in ("integer", "number")]
    return dict(of_numbers[0]) if of_numbers else {}


def _digits(number: float) -> str:
    """A whole number without a point, others as Python writes them."""
    return str(int(number)) if number == int(number) else str(number)


def _refusal(error: ValidationError, kind: type[TrainingRun]) -> str:
    """One sentence about the first value that cannot be used."""
    field, fault = first_fault(error)
    match error.errors(include_url=False, include_input=False)[0]["type"]:
        case "extra_forbidden":
            return f"The settings have no {quoted(field)}; {_known_instead(field, kind)}."
        case "model_type":
            return f"The setting {field} cannot be used: it must be a table, `[{field}]` with settings below it."
    table, _, name = field.rpartition(".")
    made_of = _table(kind.model_fields[table]) if table in kind.model_fields else kind
    info = (made_of or kind).model_fields.get(name)
    if info is not None and (schema := _number_schema(info)):
        fault = f"it must be a {'whole ' if schema['type'] == 'integer' else ''}number {range_of(info)}"
    return f"The setting {field or 'file'} cannot be used: {fault}."


def _known_instead(field: str, kind: type[TrainingRun]) -> str:
    """What there is in place of a name that the settings do not have."""
    names: list[str] = list(kind.model_fields)
    *tables, name = field.split(".")
    if tables and tables[0] in kind.model_fields:
        names = list((_table(kind.model_fields[tables[0]]) or kind).model_fields)
    alike = get_close_matches(name, names, n=1)
    return f"perhaps {alike[0]} is meant" if alike else f"there are {', '.join(names)}"
