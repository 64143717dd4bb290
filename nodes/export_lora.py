"""*Export LiDB as LoRA*: exact, in kohya names, for the stock nodes and every other program."""

import os

import folder_paths
from comfy_api.latest import io, ui
from safetensors.torch import save_file

from ..lidb.lora import lora_metadata, to_lora
from .wire import CATEGORY, LidbWire, LoraModelWire


class ExportLoRA(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HDB_ExportLoRA",
            display_name="Export LiDB as LoRA",
            category=CATEGORY,
            description="Writes a person as an ordinary LoRA file (kohya names) that the stock Load LoRA node lists, and puts "
            "it on the wire for Load LoRA Model and Save LoRA Weights. The export is exact.",
            search_aliases=["hyperdreambooth", "convert to lora"],
            is_output_node=True,
            inputs=[
                LidbWire.Input("lidb", tooltip="The person to export."),
                io.String.Input(
                    "filename_prefix",
                    default="loras/person",
                    tooltip="File name in the output folder; a number is appended. Files under loras/ are listed by Load LoRA.",
                ),
            ],
            outputs=[
                LoraModelWire.Output(display_name="lora", tooltip="The LoRA, for the stock Load LoRA Model node.")
            ],
        )

    @classmethod
    def execute(cls, lidb, filename_prefix):
        lora = to_lora(lidb)
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, folder_paths.get_output_directory()
        )
        file = f"{name}_{counter:05}_.safetensors"
        path = os.path.join(folder, file)
        save_file(lora, f"{path}.partial", metadata=lora_metadata(lidb, name))
        os.replace(f"{path}.partial", path)
        text = (
            f"{file}: {os.path.getsize(path) / 1e6:.2f} MB, rank {lidb.rank + lidb.full_rank}, {len(lora) // 3} layers"
        )
        results = [{"filename": file, "subfolder": subfolder, "type": "output"}]
        return io.NodeOutput(lora, ui={"lora": results, **ui.PreviewText(text).as_dict()})
