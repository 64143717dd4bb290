"""The LiDB file: safetensors with everything a stranger needs in its metadata.

    tensors   A_train (L, a, r), B_train (L, r, b); after a full-space finetune also A_full, B_full (flat)
    metadata  format, version, the packed target table and its digest, basis (kind, a, b, seed or digest, probe),
              facts (trigger phrase, base, how made, steps, seed, final loss), a JPEG thumbnail, modelspec.* and ss_*

Loading trusts nothing: every size is checked against the declared table before a tensor is read.
"""

import json
from base64 import b64decode, b64encode
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .basis_form import DAMAGE, Resolver, describe, nowhere, rebuild
from .targets import TargetTable
from .value import Facts, LiDB

FORMAT = "hyperdreambooth.lidb"
VERSION = 1
MAX_FILE_BYTES = 1 << 30
MAX_RANK = 256
MAX_LORA_NUMBERS = 1 << 30  # of the identity outside its basis, as a LoRA
DTYPES = {"float32": torch.float32, "float16": torch.float16}


def save_lidb(path: str | Path, lidb: LiDB, dtype: str = "float32") -> int:
    """Write an identity; float32 is exact, float16 halves the file.

    Returns:
        The file's size in bytes.

    Raises:
        ValueError: unknown dtype, numbers that float16 cannot hold, or more ranks than a file may have.
    """
    if dtype not in DTYPES:
        raise ValueError(f"A LiDB file is float32 or float16, not {dtype!r}.")
    if max(lidb.rank, lidb.full_rank) > MAX_RANK:
        raise ValueError(
            f"This identity has rank {lidb.rank} (and {lidb.full_rank} in the full space); a LiDB file holds at most "
            f"{MAX_RANK}. Export it as a LoRA, or finetune again with fewer ranks."
        )
    tensors = {"A_train": lidb.A_train, "B_train": lidb.B_train}
    if lidb.full_rank:
        tensors |= {"A_full": lidb.A_full, "B_full": lidb.B_full}
    tensors = {name: t.to("cpu", DTYPES[dtype]).contiguous() for name, t in tensors.items()}
    if not all(torch.isfinite(t).all() for t in tensors.values()):
        raise ValueError("This identity holds numbers too large for float16. Save it as float32.")
    facts = asdict(lidb.facts)
    thumbnail = facts.pop("thumbnail")
    metadata = {
        "format": FORMAT,
        "version": str(VERSION),
        "table": lidb.table.pack(),
        "table_digest": lidb.table.digest,
        "basis": json.dumps(describe(lidb.basis)),
        "basis_probe": json.dumps([round(v, 6) for v in lidb.basis.probe(lidb.table)]),
        "rank": json.dumps({"inside": lidb.rank, "frozen": lidb.frozen_rank, "full": lidb.full_rank}),
        "facts": json.dumps(facts),
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.architecture": f"{lidb.facts.base}/lidb",
        "modelspec.title": Path(path).stem,
        "modelspec.trigger_phrase": lidb.facts.trigger,
        "ss_network_module": "hyperdreambooth.lidb",
        "ss_network_dim": str(lidb.rank + lidb.full_rank),
    }
    if thumbnail:
        metadata["modelspec.thumbnail"] = "data:image/jpeg;base64," + b64encode(thumbnail).decode("ascii")
    write_whole(path, tensors, metadata)
    return Path(path).stat().st_size


def write_whole(path: str | Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str]) -> None:
    """Write a safetensors file, whole or not at all.

    Raises:
        ValueError: the folder cannot be written to, or the disk is full; what was at ``path`` is still there.
    """
    path = Path(path)
    partial = path.with_name(f"{path.name}.partial")
    try:
        save_file(tensors, partial, metadata=metadata)
        partial.replace(path)
    except (SafetensorError, OSError) as error:
        partial.unlink(missing_ok=True)
        raise ValueError(
            f"{path.name} could not be written into {path.parent} ({error}); nothing was changed there. Make room, allow "
            "writing, or choose another folder."
        ) from error


def load_lidb(path: str | Path, learned: Resolver = nowhere) -> LiDB:
    """Read an identity; ``learned`` finds a learned basis by its digest.

    Raises:
        ValueError: one sentence saying what the file is instead, and what to do; nothing is half-loaded.
    """
    path = Path(path)
    if not path.is_file():
        raise ValueError(
            f"There is no LiDB file at {path.name!r}; it was moved or renamed. Refresh the list and choose again."
        )
    if path.stat().st_size > MAX_FILE_BYTES:
        raise ValueError(
            f"{path.name} has {path.stat().st_size / 2**20:.0f} MB; no LiDB is larger than 1024 MB. Choose another file."
        )
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            return _read(path.name, file, file.metadata() or {}, learned)
    except (SafetensorError, OSError) as error:
        raise ValueError(
            f"{path.name} is not a readable safetensors file ({error}); it is truncated or of another kind. "
            "Copy it again from where it came."
        ) from error


def _read(name: str, file, metadata: dict[str, str], learned: Resolver) -> LiDB:
    if metadata.get("format") != FORMAT:
        kind = (
            "a LoRA (use the Load LoRA (Model and CLIP) node)"
            if any("lora" in key for key in file.keys())
            else "some other model"
        )
        raise ValueError(f"{name} is not a LiDB but {kind}. Choose a file that Save LiDB wrote.")
    if metadata.get("version") != str(VERSION):
        raise ValueError(
            f"{name} has LiDB format version {metadata.get('version')!r}, this extension reads version {VERSION}. "
            "Update the extension, or save the identity again with this version."
        )
    try:
        table = TargetTable.unpack(metadata["table"])
        form = json.loads(metadata["basis"])
        probe = [float(v) for v in json.loads(metadata["basis_probe"])]
        declared = json.loads(metadata["rank"])
        ranks = {key: declared[key] for key in ("inside", "frozen", "full")}
        facts = Facts(**json.loads(metadata["facts"]), thumbnail=_thumbnail(metadata))
    except DAMAGE as error:
        raise ValueError(
            f"{name}'s description is damaged or from another version ({error}). Save the identity again."
        ) from error
    try:
        basis = rebuild(form, learned)
    except DAMAGE as error:
        raise ValueError(f"{name} cannot be used: {str(error).rstrip('.')}.") from error
    if table.digest != metadata.get("table_digest"):
        raise ValueError(f"{name}'s list of layers does not match its own digest; the file is damaged. Copy it again.")
    whole = all(type(rank) is int for rank in ranks.values())
    if not whole or not (0 <= ranks["frozen"] <= ranks["inside"] <= MAX_RANK and 0 <= ranks["full"] <= MAX_RANK):
        raise ValueError(
            f"{name} declares ranks {str(ranks)[:100]}, which cannot be. The file is damaged; copy it again."
        )
    if table.rank1_numbers * (ranks["inside"] + ranks["full"]) > MAX_LORA_NUMBERS:
        raise ValueError(
            f"{name} declares ranks {ranks} on {table.describe()}, more than any supported model has. The file is damaged; "
            "copy it again."
        )
    shapes = {"A_train": [len(table), basis.a, ranks["inside"]], "B_train": [len(table), ranks["inside"], basis.b]}
    if ranks["full"]:
        shapes["A_full"] = [sum(t.in_features for t in table) * ranks["full"]]
        shapes["B_full"] = [sum(t.out_features for t in table) * ranks["full"]]
    slices = {key: file.get_slice(key) for key in file.keys()}
    found = {key: list(part.get_shape()) for key, part in slices.items()}
    kinds = {part.get_dtype() for part in slices.values()}
    if found != shapes or not kinds <= {"F32", "F16"}:
        raise ValueError(
            f"{name} holds {str(found)[:200]} of {sorted(kinds)} where its description asks for {shapes} of F32 or F16. "
            "The file is damaged; copy it again."
        )
    try:
        basis.check_fits(table)
    except ValueError as error:
        raise ValueError(f"{name} cannot be used: {error}") from error
    basis.check_probe(table, probe)
    # a copy: float32 tensors are views of the file as it lies on the disk, which may be overwritten
    tensors = {key: file.get_tensor(key).to(torch.float32, copy=True) for key in shapes}
    return LiDB(table, basis, **tensors, frozen_rank=ranks["frozen"], full_rank=ranks["full"], facts=facts)


def _thumbnail(metadata: dict[str, str]) -> bytes:
    data = metadata.get("modelspec.thumbnail", "")
    return b64decode(data.rpartition(",")[2]) if data else b""
