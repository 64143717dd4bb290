"""The wire types that are ours; everything else on the wires is the host's own."""

from comfy_api.latest import io

CATEGORY = "HyperDreamBooth"

LidbWire = io.Custom("LIDB")
HypernetWire = io.Custom("HYPERNET")
LossMapWire = io.Custom("LOSS_MAP")
LoraModelWire = io.Custom("LORA_MODEL")
FaceDetectorWire = io.Custom("FACE_DETECTION_MODEL")
