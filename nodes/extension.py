"""The extension as ComfyUI sees it: start-up and the list of nodes."""

from comfy_api.latest import ComfyExtension, io

from ..faceworld.family import register as register_faceworld
from ..faceworld.family import register_folders as register_faceworld_folders
from .apply_lidb import ApplyLiDB
from .export_lora import ExportLoRA
from .finetune import RankRelaxedFinetune
from .folders import place_example, register_folders
from .lidb_files import LoadLiDB, SaveLiDB
from .load_hypernet import LoadHyperNet
from .predict import PredictLiDB


class HyperDreamBooth(ComfyExtension):
    async def on_load(self) -> None:
        """Runs before the nodes are listed: their file combos need the folders."""
        register_folders()
        register_faceworld()
        register_faceworld_folders()
        place_example()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [LoadHyperNet, PredictLiDB, RankRelaxedFinetune, ApplyLiDB, SaveLiDB, LoadLiDB, ExportLoRA]
