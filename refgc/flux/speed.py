"""Speed options: each can be set independently, and its description says what it changes in the result.

Parsing them does not import torch, so that a mistake in them is reported before anything is loaded.
"""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from refgc.errors import EngineError, InputError
from refgc.machine import on_zero_gpu

Quantization = Literal["none", "int8", "fp8", "nf4"]

SWITCHES = ("fuse", "reference_cache", "compact_generated", "compile")


class SpeedOptions(BaseModel):
    """Options that make the model faster or smaller.

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

    def check(self) -> None:
        """Refuses what cannot be had on this machine and is known before a model is loaded.

        Raises:
            EngineError: blocks are to be compiled on ZeroGPU.
        """
        if self.compile and on_zero_gpu():
            raise EngineError(
                "This Space is lent a GPU for one call at a time (ZeroGPU), and what torch.compile made is lost after "
                "each; leave compile out of REFGC_SPEED."
            )

    def __str__(self) -> str:
        """The options that differ from the defaults, in the form that `parse` reads."""
        words = []
        for name in sorted(self.model_fields_set):
            value, dashed = getattr(self, name), name.replace("_", "-")
            if value == type(self).model_fields[name].default:
                continue
            words.append(
                {True: dashed, False: f"no-{dashed}"}[value] if isinstance(value, bool) else f"{dashed}={value}"
            )
        return ",".join(words)


def _usage() -> str:
    names = (f"{name}{'' if name in SWITCHES else '=...'}" for name in SpeedOptions.model_fields)
    return ", ".join(name.replace("_", "-") for name in names) + ", or no- before a switch"
