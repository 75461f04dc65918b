"""ComfyUI's workflows as its page saves them, turned into the prompts that its HTTP interface takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

# Nodes of the page alone.
NOTES = ("Note", "MarkdownNote")
# Types whose inputs have a widget; an input of another type has a socket only.
WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
# Endings of values that name a file.
FILES = (".safetensors", ".png", ".jpg")
# Names of inputs that get a second widget, which changes their value after each run, where their definition is silent.
SEEDS = ("seed", "noise_seed")

Node = dict[str, Any]
Workflow = dict[str, Any]


def to_prompt(workflow: Workflow, definitions: Mapping[str, Any]) -> dict[str, Node]:
    """The prompt of a workflow.

    Args:
        workflow: as the page saves it (version 0.4).
        definitions: of nodes, by class, as `/object_info` gives them.

    Returns:
        Class and inputs of each node, by its number.

    Raises:
        ValueError: the workflow does not fit the definitions; the message says where.
    """
    links = {link[0]: link for link in workflow["links"]}
    nodes = {node["id"]: node for node in workflow["nodes"]}
    prompt: dict[str, Node] = {}
    for number, node in nodes.items():
        if node["type"] in NOTES:
            continue
        if node["type"] not in definitions:
            raise ValueError(f"there is no node {node['type']!r}")
        definition = definitions[node["type"]]
        inputs = widget_values(node, definition)
        for socket in node.get("inputs", []):
            if socket.get("link") is None:
                continue
            _, source, output, target, position, kind = links[socket["link"]]
            if target != number or node["inputs"][position] is not socket:
                raise ValueError(f"link {socket['link']} does not end at {socket['name']!r} of node {number}")
            _check_link(kind, nodes[source], output, definitions, input_type(definition, socket["name"]))
            inputs[socket["name"]] = [str(source), output]
        missing = set(definition["input"].get("required", {})) - set(inputs)
        if missing:
            raise ValueError(f"{min(missing)!r} of node {number} ({node['type']}) is not connected")
        prompt[str(number)] = {"class_type": node["type"], "inputs": inputs}
    return prompt


def widget_values(node: Node, definition: Mapping[str, Any]) -> Node:
    """The values of a node's widgets by the names of its inputs.

    Raises:
        ValueError: they are more or fewer than its widgets, or a choice is none of its options.
    """
    values = iter(node.get("widgets_values") or [])
    found: Node = {}
    for name, (kind, options) in inputs_of(definition).items():
        if not is_widget(kind):
            continue
        try:
            value = next(values)
        except StopIteration:
            raise ValueError(f"{name!r} of {node['type']} has no value") from None
        found[name] = value
        _check_value(value, kind, options, f"{name!r} of {node['type']}")
        # Widgets of the page alone, which are saved among the values.
        if options.get("control_after_generate", name in SEEDS) and kind == "INT":
            next(values)
        if options.get("image_upload"):
            next(values)
    left = list(values)
    if left:
        raise ValueError(f"{node['type']} has values too many: {left}")
    return found


def inputs_of(definition: Mapping[str, Any]) -> dict[str, tuple[Any, dict[str, Any]]]:
    """Type and options of each input, in the order of the page."""
    return {
        name: (spec[0], spec[1] if len(spec) > 1 else {})
        for group in ("required", "optional")
        for name, spec in definition["input"].get(group, {}).items()
    }


def input_type(definition: Mapping[str, Any], name: str) -> str:
    """The type of one input.

    Raises:
        ValueError: there is no such input.
    """
    inputs = inputs_of(definition)
    if name not in inputs:
        raise ValueError(f"there is no input {name!r}")
    kind = inputs[name][0]
    return "COMBO" if isinstance(kind, list) else str(kind)


def is_widget(kind: Any) -> bool:
    """Whether inputs of a type have a widget."""
    return isinstance(kind, list) or kind in WIDGETS


def _check_value(value: Any, kind: Any, options: Mapping[str, Any], where: str) -> None:
    choices = kind if isinstance(kind, list) else options.get("options")
    # Which files are offered depends on the machine.
    if choices and not str(value).endswith(FILES) and value not in choices:
        raise ValueError(f"{value!r} is no choice of {where}")
    if kind in ("INT", "FLOAT") and not options.get("min", value) <= value <= options.get("max", value):
        raise ValueError(f"{value!r} is out of range for {where}")


def _check_link(kind: str, source: Node, output: int, definitions: Mapping[str, Any], wanted: str) -> None:
    given = definitions[source["type"]]["output"][output]
    given = "COMBO" if isinstance(given, list) else given
    if not (given == kind and wanted in (given, "*")):
        raise ValueError(f"a link of {kind} goes from {given} of {source['type']} to {wanted}")
