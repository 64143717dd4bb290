"""A workflow as users save it (UI format) -> the graph that ComfyUI executes (API format), as the frontend converts it.

Handles what our workflows and most graphs use: link arrays, widget order, the extra slot after seeds and uploads,
notes, reroutes, muted and bypassed nodes. Subgraphs are not handled and say so.
"""

import json
from collections.abc import Iterator
from pathlib import Path

WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COLOR"}
NOT_EXECUTED = {"Note", "MarkdownNote"}
UPLOADS = ("image_upload", "audio_upload", "video_upload", "file_upload")
MUTED, BYPASSED = 2, 4


def load_workflow(path: str | Path) -> dict:
    """Read a UI-format file.

    Raises:
        ValueError: it is no such file.
    """
    workflow = json.loads(Path(path).read_text())
    if "nodes" not in workflow or "links" not in workflow:
        raise ValueError(f"{path} is not a workflow in UI format (no nodes and links). Save it with Workflow > Save.")
    return workflow


def _inputs(info: dict) -> Iterator[tuple[str, object, dict]]:
    for group in ("required", "optional"):
        specs = info["input"].get(group) or {}
        for name in (info.get("input_order") or {}).get(group) or specs:
            spec = specs[name]
            yield name, spec[0], (spec[1] if len(spec) > 1 else None) or {}


def widget_names(info: dict) -> list[str | None]:
    """Input names in the order of ``widgets_values``; None for slots that are the frontend's own."""
    names: list[str | None] = []
    for name, kind, options in _inputs(info):
        if options.get("forceInput") or not (isinstance(kind, list) or kind in WIDGETS):
            continue
        names.append(name)
        if options.get("control_after_generate") or (name in ("seed", "noise_seed") and kind == "INT"):
            names.append(None)
        if any(options.get(key) for key in UPLOADS):
            names.append(None)
    return names


def to_api(workflow: dict, object_info: dict) -> dict:
    """Convert.

    Args:
        workflow: UI format. object_info: the host's node descriptions.

    Raises:
        ValueError: an unknown node type, a missing widget value or a broken link, with the node's id and type.
    """
    nodes = {node["id"]: node for node in workflow["nodes"]}
    links = {link[0]: link for link in workflow["links"]}

    def source(link_id: int | None) -> list | None:
        if link_id is None:
            return None
        if link_id not in links:
            raise ValueError(f"Link {link_id} does not exist in this workflow.")
        _, origin, slot, *_ = links[link_id]
        node = nodes[origin]
        if node["type"] == "Reroute":
            return source(node["inputs"][0].get("link"))
        if node.get("mode") == MUTED:
            return None
        if node.get("mode") == BYPASSED:
            kind = node["outputs"][slot]["type"]
            same = next((i for i in node.get("inputs", []) if i["type"] == kind), None)
            return source(same.get("link")) if same else None
        return [str(origin), slot]

    api = {}
    for node in workflow["nodes"]:
        if node["type"] in NOT_EXECUTED | {"Reroute"} or node.get("mode") in (MUTED, BYPASSED):
            continue
        info = object_info.get(node["type"])
        if info is None:
            raise ValueError(f"Node {node['id']}: the type {node['type']!r} is not installed (or is a subgraph).")
        names, values = widget_names(info), node.get("widgets_values") or []
        if len(values) < len([n for n in names if n]):
            raise ValueError(f"Node {node['id']} {node['type']}: {len(values)} widget values for {names}.")
        inputs = {name: value for name, value in zip(names, values, strict=False) if name}
        for slot in node.get("inputs", []):
            origin = source(slot.get("link"))
            if origin is not None:
                inputs[slot["name"]] = origin
        api[str(node["id"])] = {"class_type": node["type"], "inputs": inputs}
    return api


def find(api: dict, class_type: str) -> str:
    """Id of the only node of a type.

    Raises:
        ValueError: none, or several.
    """
    found = [key for key, node in api.items() if node["class_type"] == class_type]
    if len(found) != 1:
        raise ValueError(f"The workflow has {len(found)} nodes of type {class_type}, expected one.")
    return found[0]
