"""Every language names every node, input and output there is, and nothing else; English is what the schemas say.

After a change of a schema's texts, translate by hand, and bring the English along with

    python tests/host/test_locales.py
"""

import json
import tempfile
from pathlib import Path

import pytest

LOCALES = Path(__file__).resolve().parents[2] / "locales"
LANGUAGES = ("ko", "ja", "zh")
SAME = {"CLIP", "VAE", "LiDB", "LoRA", "HyperNet"}
"""Names that are the same in every language."""
SYNTAX = set("{}|@")
"""The frontend takes these characters for commands of its message format."""


def english(object_info: dict) -> dict:
    """What ``locales/en/nodeDefs.json`` must hold, from the schemas as the host serves them."""
    nodes = {}
    for node, info in object_info.items():
        if not node.startswith("HDB_"):
            continue
        inputs = {}
        for group in ("required", "optional"):
            for name, (_, more) in (info["input"].get(group) or {}).items():
                inputs[name] = {"name": more.get("display_name") or name, "tooltip": more["tooltip"]}
                if more.get("control_after_generate"):  # the frontend adds a widget of this name
                    inputs["control_after_generate"] = {"name": "control after generate"}
        outputs = zip(info["output_name"], info["output_tooltips"], strict=True)
        nodes[node] = {
            "display_name": info["display_name"],
            "description": info["description"],
            "inputs": inputs,
            "outputs": {str(i): {"name": name, "tooltip": tooltip} for i, (name, tooltip) in enumerate(outputs)},
        }
    return nodes


def texts(tree: dict, path: str = "") -> dict[str, str]:
    """Nested names -> one path per text."""
    found = {}
    for key, value in tree.items():
        below = f"{path}.{key}" if path else key
        found |= texts(value, below) if isinstance(value, dict) else {below: value}
    return found


def read(language: str) -> dict[str, str]:
    return texts(json.loads((LOCALES / language / "nodeDefs.json").read_text("utf-8")))


def test_english_is_what_the_schemas_say(host):
    assert read("en") == texts(english(host.object_info())), "Run python tests/host/test_locales.py, then translate."


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_language_has_every_text_translated_and_no_other(host, language):
    schema, found = texts(english(host.object_info())), read(language)
    assert set(found) == set(schema)
    same = {path: text for path, text in found.items() if text.casefold() == schema[path].casefold()}
    assert set(same.values()) <= SAME, same
    assert not [path for path, text in found.items() if not text.strip() or SYNTAX & set(text)]


def test_the_host_finds_these_languages_and_no_other_file(host):
    from app.custom_node_manager import CustomNodeManager

    served = CustomNodeManager().build_translations()
    ours = {language: texts(tree["nodeDefs"]) for language, tree in served.items()}
    assert ours == {language: read(language) for language in ("en", *LANGUAGES)}


if __name__ == "__main__":
    from hyperdreambooth.cli.headless import HeadlessHost

    nodes = english(HeadlessHost(Path(tempfile.mkdtemp())).object_info())
    target = LOCALES / "en" / "nodeDefs.json"
    target.write_text(json.dumps(nodes, indent=1) + "\n", "utf-8")
    print(f"{target}: {len(nodes)} nodes")
