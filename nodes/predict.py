"""*Predict LiDB*: one forward pass from a photo to a person."""

from comfy_api.latest import io
from einops import rearrange

from .pictures import check_shows_something, crop_face, jpeg_thumbnail, only_source, resize
from .wire import CATEGORY, HypernetWire, LidbWire


class PredictLiDB(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HDB_PredictLiDB",
            display_name="Predict LiDB",
            category=CATEGORY,
            description="Predicts a person's LiDB from one photo of the face, or from a batch of photos of the same person, "
            "which are combined. Returns the square it looked at.",
            search_aliases=["hyperdreambooth", "face to lora"],
            inputs=[
                HypernetWire.Input("hypernet", tooltip="From Load HyperNet."),
                io.Image.Input("image", tooltip="A photo of one face, or several photos of one person as a batch."),
                io.Mask.Input("mask", optional=True, tooltip="White where the face is; the square around it is used."),
                io.BoundingBox.Input(
                    "bounding_box", optional=True, force_input=True, socketless=False, tooltip="A box around the face."
                ),
            ],
            outputs=[
                LidbWire.Output(display_name="lidb", tooltip="The predicted person."),
                io.Image.Output(display_name="crop", tooltip="The square that was used, for Rank-Relaxed Finetune."),
            ],
        )

    @classmethod
    def execute(cls, hypernet, image, mask=None, bounding_box=None):
        only_source(bounding_box=bounding_box, mask=mask)
        crop = crop_face(image, mask, bounding_box)
        check_shows_something(crop)
        side = hypernet.net.config.image_size
        photos = rearrange(resize(crop, side, side), "p h w c -> p c h w")
        return io.NodeOutput(hypernet.predict(photos, jpeg_thumbnail(crop[0])), crop)
