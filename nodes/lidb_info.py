"""*LiDB Info*: what is in this person."""

import numpy as np
import torch
from comfy_api.latest import io, ui

from ..lidb.summary import summarise
from .pictures import read_thumbnail
from .wire import CATEGORY, LidbWire


class LiDBInfo(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HDB_LiDBInfo",
            display_name="LiDB Info",
            category=CATEGORY,
            description="Shows the thumbnail of a person and says what is inside: trigger phrase, base model, how it was made, "
            "rank, basis, size, and how much each group of layers is changed.",
            search_aliases=["hyperdreambooth", "inspect", "metadata", "show identity"],
            is_output_node=True,
            inputs=[LidbWire.Input("lidb", tooltip="The person to look at.")],
            outputs=[
                io.String.Output(display_name="info", tooltip="The text, several lines."),
                io.String.Output(display_name="trigger", tooltip="The words that call the person."),
            ],
        )

    @classmethod
    def execute(cls, lidb):
        text, pictures = summarise(lidb), {"images": [], "animated": (False,)}  # of a list, the host reads every key
        if lidb.facts.thumbnail:
            try:
                thumbnail = np.asarray(read_thumbnail(lidb.facts.thumbnail)).copy()
                pictures = ui.PreviewImage(torch.from_numpy(thumbnail)[None].float() / 255, cls=cls).as_dict()
            except ValueError as error:  # the numbers are sound all the same
                text += f"\nnot shown: {error}"
        return io.NodeOutput(text, lidb.facts.trigger, ui={**pictures, **ui.PreviewText(text).as_dict()})
