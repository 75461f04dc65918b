"""The list of methods of a comparison: descriptions of the command line, or a TOML file."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import cast

from pydantic import BaseModel, ConfigDict, ValidationError

from refgc.dataset.settings import read_toml
from refgc.errors import InputError, first_fault, quoted
from refgc.evaluation.methods import (
    MASKS,
    RESAMPLINGS,
    Command,
    Correspondence,
    Diffusion,
    Enlargement,
    Method,
    Oracle,
    ResultFolder,
)
from refgc.request import Surroundings, checked_surroundings

LONGEST_LABEL = 60


@dataclass(frozen=True, slots=True)
class NamedMethod:
    """A method of a comparison.

    Attributes:
        label: in tables; unique.
        description: as it was given.
        method: how its results are made.
        finetuned: whether it was tuned on the dataset that it is measured on, as the asterisk in tables says.
        components: what an ablation switched on for it.
    """

    label: str
    description: str
    method: Method
    finetuned: bool = False
    components: tuple[str, ...] = ()

    @property
    def is_oracle(self) -> bool:
        """Whether it is no method but a bound."""
        return isinstance(self.method, Oracle)

    @property
    def folder(self) -> str:
        """The name of the folder of its results."""
        return re.sub(r"[^\w.-]+", "-", self.label).strip(".-") or "method"


def parse_method(description: str) -> NamedMethod:
    """A method by its description.

    `bicubic`, `lanczos`, `enlargement`, `correspondence`, `diffusion`, `oracle`, `folder:PATH`, `command:COMMAND`.
    Options follow after a colon, separated by semicolons: `correspondence:surroundings=best;masks=reference`,
    `diffusion:lora=PATH;base=klein`. A label goes before it, `LABEL=DESCRIPTION`, or after a folder,
    `folder:PATH=LABEL`. A label that ends in an asterisk marks a method that was tuned on the dataset.

    Raises:
        InputError: it is none.
    """
    label, rest = "", description.strip()
    if named := re.fullmatch(r"([^:=]+)=(.+)", rest, re.DOTALL):
        label, rest = named[1].strip(), named[2].strip()
    kind, _, options = rest.partition(":")
    if kind == "folder" and not label and not Path(options).is_dir() and "=" in options:
        options, _, label = options.rpartition("=")
    method = _method_of(kind.strip(), options.strip(), description)
    finetuned = label.endswith("*")
    label = label.removesuffix("*").strip() or method.default_label
    if not label.isprintable() or len(label) > LONGEST_LABEL:
        raise InputError(
            f"The label {quoted(label)} cannot be used; write one line of at most {LONGEST_LABEL} characters."
        )
    return NamedMethod(label, rest, method, finetuned)


class _Row(BaseModel):
    """A method in a TOML file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    method: str
    label: str | None = None
    finetuned: bool = False
    components: tuple[str, ...] = ()


class _MethodsFile(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    methods: tuple[_Row, ...]


def read_methods(file: Path) -> list[NamedMethod]:
    """The methods of a TOML file, in its order.

    It has a table `[[methods]]` for each, with `method`, its description as for `parse_method`, and where wanted
    `label`, `finetuned` (true or false) and `components`, a list of what an ablation switched on for it. Paths are
    relative to the working folder.

    Raises:
        InputError: the file or a method in it cannot be used.
    """
    try:
        rows = _MethodsFile.model_validate(read_toml(file)).methods
    except ValidationError as error:
        raise InputError(f"{quoted(str(file))} cannot be used: {_told(error)}.") from error
    found = []
    for row in rows:
        named = parse_method(row.method if row.label is None else f"{_plain(row.label)}={row.method}")
        found.append(replace(named, finetuned=named.finetuned or row.finetuned, components=row.components))
    return found


def _told(error: ValidationError) -> str:
    """What is wrong with a file of methods, in words of TOML."""
    first = error.errors(include_url=False, include_input=False)[0]
    field, fault = first_fault(error)
    where = f"method {first['loc'][1] + 1}, " if len(first["loc"]) > 2 and isinstance(first["loc"][1], int) else ""
    key = str(first["loc"][-1])
    match first["type"]:
        case "extra_forbidden":
            known = ", ".join(_Row.model_fields) if where else "methods"
            return f"{where}{quoted(key)} is no key; write {known}"
        case "missing" if not where and key == "methods":
            return "it has no [[methods]]; write one for each method"
        case "missing":
            return f"{where or 'a method, '}{quoted(key)} is missing"
        case "tuple_type":
            return f"{where}{quoted(key)} should be a list, in square brackets"
    return f"{field}: {fault}"


def _plain(label: str) -> str:
    if not label.strip():
        raise InputError("A label is empty; write one, or leave the key label out.")
    if set(label) & set(":="):
        raise InputError(f"The label {quoted(label)} cannot have a colon or an equals sign; write another.")
    return label


def parse_methods(text: str) -> list[NamedMethod]:
    """Methods of a list with commas; a command, which may have commas itself, is given alone."""
    if "command:" in text:
        return [parse_method(text)]
    return [parse_method(part) for part in text.split(",") if part.strip()]


def check_methods(methods: Iterable[NamedMethod]) -> list[NamedMethod]:
    """The methods, where they can run here and are called differently.

    Raises:
        InputError: there are none, two have one label, or an option cannot be used.
        EngineError: what one needs is not on this machine.
    """
    checked = list(methods)
    if not checked:
        raise InputError("There is no method to compare; give one, such as --methods lanczos,correspondence.")
    for index, one in enumerate(checked):
        for other in checked[:index]:
            if one.folder.lower() == other.folder.lower():
                raise InputError(
                    f"Two methods are called {quoted(one.label)} and {quoted(other.label)}, which is too alike; give "
                    "another label, as in LABEL=correspondence."
                )
    for one in checked:
        one.method.check()
    return checked


def _method_of(kind: str, options: str, description: str) -> Method:
    match kind:
        case "bicubic" | "lanczos" | "enlargement" | "oracle" if options:
            raise InputError(f"The method {kind} has no options; leave {quoted(options)} out.")
        case "bicubic" | "lanczos" | "enlargement":
            return Enlargement(kind)
        case "oracle":
            return Oracle()
        case "correspondence":
            given = _options(options, ("surroundings", "masks"), description)
            masks = given.get("masks", "found")
            if masks not in MASKS:
                raise InputError(f"The masks of {quoted(description)} are {quoted(masks)}; use {', '.join(MASKS)}.")
            surroundings = cast(Surroundings, given.get("surroundings", "plain"))
            return Correspondence(checked_surroundings(surroundings), masks)
        case "diffusion":
            given = _options(options, ("lora", "base"), description)
            return Diffusion(given.get("base"), given.get("lora"))
        case "folder" if options:
            return ResultFolder(Path(options))
        case "command" if options:
            return Command(options)
    known = ", ".join((*RESAMPLINGS, "correspondence", "diffusion", "oracle", "folder:PATH", "command:COMMAND"))
    raise InputError(f"There is no method {quoted(description)}; use {known}, each with LABEL= before it if you like.")


def _options(text: str, known: tuple[str, ...], description: str) -> dict[str, str]:
    found = dict[str, str]()
    for part in filter(None, text.split(";")):
        name, equals, value = part.partition("=")
        if name not in known or not equals or not value:
            raise InputError(
                f"{quoted(part)} is no option of the method {quoted(description)}; write {' or '.join(known)}, an "
                "equals sign and a value."
            )
        found[name] = value
    return found
