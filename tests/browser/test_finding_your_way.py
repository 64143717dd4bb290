"""Where a new user looks for things: the template browser, the help pages, the blueprints."""

import re
from pathlib import Path

import pytest

from hyperdreambooth.cli.workflow import load_workflow

ROOT = Path(__file__).resolve().parents[2]
PAGES = sorted((ROOT / "web" / "docs").glob("HDB_*.md"))
EMPTY = {"nodes": [], "links": [], "version": 0.4, "last_node_id": 0, "last_link_id": 0}
MIDDLE = (1000, 300)
WAIT = 60_000  # ms
ADD_AND_SELECT = """(type) => { const n = LiteGraph.createNode(type); n.pos = [600, 300]; app.graph.add(n);
    app.canvas.selectItems([n]) }"""
AROUND_THE_BLUEPRINT = """() => {
    const box = app.graph.nodes.find((n) => n.isSubgraphNode());
    const add = (type, x, y, set = {}) => { const n = LiteGraph.createNode(type); n.pos = [x, y]; app.graph.add(n);
        for (const [k, v] of Object.entries(set)) n.widgets.find((w) => w.name === k).value = v; return n };
    const at = (n, name) => n.inputs.findIndex((slot) => slot.name === name);
    const out = (name) => box.outputs.findIndex((slot) => slot.name === name);
    const [x, y] = box.pos;
    box.widgets.find((w) => w.name === "steps").value = 5;
    add("LoadImage", x - 420, y, { image: "hyperdreambooth_person.png" }).connect(0, box, at(box, "image"));
    const [words, none] = [add("CLIPTextEncode", x + 460, y, { text: "a photo of a [V] face" }),
        add("CLIPTextEncode", x + 460, y + 260, { text: "" })];
    const size = add("EmptyLatentImage", x + 460, y + 520, { width: 128, height: 128 });
    const sample = add("KSampler", x + 920, y, { seed: 5, steps: 5, cfg: 3 });
    const decode = add("VAEDecode", x + 920, y + 400);
    const show = add("SaveImage", x + 1240, y, { filename_prefix: "blueprint" });
    for (const n of [words, none]) box.connect(out("CLIP"), n, at(n, "clip"));
    box.connect(out("MODEL"), sample, at(sample, "model"));
    box.connect(out("VAE"), decode, at(decode, "vae"));
    words.connect(0, sample, at(sample, "positive"));
    none.connect(0, sample, at(sample, "negative"));
    size.connect(0, sample, at(sample, "latent_image"));
    sample.connect(0, decode, 0);
    decode.connect(0, show, 0);
    app.canvas.ds.scale = 0.7;
    app.canvas.ds.offset = [700 - x, 300 - y];
    return show.id;
}"""


def words_of(text: str) -> list[str]:
    return re.findall(r"[^\W\d]\w+", text)  # a list is numbered by the page


def test_all_workflows_are_listed_with_their_thumbnails(frontend):
    names = sorted(path.stem for path in (ROOT / "workflows").glob("*.json"))
    frontend.browse_templates()
    cards = frontend.page.locator("[data-testid^=template-workflow-]")
    prefix = len("template-workflow-")
    listed = {card.get_attribute("data-testid")[prefix:]: card for card in cards.all()}
    assert sorted(listed) == names
    for card in listed.values():
        card.scroll_into_view_if_needed()
        picture = card.locator("img").first
        picture.wait_for(state="visible", timeout=WAIT)
        frontend.page.wait_for_function("i => i.complete && i.naturalWidth >= 128", arg=picture.element_handle())
    frontend.shoot("templates")
    cards.first.scroll_into_view_if_needed()
    frontend.shoot("templates_top")
    frontend.page.keyboard.press("Escape")
    frontend.page.get_by_role("dialog").wait_for(state="detached", timeout=WAIT)


@pytest.mark.parametrize("help_page", PAGES, ids=lambda p: p.stem)
def test_the_help_page_of_a_node_shows_its_text_and_pictures(frontend, help_page):
    page, source = frontend.page, help_page.read_text()
    pictures = re.findall(r"!\[.*?\]\((.+?)\)", source)
    text = re.sub(r"!\[.*?\]\(.+?\)", "", source)  # a picture's words are for those who cannot see it
    text = re.sub(r"\]\(.+?\)", "]", text)
    frontend.load(EMPTY)
    page.evaluate(ADD_AND_SELECT, help_page.stem)
    page.get_by_test_id("info-button").click(timeout=WAIT)
    shown = page.locator(".node-help-content")
    heading = re.search(r"^# (.+)", source, re.M)[1]
    shown.get_by_role("heading", name=heading).first.wait_for(timeout=WAIT)
    page.wait_for_function(
        "count => { const all = [...document.querySelectorAll('.node-help-content img')];"
        " return all.length === count && all.every(i => i.complete && i.naturalWidth) }",
        arg=len(pictures),
        timeout=WAIT,
    )
    frontend.shoot(f"help_{help_page.stem}")
    assert [word for word in words_of(text) if word not in set(words_of(shown.inner_text()))] == []
    page.get_by_test_id("properties-panel").get_by_role("button", name="Toggle properties panel").click(timeout=WAIT)


def test_the_blueprint_is_listed_put_on_the_canvas_and_run(frontend):
    page = frontend.page
    (file,) = (ROOT / "subgraphs").glob("*.json")
    frontend.load(EMPTY)
    tab = page.get_by_test_id("side-toolbar").get_by_text("Nodes", exact=True)
    tab.click()
    page.get_by_placeholder("Search...").first.fill(file.stem)
    page.get_by_text(file.stem).first.click()
    page.mouse.move(MIDDLE[0] - 20, MIDDLE[1])
    page.mouse.move(*MIDDLE)
    page.mouse.click(*MIDDLE)
    page.wait_for_function("app.graph.nodes.some(n => n.isSubgraphNode?.())", timeout=WAIT)
    page.get_by_placeholder("Search...").first.fill("")
    tab.click()
    (box,) = load_workflow(file)["nodes"]
    slots = "side => app.graph.nodes[0][side].map(slot => slot.name)"
    for side in ("inputs", "outputs"):
        assert page.evaluate(slots, side) == [slot["name"] for slot in box[side]]
    show = page.evaluate(AROUND_THE_BLUEPRINT)
    outputs = frontend.run()["outputs"]
    assert len(outputs[str(show)]["images"]) == 1
    page.wait_for_function("id => app.graph.getNodeById(id).imgs?.[0]?.naturalWidth === 128", arg=show, timeout=WAIT)
    frontend.shoot("blueprint")
