"""Files and pictures that cannot be used: through the real executor, one clear sentence each, and nothing is changed."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from hyperdreambooth.cli.headless import NodeFailed
from hyperdreambooth.cli.workflow import find, load_workflow, to_api
from hyperdreambooth.lidb.file import save_lidb
from hyperdreambooth.lidb.targets import select_targets
from hyperdreambooth.lidb.value import Facts, LiDB
from hyperdreambooth.nodes.finetune import starting_basis
from hyperdreambooth.nodes.host import HostModel

ROOT = Path(__file__).resolve().parents[2]


def graph(host):
    api = to_api(load_workflow(ROOT / "workflows" / "01_predict.json"), host.object_info())
    api[find(api, "KSampler")]["inputs"]["steps"] = 2
    return api


def plain_picture(host) -> tuple[bytes, bool]:
    """What the checkpoint draws without a person, and whether the same loaded model was sampled anew for it."""
    api = graph(host)
    apply, loader, sampler = find(api, "HDB_ApplyLiDB"), find(api, "CheckpointLoaderSimple"), find(api, "KSampler")
    for node in api.values():
        for name, value in node["inputs"].items():
            if isinstance(value, list) and value[0] == apply and value[1] < 2:
                node["inputs"][name] = [loader, value[1]]
    for kind in ("HDB_ApplyLiDB", "HDB_SaveLiDB", "HDB_PredictLiDB", "HDB_LoadHyperNet", "LoadImage"):
        del api[find(api, kind)]
    host.server.events.clear()
    outputs = host.run(api)
    cached = [node for event, data in host.server.events if event == "execution_cached" for node in data["nodes"]]
    picture = Image.open(host.saved(outputs[find(api, "SaveImage")])[0]).tobytes()
    return picture, loader in cached and sampler not in cached


@pytest.fixture(scope="module")
def before(host) -> bytes:
    return plain_picture(host)[0]


def somebody(faceworld, width=1, base="Faceworld") -> LiDB:
    """A person of the miniature, or of a base whose layers are ``width`` times as wide."""
    table = HostModel(*faceworld[:2]).table
    if width > 1:
        table = select_targets({t.name: (width * t.in_features, width * t.out_features) for t in table}, "paper192")
    basis = starting_basis(table)
    stream = torch.Generator().manual_seed(0)
    A, B = torch.randn(len(table), basis.a, 1, generator=stream), torch.randn(len(table), 1, basis.b, generator=stream)
    return LiDB(table, basis, A, B, frozen_rank=1, facts=Facts(base=base))


def with_nan(source: Path, target: Path) -> None:
    tensors = load_file(source)
    first = next(iter(tensors.values()))
    first.view(-1)[0] = float("nan")
    with safe_open(source, "pt") as file:
        save_file(tensors, target, metadata=file.metadata())


def truncated(source: Path, target: Path) -> None:
    content = source.read_bytes()
    target.write_bytes(content[: len(content) // 2])


def a_bad_lidb(host, faceworld, how):
    folder = host.base / "models" / "lidb"
    folder.mkdir(parents=True, exist_ok=True)
    path, sound = folder / f"bad_{how}.safetensors", host.base / "temp" / "sound.safetensors"
    save_lidb(sound, somebody(faceworld))
    if how == "foreign":
        save_file({"lora_unet_mid.lora_up.weight": torch.ones(4, 1)}, path)
    elif how == "wrong_base":
        save_lidb(path, somebody(faceworld, width=2, base="SD15"))
    else:
        {"truncated": truncated, "nan": with_nan}[how](sound, path)
    api = graph(host)
    api["bad"] = {"class_type": "HDB_LoadLiDB", "inputs": {"lidb_name": path.name}}
    api[find(api, "HDB_ApplyLiDB")]["inputs"]["lidb"] = ["bad", 0]
    for kind in ("HDB_SaveLiDB", "HDB_PredictLiDB", "HDB_LoadHyperNet", "LoadImage"):
        del api[find(api, kind)]
    return api, path


def a_bad_hypernet(host, _faceworld, how):
    folder = host.base / "models" / "hypernets"
    folder.mkdir(parents=True, exist_ok=True)
    path, sound = (
        folder / f"bad_{how}.safetensors",
        ROOT / "faceworld" / "weights" / "hypernets" / "faceworld.safetensors",
    )
    {"truncated": truncated, "nan": with_nan}[how](sound, path)
    api = graph(host)
    api[find(api, "HDB_LoadHyperNet")]["inputs"]["hypernet_name"] = path.name
    return api, path


def a_small_picture(host, _faceworld, how):
    path = host.base / "input" / f"bad_{how}.png"
    Image.new("RGB", (30, 30)).save(path)
    api = graph(host)
    api[find(api, "LoadImage")]["inputs"]["image"] = path.name
    return api, path


@pytest.mark.parametrize(
    ("make", "how", "says"),
    [
        (a_bad_lidb, "foreign", "is not a LiDB but a LoRA"),
        (a_bad_lidb, "truncated", "truncated or of another kind"),
        (a_bad_lidb, "nan", "not finite"),
        (a_bad_lidb, "wrong_base", "was made for SD15 .* but the connected model is Faceworld"),
        (a_bad_hypernet, "truncated", "truncated or of another kind"),
        (a_bad_hypernet, "nan", "NaN or infinite weights"),
        (a_small_picture, "30 pixels", "only 30 x 30 pixels"),
    ],
)
def test_what_cannot_be_used_is_said_and_changes_nothing(host, faceworld, before, make, how, says):
    api, path = make(host, faceworld, how)
    try:
        with pytest.raises(NodeFailed, match=says) as failure:
            host.run(api)
    finally:
        path.unlink()
    message = str(failure.value)
    assert "\n" not in message and message.endswith(".") and len(message) < 500
    assert plain_picture(host) == (before, True)
