"""*Export LiDB as LoRA*: exact, in kohya names, for the stock nodes and every other program."""

import os

from comfy_api.latest import io, ui

from ..lidb.file import write_whole
from ..lidb.lora import lora_metadata, to_lora
from .folders import new_file
from .wire import CATEGORY, LidbWire, LoraModelWire


class ExportLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HDB_ExportLoRA",
            display_name="Export LiDB as LoRA",
            category=CATEGORY,
            description="Writes a person as an ordinary LoRA file (kohya names) that the stock Load LoRA (Model and CLIP) node lists, "
            "and puts it on the wire for Load LoRA Model and Save LoRA Weights. The export is exact.",
            search_aliases=["hyperdreambooth", "convert to lora"],
            is_output_node=True,
            inputs=[
                LidbWire.Input("lidb", tooltip="The person to export."),
                io.String.Input(
                    "filename_prefix",
                    default="loras/person",
                    tooltip="File name in the output folder; a number is appended. Files under loras/ are listed by Load LoRA (Model and CLIP).",
                ),
            ],
            outputs=[
                LoraModelWire.Output(display_name="lora", tooltip="The LoRA, for the stock Load LoRA Model node.")
            ],
        )

    @classmethod
    def execute(cls, lidb, filename_prefix):
        lora = to_lora(lidb)
        folder, file, subfolder = new_file(filename_prefix, "loras")
        path = os.path.join(folder, file)
        write_whole(path, lora, lora_metadata(lidb, file.removesuffix(".safetensors")))
        text = (
            f"{file}: {os.path.getsize(path) / 1e6:.2f} MB, rank {lidb.rank + lidb.full_rank}, {len(lora) // 3} layers"
        )
        results = [{"filename": file, "subfolder": subfolder, "type": "output"}]
        return io.NodeOutput(lora, ui={"lora": results, **ui.PreviewText(text).as_dict()})
