"""How files name a basis: a random one by its seed, a learned one by its digest, with or without its frames."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file

from .basis import ALGORITHM, MAX_NUMBERS, MAX_SIZE, Basis
from .learned_basis import LearnedBasis

FORMAT = "hyperdreambooth.basis"
DAMAGE = (KeyError, TypeError, ValueError, OverflowError, RecursionError)
"""What reading a description of unknown origin may raise; JSON can be nested too deep, or hold infinity for a size."""
_KEY = re.compile(r"basis\.(A|B)\.([1-9]\d{0,5})")
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
    if not isinstance(form, dict):
        raise ValueError(f"its basis is {str(form)[:40]!r}, not a description")
    if form.get("kind") == "learned":
        named = _name(form)
        basis = resolve(named[0])
        if (basis.digest, basis.a, basis.b) != named:
            raise ValueError(
                f"the learned basis found for {named[0]} (a={named[1]}, b={named[2]}) is another one ({basis.digest}, "
                f"a={basis.a}, b={basis.b})"
            )
        return basis
    sizes = {key: form.get(key) for key in ("a", "b", "seed")}
    known = form.get("kind") == "random" and form.get("algorithm") == ALGORITHM
    if not known or not all(type(size) is int for size in sizes.values()):
        raise ValueError(f"its basis is described as {str(form)[:100]}, which this version does not know")
    return Basis(**sizes)


def _name(form: dict) -> tuple[str, int, int]:
    """(digest, a, b) of a learned basis, checked."""
    if not isinstance(form, dict) or form.get("kind") != "learned":
        raise ValueError("its description does not name a learned basis")
    digest, a, b = (form.get(key) for key in ("digest", "a", "b"))
    sizes_fit = all(type(size) is int and 1 <= size <= MAX_SIZE for size in (a, b))
    if not sizes_fit or not isinstance(digest, str) or not re.fullmatch("[0-9a-f]{16}", digest):
        raise ValueError(f"its learned basis is described as {str(form)[:100]}; a digest, a and b were expected")
    return digest, a, b


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
    digest, a, b = _name(form)
    sides: dict[str, dict[int, torch.Tensor]] = {"A": {}, "B": {}}
    keys, numbers = sorted(key for key in file.keys() if key.startswith("basis.")), 0
    for key in keys:
        match = _KEY.fullmatch(key)
        if not match:
            raise ValueError(f"{key[:40]!r} is no name of a basis frame")
        wanted = [int(match[2]), a] if match[1] == "A" else [b, int(match[2])]
        found, kind = list(file.get_slice(key).get_shape()), file.get_slice(key).get_dtype()
        numbers += wanted[0] * wanted[1]
        if found != wanted or kind != "F32":
            raise ValueError(f"its basis frame {key} is {found} {kind}, expected {wanted} F32")
        if numbers > MAX_NUMBERS:
            raise ValueError(f"its basis frames have more than {MAX_NUMBERS} numbers together")
    for key in keys:
        _, side, dim = key.split(".")
        sides[side][int(dim)] = file.get_tensor(key)
    basis = LearnedBasis(sides["A"], sides["B"])
    if basis.digest != digest:
        raise ValueError(f"its basis frames have digest {basis.digest}, its description says {digest}")
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
            if metadata.get("format") == FORMAT and metadata.get("version") == "1":
                return read_frames(file, json.loads(metadata["basis"]))
    except (SafetensorError, OSError, *DAMAGE) as error:
        raise ValueError(f"{path.name} cannot be read as a basis ({error}). Make it again.") from error
    raise ValueError(f"{path.name} is not a basis file. Make one with `hyperdreambooth basis`.")
