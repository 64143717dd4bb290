"""Saved workflows keep loading: no released node id, input or output disappears, no widget changes its place.

``schemas.json`` is what has been released. Add to it with

    python tests/host/test_schema_snapshot.py
"""

import json
import tempfile
from pathlib import Path

SNAPSHOT = Path(__file__).with_name("schemas.json")
WIDGETS = {"INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "COMFY_DYNAMICCOMBO_V3"}
ADVICE = (
    "A workflow that somebody saved would break. Give it back; if it really must go, keep the old id as a deprecated node or "
    "register a node replacement, and say so in the changelog."
)


def schemas(object_info: dict) -> dict:
    """Node id -> inputs ``[name, type, required]`` and outputs ``[name, type]``, both in the order that files rely on."""
    found = {}
    for name, info in sorted(object_info.items()):
        if name.startswith("HDB_"):
            inputs = [
                [key, spec[0] if isinstance(spec[0], str) else "COMBO", group == "required"]
                for group in ("required", "optional")
                for key, spec in (info["input"].get(group) or {}).items()
            ]
            outputs = [list(pair) for pair in zip(info["output_name"], info["output"], strict=True)]
            choices = {
                key: spec[1]["options"]
                for group in ("required", "optional")
                for key, spec in (info["input"].get(group) or {}).items()
                if spec[0] == "COMBO"
                and not key.endswith("_name")  # lists of files differ from one machine to the next
            }
            found[name] = {"inputs": inputs, "outputs": outputs, "choices": choices}
    return found


def broken(released: dict, now: dict) -> list[str]:
    """What a saved workflow would miss, one sentence each."""
    faults = []
    for name, old in released.items():
        if name not in now:
            faults.append(f"{name}: the node is gone.")
            continue
        new = now[name]
        optional = {key for key, _, required in new["inputs"] if not required}
        kinds = {key: kind for key, kind, _ in new["inputs"]}
        for key, kind, required in old["inputs"]:
            if kinds.get(key) != kind:
                faults.append(f"{name}.{key}: the input was {kind}, now it is {kinds.get(key, 'gone')}.")
            elif not required and key not in optional:
                faults.append(f"{name}.{key}: the input was optional and is now required.")
        widgets = [[key for key, kind, _ in side["inputs"] if kind in WIDGETS] for side in (old, new)]
        if widgets[1][: len(widgets[0])] != widgets[0]:
            faults.append(
                f"{name}: the widgets were {widgets[0]} and are now {widgets[1]}; files hold their values by place, so new ones go to the end."
            )
        if new["outputs"][: len(old["outputs"])] != old["outputs"]:
            faults.append(
                f"{name}: the outputs were {old['outputs']} and are now {new['outputs']}; links hold their number, so new ones go to the end."
            )
        for key, kind, required in new["inputs"]:
            if required and kind not in WIDGETS and key not in {k for k, *_ in old["inputs"]}:
                faults.append(f"{name}.{key}: a new input without a value of its own cannot be required.")
        for key, choices in old["choices"].items():
            gone = [choice for choice in choices if choice not in new["choices"].get(key, [])]
            if gone:
                faults.append(f"{name}.{key}: the choices {gone} are gone.")
    return faults


def test_no_released_part_of_a_node_disappears(host):
    faults = broken(json.loads(SNAPSHOT.read_text()), schemas(host.object_info()))
    assert not faults, "\n".join([*faults, ADVICE])


def test_everything_there_is_now_is_in_the_snapshot(host):
    """What is not recorded is not protected."""
    same = json.loads(SNAPSHOT.read_text()) == schemas(host.object_info())
    assert same, "Nodes, inputs or outputs are new. Record them: python tests/host/test_schema_snapshot.py"


def test_the_check_sees_what_breaks_workflows(host):
    released = schemas(host.object_info())

    def changed(name, part, change):
        now = json.loads(json.dumps(released))
        change(now[name][part] if part else now)
        return broken(released, now)

    assert broken(released, released) == []
    finetune, apply = "HDB_RankRelaxedFinetune", "HDB_ApplyLiDB"
    for faults, says in (
        (changed(None, None, lambda now: now.pop(apply)), f"{apply}: the node is gone"),
        (changed(apply, "inputs", lambda i: i.pop(0)), "model: the input was MODEL, now it is gone"),
        (changed(apply, "inputs", lambda i: i.reverse()), "widgets were"),
        (changed(apply, "inputs", lambda i: i.insert(3, ["new", "INT", True])), "new ones go to the end"),
        (changed(apply, "inputs", lambda i: i.append(["vae", "VAE", True])), "cannot be required"),
        (changed(apply, "outputs", lambda o: o.insert(0, ["new", "INT"])), "outputs were"),
        (changed(finetune, "choices", lambda c: c["space"].remove("full")), "choices ['full'] are gone"),
    ):
        assert any(says in fault for fault in faults), (says, faults)
    assert changed(apply, "inputs", lambda i: i.append(["new", "INT", True])) == []
    assert changed(apply, "outputs", lambda o: o.append(["new", "INT"])) == []


if __name__ == "__main__":
    from hyperdreambooth.cli.headless import HeadlessHost

    now = schemas(HeadlessHost(Path(tempfile.mkdtemp())).object_info())
    released = json.loads(SNAPSHOT.read_text()) if SNAPSHOT.exists() else {}
    if faults := broken(released, now):
        raise SystemExit("\n".join([*faults, ADVICE]))
    SNAPSHOT.write_text(json.dumps(now, indent=1) + "\n")
    print(f"{SNAPSHOT}: {len(now)} nodes")
