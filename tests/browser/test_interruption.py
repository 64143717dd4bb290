"""A finetune cancelled with the frontend's own button leaves nothing behind."""

import io
import urllib.parse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from hyperdreambooth.cli.workflow import load_workflow
from hyperdreambooth.lidb.file import load_lidb

WORKFLOW = Path(__file__).resolve().parents[2] / "workflows" / "02_predict_and_finetune.json"
FEW, MANY = 20, 2000  # steps
WAIT = 300_000  # ms; it trains
FINETUNE = "app.graph.nodes.find((n) => n.type === 'HDB_RankRelaxedFinetune')"
SET_STEPS = f"(steps) => {{ {FINETUNE}.widgets.find((w) => w.name === 'steps').value = steps }}"


def results(frontend, base: Path) -> tuple[dict[str, np.ndarray], dict[str, torch.Tensor], set[str]]:
    """Press *Run*: the pictures by node, the numbers of the saved person, and the nodes that did not have to be run."""
    record = frontend.run()
    pictures = {}
    for key, out in record["outputs"].items():
        for file in (f for f in out.get("images", []) if f["filename"].endswith(".png") and f["type"] == "output"):
            data = frontend.answer("/view?" + urllib.parse.urlencode(file))
            pictures[key] = np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))
    newest = max((base / "output" / "lidb").glob("person_*.safetensors"), key=lambda p: p.stat().st_mtime_ns)
    person = load_lidb(newest)
    cached = [said["nodes"] for name, said in record["status"]["messages"] if name == "execution_cached"]
    return pictures, {"A": person.A_full, "B": person.B_full}, set(sum(cached, []))


def test_after_an_interrupted_finetune_the_next_run_is_what_it_was_before(frontend, base):
    page = frontend.page
    frontend.load(load_workflow(WORKFLOW))
    page.evaluate(SET_STEPS, FEW)
    node = str(page.evaluate(f"{FINETUNE}.id"))
    before_pictures, before_person, _ = results(frontend, base)
    files = sorted((base / "output").rglob("*"))

    page.evaluate(SET_STEPS, MANY)
    job = frontend.press_run()
    page.wait_for_function(f"{FINETUNE}.progress > 3 / {MANY}", timeout=WAIT)
    page.get_by_role("button", name="Cancel current run").click()
    record = frontend.ended(job)
    messages = dict(record["status"]["messages"])
    assert "execution_interrupted" in messages and "execution_success" not in messages
    assert messages["execution_interrupted"]["node_id"] == node
    assert sorted((base / "output").rglob("*")) == files  # nothing was saved of it
    assert frontend.complaints() == []
    page.wait_for_function("app.graph.nodes.every(n => !n.progress && !n.has_errors)", timeout=WAIT)
    frontend.shoot("interrupted")

    page.evaluate(SET_STEPS, FEW)
    pictures, person, cached = results(frontend, base)
    assert node not in cached  # it was finetuned anew
    assert pictures.keys() == before_pictures.keys() and len(pictures) == 2
    for key, picture in pictures.items():
        assert np.array_equal(picture, before_pictures[key])
    for key, numbers in person.items():
        assert torch.equal(numbers, before_person[key])
