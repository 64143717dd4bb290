"""The extension as ComfyUI sees it: start-up and the list of nodes."""

from comfy_api.latest import ComfyExtension, io

from ..faceworld.family import register as register_faceworld
from ..faceworld.family import register_folders as register_faceworld_folders
from ..faceworld.metrics import IdentityMetric
from .apply_lidb import ApplyLiDB
from .blend_lidbs import BlendLiDBs
from .crop_face import CropFace
from .export_lora import ExportLoRA
from .finetune import RankRelaxedFinetune
from .folders import place_examples, register_folders
from .identity_score import IdentityScore
from .lidb_files import LoadLiDB, SaveLiDB
from .lidb_info import LiDBInfo
from .load_hypernet import LoadHyperNet
from .predict import PredictLiDB
from .rulers import Ruler, register_ruler

FACEWORLD_IDENTITY = Ruler(
    name="faceworld identity (drawn faces only)",
    side=128,
    marks="Same person 0.94, a look-alike 0.42, somebody else 0.00 (photo against photo); a right edit against a photo 0.89. "
    "It judges who it is, not how well it is drawn: look at the pictures too.",
    load=IdentityMetric,
)


class HyperDreamBooth(ComfyExtension):
    async def on_load(self) -> None:
        """Runs before the nodes are listed: their combos need the folders and the measures."""
        register_folders()
        register_faceworld()
        register_faceworld_folders()
        register_ruler(FACEWORLD_IDENTITY)
        place_examples()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            LoadHyperNet,
            CropFace,
            PredictLiDB,
            RankRelaxedFinetune,
            ApplyLiDB,
            SaveLiDB,
            LoadLiDB,
            ExportLoRA,
            BlendLiDBs,
            LiDBInfo,
            IdentityScore,
        ]
