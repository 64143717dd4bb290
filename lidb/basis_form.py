"""How files name a basis: a random one by its seed, a learned one by its digest, with or without its frames."""

import json
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .basis import ALGORITHM, Basis
from .learned_basis import LearnedBasis

FORMAT = "hyperdreambooth.basis"
MAX_DIM = 1 << 17
AnyBasis = Basis | LearnedBasis
Resolver = Callable[[str], LearnedBasis]


def describe(basis: AnyBasis) -> dict:
    """A small dict for a file's metadata."""
    if isinstance(basis, LearnedBasis):
        return {"kind": "learned", "digest": basis.digest, "a": basis.a, "b": basis.b}
    return {"kind": "random", "algorithm": ALGORITHM, "a": basis.a, "b": basis.b, "seed": basis.seed}


def nowhere(digest: str) -> LearnedBasis:
    """The resolver that knows no learned basis."""
    raise ValueError(
        f"it was made in the learned basis {digest} of a HyperNet; put that HyperNet's file into models/hypernets"
    )


def rebuild(form: dict, resolve: Resolver = nowhere) -> AnyBasis:
    """Inverse of ``describe``; ``resolve`` finds a learned basis by its digest.

    Raises:
        ValueError: an unknown kind, or a learned basis that is not there.
    """
    if form.get("kind") == "learned":
        basis = resolve(str(form["digest"]))
        if (basis.digest, basis.a, basis.b) != (form["digest"], form["a"], form["b"]):
            raise ValueError(f"the learned basis found for {form['digest']} is another one ({basis.digest})")
        return basis
    if form.get("kind") != "random" or form.get("algorithm") != ALGORITHM:
        raise ValueError(f"its basis is of kind {form.get('kind')!r}, algorithm {form.get('algorithm')!r}")
    return Basis(a=int(form["a"]), b=int(form["b"]), seed=int(form["seed"]))


def frames(basis: AnyBasis) -> dict[str, torch.Tensor]:
    """A learned basis' tensors, ``basis.A.320`` ...; in full precision, since rounded frames are not orthonormal."""
    if not isinstance(basis, LearnedBasis):
        return {}
    return {f"basis.{side}.{dim}": frame for side in "AB" for dim, frame in getattr(basis, side).items()}


def read_frames(file, form: dict) -> LearnedBasis:
    """From an open safetensors file; sizes are checked before anything is read.

    Raises:
        ValueError: frames that are missing, or of another size than ``form`` says.
    """
    sides: dict[str, dict[int, torch.Tensor]] = {"A": {}, "B": {}}
    a, b = int(form["a"]), int(form["b"])
    for key in sorted(k for k in file.keys() if k.startswith("basis.")):
        _, side, dim = key.split(".")
        wanted = [int(dim), a] if side == "A" else [b, int(dim)]
        found = list(file.get_slice(key).get_shape())
        if side not in sides or found != wanted or not 1 <= int(dim) <= MAX_DIM:
            raise ValueError(f"its basis frame {key} is {found}, expected {wanted}")
        sides[side][int(dim)] = file.get_tensor(key)
    basis = LearnedBasis(sides["A"], sides["B"])
    if basis.digest != form["digest"]:
        raise ValueError(f"its basis frames have digest {basis.digest}, its description says {form['digest']}")
    return basis


def save_basis(path: Path, basis: LearnedBasis, facts: dict) -> None:
    """A basis alone, for ``train --basis``."""
    metadata = {"format": FORMAT, "version": "1", "basis": json.dumps(describe(basis)), "facts": json.dumps(facts)}
    partial = path.with_name(f".{path.name}.partial")
    save_file(frames(basis), partial, metadata=metadata)
    partial.replace(path)


def load_basis(path: Path) -> LearnedBasis:
    """Inverse of ``save_basis``.

    Raises:
        ValueError: no such file, or not a basis.
    """
    try:
        with safe_open(path, framework="pt", device="cpu") as file:
            metadata = file.metadata() or {}
            if metadata.get("format") != FORMAT or metadata.get("version") != "1":
                raise ValueError(f"{path.name} is not a basis file. Make one with `hyperdreambooth basis`.")
            return read_frames(file, json.loads(metadata["basis"]))
    except (SafetensorError, OSError, KeyError, TypeError) as error:
        raise ValueError(f"{path.name} cannot be read as a basis ({error}). Make it again.") from error
