"""Files dropped on the canvas, thumbnails, reports and translations, in the real frontend."""

import io
import json
from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from hyperdreambooth.lidb.basis import Basis
from hyperdreambooth.lidb.file import load_lidb, save_lidb
from hyperdreambooth.lidb.targets import Target, TargetTable
from hyperdreambooth.lidb.value import Facts, LiDB

LOCALES = Path(__file__).resolve().parents[2] / "locales"
TABLE = TargetTable((Target("lora_unet_a_attn1_to_q", 40, 30), Target("lora_te_c", 32, 30)))
EMPTY = {"nodes": [], "links": [], "version": 0.4, "last_node_id": 0, "last_link_id": 0}
EMPTY_GRAPH = "async (empty) => { await app.loadGraphData(empty); app.extensionManager.toast.removeAll() }"
MIDDLE = (900, 500)
WAIT = 60_000  # ms


def person(seed: int, colour: str) -> LiDB:
    jpeg = io.BytesIO()
    Image.new("RGB", (64, 64), colour).save(jpeg, "JPEG")
    g = torch.Generator().manual_seed(seed)
    A, B = torch.randn(2, 16, 1, generator=g), torch.randn(2, 1, 8, generator=g)
    facts = Facts(trigger="[V] face", base="Faceworld", thumbnail=jpeg.getvalue())
    return LiDB(TABLE, Basis(a=16, b=8, seed=3), A, B, frozen_rank=1, facts=facts)


@pytest.fixture
def canvas(page):
    """An empty graph; messages of earlier tests are gone."""
    page.evaluate(EMPTY_GRAPH, EMPTY)
    return page


def drop(page, x: float, y: float, *paths: Path) -> None:
    """Files let go over the canvas, as the browser itself reports it: trusted events, the real files."""
    bare = "([x, y]) => document.elementFromPoint(x, y)?.id === 'graph-canvas'"  # the host's spinner of an earlier drop is gone
    page.wait_for_function(bare, arg=[x, y], timeout=WAIT)
    data = {"items": [], "files": [str(path) for path in paths], "dragOperationsMask": 1}
    devtools = page.context.new_cdp_session(page)
    for kind in ("dragEnter", "dragOver", "drop"):
        devtools.send("Input.dispatchDragEvent", {"type": kind, "x": x, "y": y, "data": data})
    devtools.detach()


def wait_for_choice(page, name: str) -> None:
    page.wait_for_function("name => app.graph.nodes.some(n => n.widgets?.[0].value === name)", arg=name, timeout=WAIT)


def wait_for_message(page, text: str) -> None:
    page.wait_for_function("text => document.body.innerText.includes(text)", arg=text, timeout=WAIT)


def choices(page) -> list:
    return page.evaluate("app.graph.nodes.map(n => [n.type, n.widgets?.[0].value])")


def test_a_dropped_lidb_becomes_load_lidb_and_shows_its_picture(canvas, base, tmp_path):
    mum = person(0, "red")
    save_lidb(tmp_path / "mum.lidb.safetensors", mum)
    drop(canvas, *MIDDLE, tmp_path / "mum.lidb.safetensors")
    wait_for_choice(canvas, "received/mum.lidb.safetensors")
    assert choices(canvas) == [["HDB_LoadLiDB", "received/mum.lidb.safetensors"]]
    stored = base / "output" / "lidb" / "received" / "mum.lidb.safetensors"
    assert torch.equal(load_lidb(stored).A_train, mum.A_train)
    corner = canvas.evaluate("app.canvasPosToClientPos([...app.graph.nodes[0].pos])")
    assert max(abs(a - b) for a, b in zip(corner, MIDDLE, strict=True)) < 2  # where it was let go
    picture = canvas.locator("img[alt='\"[V] face\" (Faceworld, predicted)']")
    picture.wait_for(state="visible", timeout=WAIT)
    assert picture.evaluate("p => [p.naturalWidth, p.naturalHeight]") == [64, 64]


def test_the_same_file_is_stored_once_and_another_of_its_name_beside_it(canvas, base, tmp_path):
    folder = base / "output" / "lidb" / "received"
    save_lidb(tmp_path / "green", person(1, "green"))
    save_lidb(tmp_path / "blue", person(2, "blue"))
    for i, source in enumerate(["green", "green", "blue"], 1):  # the same bytes: saving twice orders metadata anew
        path = tmp_path / str(i) / "twin.safetensors"
        path.parent.mkdir()
        path.write_bytes((tmp_path / source).read_bytes())
        drop(canvas, 400 * i, 500, path)
        canvas.wait_for_function("count => app.graph.nodes.length === count", arg=i, timeout=WAIT)
    wait_for_choice(canvas, "received/twin (1).safetensors")
    first, again, other = (name for _, name in choices(canvas))
    assert first == again == "received/twin.safetensors" and other == "received/twin (1).safetensors"
    assert torch.equal(load_lidb(folder / "twin.safetensors").A_train, person(1, "green").A_train)
    assert torch.equal(load_lidb(folder / "twin (1).safetensors").A_train, person(2, "blue").A_train)


def test_several_files_at_once_become_nodes_beside_each_other(canvas, tmp_path):
    paths = [tmp_path / "one.safetensors", tmp_path / "two.safetensors"]
    for seed, path in enumerate(paths):
        save_lidb(path, person(seed, "gray"))
    drop(canvas, *MIDDLE, *paths)
    canvas.wait_for_function(
        "app.graph.nodes.length === 2 && app.graph.nodes.every(n => n.widgets[0].value)", timeout=WAIT
    )
    assert sorted(name for _, name in choices(canvas)) == ["received/one.safetensors", "received/two.safetensors"]
    first, second = canvas.evaluate("app.graph.nodes.map(n => [...n.pos])")
    assert first != second  # none hides the other


def test_dropped_on_load_lidb_a_file_is_selected_there(canvas, tmp_path):
    node = "(() => { const n = LiteGraph.createNode('HDB_LoadLiDB'); n.pos = [500, 300]; app.graph.add(n) })()"
    canvas.evaluate(node)
    canvas.wait_for_timeout(500)  # drawn once
    x, y = canvas.evaluate("app.canvasPosToClientPos([600, 310])")
    save_lidb(tmp_path / "aunt.safetensors", person(3, "yellow"))
    drop(canvas, x, y, tmp_path / "aunt.safetensors")
    wait_for_choice(canvas, "received/aunt.safetensors")
    save_file({"lora_unet_a.lora_up.weight": torch.zeros(2, 2)}, tmp_path / "style.safetensors")
    drop(canvas, x, y, tmp_path / "style.safetensors")
    wait_for_message(canvas, "style.safetensors is not a LiDB")
    assert choices(canvas) == [["HDB_LoadLiDB", "received/aunt.safetensors"]]


def test_a_drop_that_reaches_the_node_without_itself_is_received(canvas, tmp_path):
    """App mode takes the node's handler away from the node."""
    canvas.evaluate("app.graph.add(LiteGraph.createNode('HDB_LoadLiDB'))")
    save_lidb(tmp_path / "uncle.safetensors", person(4, "green"))
    drop_on_handler = """async (bytes) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([new Uint8Array(bytes)], "uncle.safetensors"));
        const { onDragDrop } = app.graph.nodes[0];
        return onDragDrop(new DragEvent("drop", { dataTransfer: transfer }));
    }"""
    assert canvas.evaluate(drop_on_handler, list((tmp_path / "uncle.safetensors").read_bytes()))
    wait_for_choice(canvas, "received/uncle.safetensors")


def test_file_names_may_hold_the_date_and_other_nodes_values(canvas):
    canvas.evaluate("""() => {
        for (const kind of ["HDB_SaveLiDB", "HDB_ExportLoRA"]) app.graph.add(LiteGraph.createNode(kind));
        for (const node of app.graph.nodes) {
            node.widgets.find((w) => w.name === "filename_prefix").value = "lidb/%date:yyyy%/x";
        }
    }""")
    sent = canvas.evaluate("(async () => (await app.graphToPrompt()).output)()")
    year = canvas.evaluate("String(new Date().getFullYear())")
    assert [node["inputs"]["filename_prefix"] for node in sent.values()] == [f"lidb/{year}/x"] * 2
    assert canvas.evaluate("app.graph.nodes[0].widgets[0].value") == "lidb/%date:yyyy%/x"


def test_the_list_of_files_shows_everybodys_picture_and_other_lists_none(frontend, canvas, base):
    folder = base / "output" / "lidb"
    folder.mkdir(exist_ok=True)
    for seed, colour in enumerate(("orange", "navy")):
        save_lidb(folder / f"list_{colour}.safetensors", person(seed, colour))
    for i in range(40):  # more than a screen is high
        save_lidb(folder / f"many_{i:02d}.safetensors", person(i, "teal"))
    faceless = person(2, "gray")
    save_lidb(folder / "list_none.safetensors", faceless.with_facts(thumbnail=b""))
    canvas.evaluate("app.refreshComboInNodes()")
    add = "type => { const n = LiteGraph.createNode(type); n.pos = [500, 300]; app.graph.add(n) }"
    shown = "name => document.querySelector(`.litemenu-entry[data-value='${name}'] img`)?.naturalWidth"
    for kind in ("HDB_LoadLiDB", "HDB_LoadHyperNet"):
        canvas.evaluate(EMPTY_GRAPH, EMPTY)
        canvas.evaluate(add, kind)
        canvas.wait_for_timeout(500)  # drawn once
        x, y = canvas.evaluate("app.canvasPosToClientPos([650, 310 + app.graph.nodes[0].widgets[0].last_y])")
        canvas.mouse.move(x, y)
        canvas.mouse.click(x, y)
        canvas.locator(".litecontextmenu").wait_for(state="visible", timeout=WAIT)
        if kind == "HDB_LoadLiDB":
            canvas.wait_for_function(shown, arg="list_navy.safetensors", timeout=WAIT)
            assert canvas.evaluate(shown, "list_navy.safetensors") == 64
            canvas.wait_for_function(shown, arg="list_orange.safetensors", timeout=WAIT)
            assert canvas.evaluate(shown, "list_none.safetensors") is None
            frontend.shoot("list_of_people")
            edges = "(m => [m.top, innerHeight - m.bottom])(document.querySelector('.litecontextmenu').getBoundingClientRect())"
            assert min(canvas.evaluate(edges)) >= 0
            last = canvas.locator(".litemenu-entry[data-value='many_39.safetensors']")
            assert last.locator("img").count() == 0  # read when it is looked at
            last.scroll_into_view_if_needed()
            canvas.wait_for_function(shown, arg="many_39.safetensors", timeout=WAIT)
            canvas.locator(".litemenu-entry[data-value='list_orange.safetensors']").click()
            wait_for_choice(canvas, "list_orange.safetensors")
        else:
            canvas.wait_for_timeout(500)
            assert canvas.locator(".litecontextmenu img").count() == 0
            canvas.keyboard.press("Escape")


@pytest.mark.parametrize(
    "contents",
    [b"", b"\xff" * 64, (1 << 40).to_bytes(8, "little") + b"{}", (2).to_bytes(8, "little") + b"{]", None],
    ids=["empty", "noise", "endless header", "no JSON", "a LoRA"],
)
def test_any_other_file_is_left_to_the_host_and_sent_nowhere(canvas, base, tmp_path, contents):
    path = tmp_path / "other.safetensors"
    if contents is None:
        save_file({"lora_unet_a.lora_up.weight": torch.zeros(2, 2)}, path)
    else:
        path.write_bytes(contents)
    sent = []
    record = lambda request: sent.append(request.url) if "/upload/" in request.url else None  # noqa: E731
    canvas.on("request", record)
    drop(canvas, *MIDDLE, path)
    canvas.wait_for_timeout(700)
    canvas.remove_listener("request", record)
    assert sent == [] and choices(canvas) == []
    assert not list((base / "output").rglob("other*"))


def test_a_report_is_shown_and_the_saved_graph_does_not_change_with_it(canvas, base):
    save_lidb(base / "output" / "lidb" / "sister.safetensors", person(4, "purple"))
    canvas.evaluate("app.refreshComboInNodes()")
    canvas.evaluate(
        """() => {
            const [load, info] = ["HDB_LoadLiDB", "HDB_LiDBInfo"].map((type) => LiteGraph.createNode(type));
            [load.pos, info.pos] = [[300, 200], [700, 200]];
            [load, info].forEach((node) => app.graph.add(node));
            load.widgets[0].value = "sister.safetensors";
            load.connect(0, info, 0);
        }"""
    )
    widgets = "app.graph.serialize().nodes.map(n => [n.type, n.widgets_values ?? null])"
    before = canvas.evaluate(widgets)
    canvas.evaluate("app.queuePrompt(0)")
    said = "app.graph.nodes.find(n => n.type === 'HDB_LiDBInfo').widgets?.find(w => w.name === 'says')?.value"
    canvas.wait_for_function(f"{said}?.includes('[V] face')", timeout=WAIT)
    assert canvas.locator("textarea[readonly]").last.input_value() == canvas.evaluate(said)
    assert canvas.evaluate(widgets) == before == [["HDB_LoadLiDB", ["sister.safetensors"]], ["HDB_LiDBInfo", None]]
    saved = canvas.evaluate("JSON.stringify(app.graph.serialize())")
    again = (
        "async (saved) => { await app.loadGraphData(JSON.parse(saved)); return JSON.stringify(app.graph.serialize()) }"
    )
    assert json.loads(canvas.evaluate(again, saved)) == json.loads(saved)
    prompt = canvas.evaluate("async () => (await app.graphToPrompt()).output")
    assert sorted(sorted(node["inputs"]) for node in prompt.values()) == [["lidb"], ["lidb_name"]]


@pytest.mark.parametrize("language", ["ko", "ja", "zh"])
def test_nodes_speak_the_language_of_the_interface(canvas, address, language):
    words = json.loads((LOCALES / language / "nodeDefs.json").read_text("utf-8"))
    tab = canvas.context.browser.new_page()
    try:
        tab.route("**/*", lambda route: route.continue_() if "127.0.0.1" in route.request.url else route.abort())
        tab.route(
            "**/settings", lambda route: route.fulfill(json={"Comfy.TutorialCompleted": True, "Comfy.Locale": language})
        )
        tab.goto(address)
        tab.wait_for_function("Boolean(window.LiteGraph?.registered_node_types?.HDB_ApplyLiDB)", timeout=120_000)
        shown = tab.evaluate(
            """() => Object.fromEntries(Object.keys(LiteGraph.registered_node_types).filter((type) => /^HDB_/.test(type)).map((type) => {
                const node = LiteGraph.createNode(type);
                const label = (slot) => slot.label ?? slot.localized_name;
                const inputs = [...node.inputs, ...(node.widgets ?? [])].map((slot) => [slot.name, label(slot)]);
                return [type, { title: node.title, inputs, outputs: node.outputs.map(label) }];
            }))"""
        )
    finally:
        tab.close()
    assert shown.keys() == words.keys()
    for name, expected in words.items():
        assert shown[name]["title"] == expected["display_name"]
        assert shown[name]["outputs"] == [output["name"] for output in expected.get("outputs", {}).values()]
        labels = dict(shown[name]["inputs"])
        for key, said in expected.get("inputs", {}).items():
            if key != "control_after_generate":  # the frontend's own, under a name of its own
                assert labels[key] == said["name"], (name, key)
