"""*Crop Face*: choose one face of a picture, and show which.

There is no detector in here. The host has one (MediaPipe, its file in ``models/detection``), other nodes put boxes on the
wire, and a mask can be painted. Without any of them the middle is cut out, and the node says so.
"""

import torch
from comfy_api.latest import io, ui

import nodes as host_nodes

from .pictures import MASK_MARGIN, boxes_of, cut_squares, face_squares, only_source
from .wire import CATEGORY, FaceDetectorWire

STOP, MIDDLE = "stop", "take the middle"
ALL_FACES = 0  # the detector node's own word for "no limit"


def detect_faces(detector, image: torch.Tensor, confidence: float) -> list[list[dict]]:
    """All faces that the host's own MediaPipe node finds, one list of boxes per picture."""
    node = host_nodes.NODE_CLASS_MAPPINGS["MediaPipeFaceLandmarker"]
    return node.execute(
        face_detection_model=detector,
        image=image,
        detector_variant="both",
        num_faces=ALL_FACES,
        min_confidence=confidence,
        missing_frame_fallback="empty",
    )[1]


def explain(squares: list[tuple[int, int, int]], source: str, boxes: dict | list | None, index: int) -> str:
    """One line per picture: what was cut out, and why there."""
    lines = []
    for i, (top, left, side) in enumerate(squares):
        found = [] if boxes is None else boxes_of(boxes, i)
        if found:
            why = f"face {index + 1} of {len(found)} by size, from {source}"
        elif source == "mask":
            why = "around the mask"
        else:
            why = f"the middle, because {'no face was found' if source else 'no mask, box or detector is connected'}"
        lines.append(f"picture {i + 1}: {side} x {side} pixels at x = {left}, y = {top}; {why}")
    return "\n".join(lines)


class CropFace(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HDB_CropFace",
            display_name="Crop Face",
            category=CATEGORY,
            description="Cuts the square with one face out of every picture and shows it. Where the face is says a bounding box, "
            "a mask, or ComfyUI's own face detector; the largest face counts unless you choose another. Without any of them the "
            "middle of the picture is taken, and the report says so.",
            search_aliases=["hyperdreambooth", "detect face", "face detection", "cut face", "mediapipe"],
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="One picture, or a batch of them; each gives one square."),
                io.BoundingBox.Input(
                    "bounding_box",
                    optional=True,
                    force_input=True,
                    socketless=False,
                    tooltip="Boxes around faces, from any node that gives some. The square around the chosen one is cut out.",
                ),
                io.Mask.Input("mask", optional=True, tooltip="White on the one face; the square around it is cut out."),
                FaceDetectorWire.Input(
                    "face_detection_model",
                    optional=True,
                    tooltip="From the stock Load Face Detection Model (MediaPipe): finds all faces of every picture.",
                ),
                io.Int.Input(
                    "index",
                    default=0,
                    min=0,
                    max=63,
                    tooltip="Which face: 0 the largest, 1 the next, and so on. Counts boxes; a mask marks one face.",
                ),
                io.Float.Input(
                    "margin",
                    default=MASK_MARGIN,
                    min=1.0,
                    max=4.0,
                    step=0.05,
                    tooltip="The square's side as a multiple of the face's box. 1.6 takes in hair and chin, as Predict LiDB does.",
                ),
                io.Combo.Input(
                    "no_face",
                    options=[STOP, MIDDLE],
                    default=STOP,
                    tooltip="When a detector found no face in a picture: stop with a message that names it, or take its middle.",
                ),
                io.Float.Input(
                    "min_confidence",
                    default=0.5,
                    min=0.0,
                    max=1.0,
                    step=0.01,
                    advanced=True,
                    tooltip="For face_detection_model only: lower it to find small or hidden faces.",
                ),
            ],
            outputs=[
                io.Image.Output(
                    display_name="crop",
                    tooltip="The squares, for Predict LiDB or Rank-Relaxed Finetune, all of one size.",
                ),
                io.BoundingBox.Output(
                    display_name="bounding_box",
                    tooltip="The square that was cut out, in pixels of the picture; for a batch one list per picture.",
                ),
                io.String.Output(
                    display_name="report", tooltip="Per picture: which face, where, and how it was found."
                ),
            ],
        )

    @classmethod
    def execute(
        cls, image, index, margin, no_face, min_confidence, bounding_box=None, mask=None, face_detection_model=None
    ):
        source = only_source(bounding_box=bounding_box, mask=mask, face_detection_model=face_detection_model)
        if index and source in ("", "mask"):
            raise ValueError(
                f"Index {index} asks for another face than the largest, but {'a mask marks one' if source else 'nothing finds any'}. "
                "Connect bounding_box or face_detection_model, or set index to 0."
            )
        boxes = bounding_box
        if face_detection_model is not None:
            boxes = detect_faces(face_detection_model, image, min_confidence)
        squares = face_squares(image.shape, mask, boxes, index, margin, middle=no_face == MIDDLE)
        crop = cut_squares(image, squares)
        cut = [{"x": left, "y": top, "width": side, "height": side} for top, left, side in squares]
        report = explain(squares, source, boxes, index)
        shown = {**ui.PreviewImage(crop, cls=cls).as_dict(), **ui.PreviewText(report).as_dict()}
        return io.NodeOutput(crop, cut[0] if len(cut) == 1 else [[box] for box in cut], report, ui=shown)
