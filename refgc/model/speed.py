"""Speed options: each can be switched alone, and each says what it changes in the result.

Reading them imports no torch, so that a mistake in them is told before anything is loaded.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refgc.errors import EngineError, InputError

if TYPE_CHECKING:
    import torch

    from refgc.model.pipeline import RefGCSR2Pipeline

Quantization = Literal["none", "int8", "fp8", "nf4"]

SPEED = "REFGC_SPEED"
# Graphs of a kind of block before torch runs it uncompiled without a word: its 8 are soon taken by sizes, each with and
# without reference cache.
GRAPHS = 64
SWITCHES = ("fuse", "reference_cache", "compact_generated", "compile")


class SpeedOptions(BaseModel):
    """What is done to make the model faster or smaller.

    "Same result" means up to rounding: sums are formed in another order or precision, nothing is left out.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    fuse: bool = Field(
        default=True,
        description="fold FreqMoLE into the transformer's weights, after which it costs nothing; same result",
    )
    reference_cache: bool | None = Field(
        default=None,
        description="compute the condition tokens once an image and not at each step; right for an adapter that was "
        "trained so, another result for one that was not; when not given, as the adapter was trained",
    )
    compact_generated: bool | None = Field(
        default=None,
        description="give the generated picture at half its size, a quarter of its tokens; right for an adapter that "
        "was trained so, another result for one that was not; when not given, as the adapter was trained",
    )
    compile: bool = Field(
        default=False,
        description="torch.compile of the repeated blocks; the first pictures of the first two sizes wait for it, "
        "later sizes share graphs for any size; same result",
    )
    attention_backend: str | None = Field(
        default=None,
        description="attention kernels by the name diffusers has for them, such as flash, sage or _native_cudnn; same "
        "result, but for those that quantise (sage)",
    )
    step_cache: Annotated[float, Field(gt=0, lt=1)] | None = Field(
        default=None,
        description="leave all blocks but the first out of a step in which the first one's change differs from that of "
        "the last full step by less than this share (First Block Cache, 0.05 to 0.15); another result, the more so "
        "the larger it is",
    )
    quantization: Quantization | None = Field(
        default=None,
        description="weights of the blocks in 8 or 4 bits: int8, fp8 or nf4, which saves memory and not time (fp8 is "
        "multiplied in 8 bits as well, and can be faster together with compile only); another result, nf4 the most; "
        "none keeps 16 bits; when not given, by the memory that is there",
    )

    @classmethod
    def parse(cls, text: str) -> Self:
        """Reads options as `REFGC_SPEED` and `--speed` give them: "compile,no-fuse,step-cache=0.1".

        Args:
            text: names with dashes, separated by commas; a switch is named, or named with "no-" before it; the others
                take a value after "=". Empty for the defaults.

        Raises:
            InputError: there is no such option, or it does not take that value.
        """
        given: dict[str, str | bool] = {}
        for word in filter(None, (part.strip() for part in text.split(","))):
            dashed, equals, value = word.partition("=")
            name = dashed.strip().replace("-", "_")
            switch = name.removeprefix("no_")
            if not equals and switch in SWITCHES:
                given[switch] = name == switch
            elif equals and name in cls.model_fields and name not in SWITCHES:
                given[name] = value.strip()
            else:
                raise InputError(f"{word!r} is no speed option; give some of {_usage()}, separated by commas.")
        try:
            return cls.model_validate(given)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]).replace("_", "-")
            raise InputError(
                f"The speed option {name} is {first['input']!r}; {first['msg'][0].lower()}{first['msg'][1:]}."
            ) from error

    def __str__(self) -> str:
        """What differs from the defaults, as `parse` reads it."""
        words = []
        for name in sorted(self.model_fields_set):
            value, dashed = getattr(self, name), name.replace("_", "-")
            if value == type(self).model_fields[name].default:
                continue
            words.append(
                {True: dashed, False: f"no-{dashed}"}[value] if isinstance(value, bool) else f"{dashed}={value}"
            )
        return ",".join(words)


def apply(pipeline: RefGCSR2Pipeline, options: SpeedOptions, device: torch.device | None = None) -> None:
    """Prepares a loaded pipeline, in the order that the options need: fuse, quantise, attention, compile, step cache.

    `reference_cache` and `compact_generated` belong to a run: they are given to `RefGCSR2Pipeline.refine`. A step cache
    of an earlier call is replaced; what was fused, quantised or compiled stays so.

    Args:
        pipeline: its transformer is changed in place.
        options: `quantization=None` leaves the weights as they are.
        device: where layers are quantised, and the transformer then is; None is where it is now.

    Raises:
        EngineError: an option cannot be had on this machine.
    """
    transformer = pipeline.transformer
    if options.fuse and pipeline.freqmole is not None:
        pipeline.freqmole.fuse(keep_base=False)
    if options.quantization is not None and options.quantization != "none":
        from refgc.model.quantization import quantize

        quantize(transformer, options.quantization, device or transformer.device)
    if options.attention_backend is not None:
        _use_attention(transformer, options.attention_backend)
    if transformer.is_cache_enabled:
        transformer.disable_cache()
    if options.compile:
        _compile(transformer)
    if options.step_cache is not None:
        from diffusers import FirstBlockCacheConfig

        transformer.enable_cache(FirstBlockCacheConfig(threshold=options.step_cache))


def _compile(transformer: Any) -> None:
    """What `compile_repeated_blocks` of diffusers does, but beneath the hooks of a step cache or of offloading.

    Traced along with its hooks each block would need a graph of its own.
    """
    import torch

    for block in (*transformer.transformer_blocks, *transformer.single_transformer_blocks):
        # Torch's own declarations lack this argument of it.
        block.forward = torch.compile(block.forward, recompile_limit=GRAPHS)  # type: ignore[call-overload]


def _use_attention(transformer: Any, backend: str) -> None:
    from diffusers import attention_backend

    try:
        # Inside this context, because otherwise the choice would stand for all other models in the process as well.
        with attention_backend(backend):
            transformer.set_attention_backend(backend)
    except (ValueError, ImportError, RuntimeError, OSError, AttributeError) as error:
        reason = " ".join(str(error).split()).rstrip(".")
        raise EngineError(
            f"The attention backend {backend!r} cannot be had here ({reason}); choose another, or none."
        ) from error


def _usage() -> str:
    names = (f"{name}{'' if name in SWITCHES else '=...'}" for name in SpeedOptions.model_fields)
    return ", ".join(name.replace("_", "-") for name in names) + ", or no- before a switch"
