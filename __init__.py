"""ComfyUI-HyperDreamBooth: ComfyUI loads this file; everything else is imported when it asks for the nodes."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Return the extension object (ComfyUI's V3 entry point)."""
    from .nodes.extension import HyperDreamBooth

    return HyperDreamBooth()
