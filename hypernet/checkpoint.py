"""One self-describing file per HyperNet: weights, sizes, target table, basis, trigger phrase, training facts."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from ..lidb.basis_form import DAMAGE, AnyBasis, describe, frames, read_frames, rebuild
from ..lidb.targets import TargetTable
from .hypernet import HyperNet, HyperNetConfig

FORMAT, VERSION = "hyperdreambooth.hypernet", "1"
FLOATS = ("F32", "F16", "BF16")
LIMITS = {"image_size": 1024, "encoder_width": 4096, "encoder_depth": 64, "decoder_width": 4096, "decoder_depth": 32,
          "refinements": 64, "layers": 4096, "numbers": 8192}  # fmt: skip


@dataclass(frozen=True)
class Identity:
    """What the predicted numbers mean: target table, basis, trigger phrase, base model, training facts."""

    table: TargetTable
    basis: AnyBasis
    trigger: str
    base: str
    training: dict


def save_hypernet(path: str | Path, net: HyperNet, identity: Identity, dtype: torch.dtype = torch.float32) -> None:
    """Write atomically; a tensor that ``dtype`` has no range for is kept in its own."""
    metadata = {
        "format": FORMAT,
        "version": VERSION,
        "config": json.dumps(asdict(net.config)),
        "table": identity.table.pack(),
        "table_digest": identity.table.digest,
        "basis": json.dumps(describe(identity.basis)),
        "basis_probe": json.dumps([round(v, 6) for v in identity.basis.probe(identity.table)]),
        "trigger": identity.trigger,
        "base": identity.base,
        "training": json.dumps(identity.training),
    }
    partial = Path(f"{path}.partial")
    weights = {k: _in_range(v.detach().cpu(), dtype).contiguous() for k, v in net.state_dict().items()}
    save_file(weights | frames(identity.basis), partial, metadata=metadata)
    partial.replace(path)


def _in_range(weight: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    narrow = weight.to(dtype)
    return narrow if torch.isfinite(narrow).all() else weight


def load_hypernet(path: str | Path) -> tuple[HyperNet, Identity]:
    """Read a HyperNet (float32, eval mode).

    Raises:
        ValueError: one sentence saying what is wrong with the file and what to do.
    """
    path = Path(path)
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return _read(path.name, file, file.metadata() or {})
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path.name} is not a readable safetensors file ({error}); it is missing, truncated or of another kind. "
            "Copy it again into models/hypernets."
        ) from error


def _read(name: str, file, metadata: dict[str, str]) -> tuple[HyperNet, Identity]:
    if metadata.get("format") != FORMAT or metadata.get("version") != VERSION:
        raise ValueError(
            f"{name} is not a HyperNet of this extension (format {metadata.get('format')!r}, version "
            f"{metadata.get('version')!r}). Choose a file trained with this extension."
        )
    try:
        config = HyperNetConfig(**json.loads(metadata["config"]))
        table = TargetTable.unpack(metadata["table"])
        form = json.loads(metadata["basis"])
        basis = rebuild(form, lambda digest: read_frames(file, form))
        training = json.loads(metadata["training"])
        if not isinstance(training, dict):
            raise ValueError(f"its training facts are {str(training)[:40]!r}")
        identity = Identity(table, basis, metadata["trigger"], metadata["base"], training)
        too_large = [k for k, limit in LIMITS.items() if getattr(config, k) > limit]
        if too_large or config.layers != len(table) or config.numbers != identity.basis.a + identity.basis.b:
            raise ValueError(f"its sizes contradict each other or are out of range: {config}")
        if table.digest != metadata["table_digest"]:
            raise ValueError("its list of layers does not match its digest")
        identity.basis.check_fits(table)
        identity.basis.check_probe(table, [float(v) for v in json.loads(metadata["basis_probe"])])
    except DAMAGE as error:
        raise ValueError(
            f"{name}'s description is damaged or from another version ({error}). Get the file again."
        ) from error
    with torch.device("meta"):  # neither memory nor random numbers for weights that the file has
        net = HyperNet(config)
    wanted = {k: list(v.shape) for k, v in net.state_dict().items()}
    slices = {k: file.get_slice(k) for k in file.keys() if not k.startswith("basis.")}
    found = {k: list(v.get_shape()) if v.get_dtype() in FLOATS else v.get_dtype() for k, v in slices.items()}
    if found != wanted:
        odd = sorted(k for k in found.keys() | wanted.keys() if found.get(k) != wanted.get(k))
        raise ValueError(
            f"{name} does not hold the weights it describes ({len(odd)} differ, first {odd[0]!r}). Get the file again."
        )
    # a copy: float32 tensors are views of the file as it lies on the disk, which may be overwritten
    state = {k: file.get_tensor(k).to(torch.float32, copy=True) for k in wanted}
    bad = [k for k, v in state.items() if not torch.isfinite(v).all()]
    if bad:
        raise ValueError(
            f"{name} holds NaN or infinite weights (first in {bad[0]!r}), so every face would fail. Get the file again."
        )
    net.load_state_dict(state, assign=True)
    return net.eval().requires_grad_(False), identity
