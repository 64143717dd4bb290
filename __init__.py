"""ComfyUI-HyperDreamBooth: ComfyUI loads this file; everything else is imported when it asks for the nodes."""

import logging

from .nodes.host_version import complaint, host_version

WEB_DIRECTORY = "./web"

if too_old := complaint(host_version()):
    logging.error(too_old)
    WEB_DIRECTORY, NODE_CLASS_MAPPINGS = None, {}  # no nodes, so that the host does not call the function below


async def comfy_entrypoint():
    """Return the extension object (ComfyUI's V3 entry point)."""
    from .nodes.extension import HyperDreamBooth

    return HyperDreamBooth()
