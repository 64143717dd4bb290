"""Which ComfyUI the extension needs, and the sentence for an older one.

The first thing that a host of any age runs of the extension, so it imports nothing of the host's.
"""

import re
import sys

OLDEST_HOST = "0.30.0"  # the oldest on which every test has passed


def host_version() -> str | None:
    """What the running ComfyUI calls itself: "" if it is too old to say, None outside of ComfyUI."""
    if "folder_paths" not in sys.modules:
        return None
    try:
        from comfyui_version import __version__
    except ImportError:
        return ""
    return __version__


def too_old(version: str) -> bool:
    """A version that does not begin with numbers, as a fork's may not, is taken for new enough; none at all is old."""
    found = re.match(r"v?(\d+(?:\.\d+)*)", version)
    if not found:
        return not version
    here, oldest = ([*map(int, text.split(".")), 0, 0][:3] for text in (found[1], OLDEST_HOST))
    return here < oldest


def complaint(version: str | None) -> str | None:
    """One sentence for the user if this ComfyUI is too old, else None."""
    if version is None or not too_old(version):
        return None
    return (
        f"HyperDreamBooth needs ComfyUI {OLDEST_HOST} or newer, but this is ComfyUI "
        f"{version or 'of a version that does not tell its number'}, so its nodes were not loaded: update ComfyUI and "
        "install its requirements.txt again, then restart it."
    )
