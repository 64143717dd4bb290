"""Where a learned basis is found: in the HyperNets of the models folder, by its digest."""

import json

import folder_paths
from safetensors import SafetensorError, safe_open

from ..lidb.basis_form import DAMAGE, nowhere, read_frames
from ..lidb.learned_basis import LearnedBasis

_found: dict[str, LearnedBasis] = {}  # a digest names its content, so nothing here can go stale


def find_learned_basis(digest: str) -> LearnedBasis:
    """Read only descriptions until the digest is found.

    Raises:
        ValueError: no HyperNet in the folder has it.
    """
    for name in [] if digest in _found else folder_paths.get_filename_list("hypernets"):
        try:
            with safe_open(folder_paths.get_full_path_or_raise("hypernets", name), "pt", "cpu") as file:
                form = json.loads((file.metadata() or {}).get("basis", "{}"))
                if isinstance(form, dict) and form.get("digest") == digest:
                    _found[digest] = read_frames(file, form)
                    break
        except (SafetensorError, OSError, *DAMAGE):
            continue  # a damaged neighbour is not this file's fault; its own loader says so
    return _found[digest] if digest in _found else nowhere(digest)
