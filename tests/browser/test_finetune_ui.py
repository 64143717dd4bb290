"""*Rank-Relaxed Finetune* run for real in the frontend: what it shows on the node when it is done."""

import io
import os
from pathlib import Path

import numpy as np
from PIL import Image

EMPTY = {"nodes": [], "links": [], "version": 0.4, "last_node_id": 0, "last_link_id": 0}
STEPS = 12
WAIT = 600_000  # ms; it trains
ORANGE = (255, 170, 60)  # the smoothed curve, from side to side of the picture
BUILD = """async ([empty, steps]) => {
    await app.loadGraphData(empty);
    app.extensionManager.toast.removeAll();
    const types = ["CheckpointLoaderSimple", "LoadImage", "HDB_RankRelaxedFinetune", "HDB_LiDBInfo"];
    const [base, photo, tune, info] = types.map((type, i) => {
        const node = LiteGraph.createNode(type);
        node.pos = [[0, 0], [0, 180], [380, 0], [900, 0]][i];
        app.graph.add(node);
        return node;
    });
    const set = (node, name, value) => (node.widgets.find((w) => w.name === name).value = value);
    set(base, "ckpt_name", "faceworld.safetensors");
    set(photo, "image", "hyperdreambooth_person.png");
    set(tune, "steps", steps);
    tune.setSize([480, 700]);
    const link = (from, out, name) => from.connect(out, tune, tune.inputs.findIndex((slot) => slot.name === name));
    ["model", "clip", "vae"].forEach((name, i) => link(base, i, name));
    link(photo, 0, "image");
    tune.connect(0, info, 0);
    app.canvas.ds.scale = 1;
    app.canvas.ds.offset = [120, 130];
}"""
RUN = """() => {
    window.ended = null;
    for (const event of ["execution_success", "execution_error", "execution_interrupted"]) {
        app.api.addEventListener(event, () => (window.ended ??= event), { once: true });
    }
    app.queuePrompt(0);
}"""
SAVED = "app.graph.serialize().nodes.map((n) => [n.type, n.widgets_values ?? null])"
NODE = "app.graph.nodes.find((n) => n.type === 'HDB_RankRelaxedFinetune')"
CORNERS = f"""(() => {{
    const n = {NODE};
    return [n.pos, [n.pos[0] + n.size[0], n.pos[1] + n.size[1]]].map((p) => [...app.canvasPosToClientPos([...p])]);
}})()"""


def seen(page) -> np.ndarray:
    """The node as it is on the screen, (H, W, 3)."""
    (left, top), (right, bottom) = page.evaluate(CORNERS)
    shot = page.screenshot(clip={"x": left, "y": top, "width": right - left, "height": bottom - top})
    return np.asarray(Image.open(io.BytesIO(shot)).convert("RGB"), int)


def curve(pixels: np.ndarray) -> tuple[int, int]:
    """The columns in which the curve begins and ends, looked for in the lower third."""
    lower = pixels[-len(pixels) // 3 :]
    columns = np.flatnonzero((np.abs(lower - ORANGE).max(-1) < 40).any(0))
    return int(columns.min()), int(columns.max())


def test_the_node_shows_photo_before_after_and_the_loss_curve(page, base, tmp_path):
    page.evaluate(BUILD, [EMPTY, STEPS])
    before = page.evaluate(SAVED)
    page.evaluate(RUN)
    page.wait_for_function("window.ended", timeout=WAIT)
    assert page.evaluate("window.ended") == "execution_success"
    assert page.evaluate(SAVED) == before  # what is shown is not saved with the workflow
    (file,) = page.evaluate(f"app.nodeOutputs[{NODE}.id].images")
    sheet = Image.open(base / file["type"] / file["subfolder"] / file["filename"]).convert("RGB")
    loaded = f"{NODE}.imgs?.length === 1 && {NODE}.imgs[0].complete && {NODE}.imgs[0].naturalWidth"
    page.wait_for_function(f"wanted => ({loaded}) === wanted", arg=sheet.width, timeout=60_000)  # not the live preview
    page.wait_for_timeout(1000)  # drawn
    folder = Path(os.environ.get("SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / "finetune.png")
    shown, whole = seen(page), np.asarray(sheet, int)
    (left, right), (first, last) = curve(shown), curve(whole)
    scale = (right - left) / (last - first)
    assert scale > 0.3  # large enough to be read
    width, height = round(scale * sheet.width), round(scale * sheet.height)
    column = shown[:, round(left - scale * first) :][:, :width]
    wanted = np.asarray(sheet.resize((width, height)), int)
    off = [np.abs(column[top : top + height] - wanted).mean() for top in range(len(column) - height + 1)]
    assert min(off) < 10  # all of it, on the node itself
