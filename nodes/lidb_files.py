"""*Save LiDB* and *Load LiDB*: a person as a file of a few KB."""

import os

import folder_paths
from comfy_api.latest import io, ui

from ..lidb.file import DTYPES, load_lidb, save_lidb
from .folders import file_choices, file_stamp, new_file
from .learned import find_learned_basis
from .wire import CATEGORY, LidbWire


class SaveLiDB(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HDB_SaveLiDB",
            display_name="Save LiDB",
            category=CATEGORY,
            description="Writes a person as a small .safetensors file into the output folder, where Load LiDB finds it.",
            search_aliases=["hyperdreambooth", "save identity"],
            is_output_node=True,
            inputs=[
                LidbWire.Input("lidb", tooltip="The person to save."),
                io.String.Input(
                    "filename_prefix",
                    default="lidb/person",
                    tooltip="File name in the output folder; a number is appended. Files under lidb/ are listed by Load LiDB.",
                ),
                io.Combo.Input(
                    "precision",
                    options=list(DTYPES),
                    default="float16",
                    tooltip="float16: 60 KB for SD 1.5 at rank 1, the same picture to the eye. float32: exact, twice the size.",
                ),
            ],
            outputs=[],
        )

    @classmethod
    def execute(cls, lidb, filename_prefix, precision):
        folder, file, subfolder = new_file(filename_prefix, "lidb")
        size = save_lidb(os.path.join(folder, file), lidb, precision)
        text = f'{file}: {size / 1000:.1f} KB, trigger phrase "{lidb.facts.trigger}"'
        results = [{"filename": file, "subfolder": subfolder, "type": "output"}]
        return io.NodeOutput(ui={"lidb": results, **ui.PreviewText(text).as_dict()})


class LoadLiDB(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HDB_LoadLiDB",
            display_name="Load LiDB",
            category=CATEGORY,
            description="Reads a person saved by Save LiDB. The file says which base model and trigger phrase it belongs to.",
            search_aliases=["hyperdreambooth", "load identity"],
            inputs=[
                io.Combo.Input(
                    "lidb_name", options=file_choices("lidb"), tooltip="A file in models/lidb or output/lidb."
                ),
            ],
            outputs=[
                LidbWire.Output(display_name="lidb", tooltip="The person."),
                io.String.Output(display_name="trigger", tooltip="The words that call the person."),
            ],
        )

    @classmethod
    def fingerprint_inputs(cls, lidb_name):
        return file_stamp("lidb", lidb_name)

    @classmethod
    def execute(cls, lidb_name):
        lidb = load_lidb(folder_paths.get_full_path_or_raise("lidb", lidb_name), find_learned_basis)
        return io.NodeOutput(lidb, lidb.facts.trigger)
