"""The house: what each room may import. Lazy and type-only imports count as well."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import refgc

PACKAGE = Path(refgc.__file__).parent

# From the ground up. A room imports from its own floor and from those beneath it. A room is a folder of the package, or
# a file that stands directly in it. Rooms that are not built yet have their floor as well.
FLOORS: tuple[frozenset[str], ...] = tuple(
    map(
        frozenset,
        (
            {"__init__", "errors", "settings", "machine", "imaging"},
            {"engine", "request", "hub", "runner", "weight_files", "wheels"},
            {"masks"},
            {"correspondence", "surroundings"},
            {"flux"},
            {"model"},
            {"simulator"},
            {"diptych"},
            {"metrics"},
            {"dataset"},
            {"training"},
            {"refinement", "doctor"},
            {"outputs", "batch", "pairs", "watch", "terminal", "serve"},
            {"evaluation"},
            {"webui"},
            {"review", "study", "page"},
            {"cli", "__main__"},
        ),
    )
)
FLOOR_OF = {room: floor for floor, rooms in enumerate(FLOORS) for room in rooms}
# The public names are found in the rooms above when somebody first asks for them.
PUBLIC = "__init__"


def module_name(file: Path, package: Path = PACKAGE) -> str:
    """Such as "refgc.masks.grabcut"."""
    parts = ("refgc", *file.relative_to(package).with_suffix("").parts)
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room_of(module: str) -> str:
    """The room that a module lies in."""
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else PUBLIC


def imports_of(source: str, modules: frozenset[str]) -> Iterator[str]:
    """Every module of the package that a source imports, wherever in it the import stands."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name in modules)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "relative imports are not used here"
            for alias in node.names:
                named = f"{node.module}.{alias.name}"
                if named in modules:
                    yield named
                elif node.module in modules:
                    yield str(node.module)


def graph_of(package: Path) -> dict[str, set[str]]:
    """What each module of a package imports from it."""
    files = {module_name(file, package): file for file in package.rglob("*.py")}
    return {
        module: set(imports_of(file.read_text(encoding="utf-8"), frozenset(files))) for module, file in files.items()
    }


def faults_of(graph: Mapping[str, set[str]]) -> list[str]:
    """Imports that go up, one line each."""
    return [
        f"{module} imports {imported}"
        for module, imports in sorted(graph.items())
        for imported in sorted(imports)
        if room_of(module) != PUBLIC and FLOOR_OF[room_of(imported)] > FLOOR_OF[room_of(module)]
    ]


def circle_in(graph: Mapping[str, set[str]]) -> list[str]:
    """The modules of one import circle; empty where there is none."""
    below = {module: imports - {module, "refgc"} for module, imports in graph.items()}
    try:
        TopologicalSorter(below).prepare()
    except CycleError as error:
        return list(error.args[1])
    return []


def test_every_room_has_a_floor():
    assert {room_of(module) for module in graph_of(PACKAGE)} <= set(FLOOR_OF)


def test_no_room_imports_from_a_floor_above():
    assert faults_of(graph_of(PACKAGE)) == []


def test_there_is_no_import_circle():
    assert circle_in(graph_of(PACKAGE)) == []


def test_only_the_entry_and_its_command_import_the_page():
    importers = {module for module, imports in graph_of(PACKAGE).items() if any(map(is_of_page, imports))}
    assert {module for module in importers if not is_of_page(module)} <= {"refgc.cli.page"}


def is_of_page(module: str) -> bool:
    """Whether a module lies in the page."""
    return room_of(module) == "page"


@pytest.mark.parametrize(
    "line",
    [
        "from refgc.page import app",
        "import refgc.page.app",
        "def late():\n    from refgc.page.app import build",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from refgc.page.app import build",
    ],
)
def test_an_import_that_goes_up_is_seen_wherever_it_stands(tmp_path, line):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "__init__.py").touch()
    (tmp_path / "page" / "app.py").touch()
    (tmp_path / "errors.py").write_text(line)
    (fault,) = faults_of(graph_of(tmp_path))
    assert fault.startswith("refgc.errors imports refgc.page")


def test_a_circle_is_seen_though_one_of_its_imports_is_lazy(tmp_path):
    (tmp_path / "hub.py").write_text("from refgc.request import name")
    (tmp_path / "request.py").write_text("def late():\n    from refgc import hub")
    assert set(circle_in(graph_of(tmp_path))) == {"refgc.hub", "refgc.request"}


def private_names(source: str) -> list[str]:
    """What a source takes from the package beside its public names, wherever in it the import stands."""
    found: list[str] = []
    tree = ast.parse(source)
    for node in ast.walk(tree):
        match node:
            case ast.Import():
                found += [alias.name for alias in node.names if alias.name.startswith("refgc.")]
            case ast.ImportFrom(module=str(module), level=0) if module.partition(".")[0] == "refgc":
                taken = [alias.name for alias in node.names]
                found += [f"{module}.{name}" for name in taken if module != "refgc" or name not in refgc.__all__]
            case ast.Attribute(value=ast.Name(id="refgc"), attr=name) if name not in refgc.__all__:
                found.append(f"refgc.{name}")
    return found


def test_integrations_use_public_names_only():
    files = sorted((PACKAGE.parent / "integrations").rglob("*.py"))
    assert files
    assert {file.name: private_names(file.read_text(encoding="utf-8")) for file in files} == {
        file.name: [] for file in files
    }


@pytest.mark.parametrize(
    "line",
    [
        "from refgc.imaging.image import open_image",
        "def late():\n    import refgc.settings",
        "from refgc import settings",
        "import refgc\nrefgc.settings.settings()",
    ],
)
def test_a_private_name_is_seen_wherever_it_stands(line):
    assert private_names(line)
    assert private_names("import refgc\nfrom refgc import refine\nrefgc.preview()") == []
