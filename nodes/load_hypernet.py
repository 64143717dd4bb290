"""*Load HyperNet*."""

import comfy.model_management as mm
import comfy.model_patcher
import folder_paths
import torch
from comfy_api.latest import io

from ..hypernet.checkpoint import load_hypernet
from ..lidb.value import Facts, LiDB
from .folders import file_choices, file_stamp
from .wire import CATEGORY, HypernetWire


class LoadedHyperNet:
    """A HyperNet under the host's memory management (the host looks for ``patcher``)."""

    def __init__(self, path: str):
        self.net, self.identity = load_hypernet(path)
        self.patcher = comfy.model_patcher.ModelPatcher(self.net, mm.get_torch_device(), mm.unet_offload_device())

    def predict(self, photos: torch.Tensor, thumbnail: bytes) -> LiDB:
        """Photos (P, 3, S, S) in 0..1 of one person -> the rank-1 identity."""
        mm.load_models_gpu([self.patcher], force_full_load=True)  # it cannot run in parts
        vector = self.net.predict(photos.to(self.net.mean.device))
        facts = Facts(trigger=self.identity.trigger, base=self.identity.base, made_by="predicted", thumbnail=thumbnail)
        return LiDB.from_vector(self.identity.table, self.identity.basis, vector, facts)


class LoadHyperNet(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HDB_LoadHyperNet",
            display_name="Load HyperNet",
            category=CATEGORY,
            description="Loads a HyperNet, the network that predicts a person's LiDB from a photo. It belongs to one base "
            "model; the file says which. All sizes come from the file.",
            search_aliases=["hyperdreambooth"],
            inputs=[
                io.Combo.Input(
                    "hypernet_name", options=file_choices("hypernets"), tooltip="A file in models/hypernets."
                )
            ],
            outputs=[HypernetWire.Output(display_name="hypernet", tooltip="For Predict LiDB.")],
        )

    @classmethod
    def fingerprint_inputs(cls, hypernet_name):
        return file_stamp("hypernets", hypernet_name)

    @classmethod
    def execute(cls, hypernet_name):
        return io.NodeOutput(LoadedHyperNet(folder_paths.get_full_path_or_raise("hypernets", hypernet_name)))
