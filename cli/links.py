"""Files and folders that appear in a second place without being copied."""

import os
import uuid
from pathlib import Path


def link(source: Path, place: Path, scratch: Path | None = None) -> None:
    """Let ``place`` lead to ``source``; an older link there is replaced, also while other processes do the same.

    A symbolic link. Where the system keeps those to administrators (Windows without developer mode), a junction to a folder
    and a hard link to a file, which need the same drive.

    Args:
        scratch: folder in which the link is made before it is moved into place (default: the place's own).

    Raises:
        OSError: none of them can be made.
    """
    own = (scratch or place.parent) / f".link-{uuid.uuid4()}"
    try:
        own.symlink_to(source, target_is_directory=source.is_dir())
    except OSError:
        if os.name != "nt":
            raise
        _without_privilege(source, own)
    if (
        os.name == "nt" and place.is_dir()
    ):  # cannot be replaced there, only removed; a junction is an empty folder to it
        os.rmdir(place)
    own.replace(place)


def _without_privilege(source: Path, place: Path) -> None:
    if source.is_dir():
        import _winapi

        _winapi.CreateJunction(str(source), str(place))
    else:
        os.link(source, place)
