"""*Crop Face* in the real executor: every way to say where the face is, and what it says when there is none."""

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file

from hyperdreambooth.cli.headless import NodeFailed

BLACK, GREY, WHITE = 0, 245, 255


def write(host, name: str, *spots: tuple[int, int, int], size=(256, 256)) -> str:
    """A black picture with 16-pixel squares at (x, y, grey)."""
    pixels = np.zeros((size[1], size[0], 3), np.uint8)
    for x, y, grey in spots:
        pixels[y - 8 : y + 8, x - 8 : x + 8] = grey
    Image.fromarray(pixels).save(host.base / "input" / f"{name}.png")
    return f"{name}.png"


def crop(host, *names: str, sources: dict | None = None, more: dict | None = None, **widgets):
    """Run the node on a batch of pictures -> (squares as files, report, the box as the stock preview prints it)."""
    api = {f"image{i}": {"class_type": "LoadImage", "inputs": {"image": name}} for i, name in enumerate(names)}
    pictures = ["image0", 0]
    if len(names) > 1:
        batch = {f"images.image{i}": [f"image{i}", 0] for i in range(len(names))}
        api["batch"] = {"class_type": "BatchImagesNode", "inputs": batch}
        pictures = ["batch", 0]
    widgets = {"index": 0, "margin": 1.0, "no_face": "stop", "min_confidence": 0.5} | widgets
    api["crop"] = {"class_type": "HDB_CropFace", "inputs": {"image": pictures, **widgets, **(sources or {})}}
    api["box"] = {"class_type": "PreviewAny", "inputs": {"source": ["crop", 1]}}
    outputs = host.run(api | (more or {}))
    return host.saved(outputs["crop"]), outputs["crop"]["text"][0], outputs["box"]["text"][0]


@pytest.fixture(scope="module")
def detector(host) -> str:
    """A file for the host's MediaPipe nodes whose network finds bright spots: the host's code, weights of our own.

    Brightness above a threshold passes unchanged through the zero-weight residual blocks; the brighter, the larger the box.
    """
    from comfy_extras.mediapipe import face_landmarker as mp
    from comfy_extras.nodes_mediapipe import _CONTOUR_PARTS

    numbers = {}
    for variant in ("short", "full"):
        net = mp.FaceLandmarker(dtype=torch.float32, detector_variant=variant)
        for key, value in net.state_dict().items():
            numbers[key.replace("detector.", f"detector_{variant}.", 1)] = torch.zeros_like(value)
    numbers["detector_full.cls_dw.bias"] -= 10
    numbers["detector_short.stem.weight"][0, :, 2, 2] = 1
    numbers["detector_short.stem.bias"][0] = -2  # white 3 - 2 = 1, grey 245: 0.77, black 0
    numbers["detector_short.cls_16.weight"][0, 0] = 40
    numbers["detector_short.cls_16.bias"] -= 20
    numbers["detector_short.cls_8.bias"] -= 20
    numbers["detector_short.reg_16.weight"][2:4, 0] = 100  # width and height, in 1/128 of the picture
    numbers["detector_short.reg_16.bias"][:8] = torch.tensor([0, 0, -50.0, -50, -5, 0, 5, 0])
    stream = torch.Generator().manual_seed(0)
    landmarks = torch.rand(478, 3, generator=stream) * 128 + 32  # the box inside the 1.5 times as large input
    landmarks[0], landmarks[1] = 32, 160
    numbers["mesh.head_landmarks.bias"] = landmarks.reshape(-1)
    numbers["canonical_vertices"] = torch.randn(468, 3, generator=stream)
    numbers["procrustes_indices"] = torch.arange(33, dtype=torch.int32)
    numbers["procrustes_weights"] = torch.ones(33)
    for part in (*_CONTOUR_PARTS, "irises", "nose", "tesselation"):
        numbers[f"topology.{part}"] = torch.tensor([[0, 1]], dtype=torch.int32)
    path = Path(host.base / "models" / "detection" / "spots.safetensors")
    path.parent.mkdir(exist_ok=True)
    save_file(numbers, path)
    return path.name


def mediapipe(detector):
    loader = {"class_type": "LoadMediaPipeFaceLandmarker", "inputs": {"model_name": detector}}
    return {"sources": {"face_detection_model": ["detector", 0]}, "more": {"detector": loader}}


def test_the_hosts_detector_finds_all_faces_and_the_largest_is_taken(host, detector):
    two = write(host, "two", (72, 72, GREY), (184, 168, WHITE))
    sizes = []
    for index, centre in ((0, (184, 168)), (1, (72, 72))):
        (square,), report, box = crop(host, two, index=index, **mediapipe(detector))
        side = Image.open(square).width
        x, y = (int(part.split(",")[0]) for part in box.split(":")[1:3])
        assert abs(x + side / 2 - centre[0]) <= 8 and abs(y + side / 2 - centre[1]) <= 8, report
        assert report == (
            f"picture 1: {side} x {side} pixels at x = {x}, y = {y}; face {index + 1} of 2 by size, from face_detection_model"
        )
        sizes.append(side)
    assert sizes[0] > sizes[1] >= 48


def test_boxes_of_the_hosts_detector_node_choose_the_same_square(host, detector):
    two = write(host, "two", (72, 72, GREY), (184, 168, WHITE))
    direct = crop(host, two, **mediapipe(detector))
    wired = mediapipe(detector)["more"] | {
        "find": {
            "class_type": "MediaPipeFaceLandmarker",
            "inputs": {
                "face_detection_model": ["detector", 0], "image": ["image0", 0], "detector_variant": "both", "num_faces": 0,
                "min_confidence": 0.5, "missing_frame_fallback": "empty",
            },
        }
    }  # fmt: skip
    by_box = crop(host, two, sources={"bounding_box": ["find", 1]}, more=wired)
    assert Image.open(direct[0][0]).tobytes() == Image.open(by_box[0][0]).tobytes() and direct[2] == by_box[2]
    assert by_box[1].endswith("face 1 of 2 by size, from bounding_box")


def test_a_picture_without_a_face_stops_or_gives_its_middle_as_asked(host, detector):
    found, nobody = write(host, "found", (184, 168, WHITE)), write(host, "nobody")
    with pytest.raises(NodeFailed, match="In picture 2 no face was found.*Lower the detector's confidence"):
        crop(host, found, nobody, **mediapipe(detector))
    squares, report, box = crop(host, found, nobody, no_face="take the middle", **mediapipe(detector))
    assert len(squares) == 2 and len({Image.open(square).size for square in squares}) == 1
    assert "picture 2: 256 x 256 pixels at x = 0, y = 0; the middle, because no face was found" in report
    assert box.count("width") == 2 and box.startswith("[\n    [")  # one list per picture, as the host's detectors give


def test_a_mask_marks_the_face_and_the_crop_agrees_with_the_stock_node(host):
    spot = write(host, "spot", (184, 168, WHITE))
    mask = {
        "mask": {"class_type": "ImageToMask", "inputs": {"image": ["image0", 0], "channel": "red"}},
        "stock": {"class_type": "ImageCropV2", "inputs": {"image": ["image0", 0], "crop_region": ["crop", 1]}},
        "show": {"class_type": "PreviewImage", "inputs": {"images": ["stock", 0]}},
    }
    (square,), report, box = crop(host, spot, sources={"mask": ["mask", 0]}, more=mask, margin=4.0)
    assert report == "picture 1: 64 x 64 pixels at x = 152, y = 136; around the mask"
    pixels = np.asarray(Image.open(square))
    assert (pixels[24:40, 24:40] == WHITE).all() and pixels.astype(int).sum() == 3 * 16 * 16 * 255
    shown = host.run(
        {"image0": {"class_type": "LoadImage", "inputs": {"image": spot}}, **mask,
         "crop": {"class_type": "HDB_CropFace", "inputs": {
             "image": ["image0", 0], "mask": ["mask", 0], "index": 0, "margin": 4.0, "no_face": "stop", "min_confidence": 0.5}}}
    )["show"]  # fmt: skip
    assert np.array_equal(np.asarray(Image.open(host.saved(shown)[0])), pixels)


def test_without_anything_the_middle_is_taken_and_said(host):
    wide = write(host, "wide", (160, 100, WHITE), size=(320, 200))
    (square,), report, _ = crop(host, wide)
    assert Image.open(square).size == (200, 200)
    assert (
        report
        == "picture 1: 200 x 200 pixels at x = 60, y = 0; the middle, because no mask, box or detector is connected"
    )


def test_a_choice_that_cannot_be_meant_is_said(host):
    spot = write(host, "spot", (184, 168, WHITE))
    box = {"box": {"class_type": "PrimitiveBoundingBox", "inputs": {"x": 150, "y": 130, "width": 60, "height": 60}}}
    mask = {"mask": {"class_type": "SolidMask", "inputs": {"value": 0.0, "width": 256, "height": 256}}}
    for sources, widgets, says in (
        ({"bounding_box": ["box", 0]}, {"index": 1}, "Picture 1 has 1 box, so there is none of index 1"),
        ({"bounding_box": ["box", 0], "mask": ["mask", 0]}, {}, "bounding_box and mask are connected"),
        ({"mask": ["mask", 0]}, {}, "The mask of picture 1 is empty"),
        ({"mask": ["mask", 0]}, {"index": 1}, "a mask marks one"),
        ({}, {"index": 2}, "nothing finds any"),
    ):
        with pytest.raises(NodeFailed, match=says) as failure:
            crop(host, spot, sources=sources, more=box | mask, **widgets)
        assert "\n" not in str(failure.value) and str(failure.value).endswith(".")


@pytest.mark.parametrize("kind", ["uint16", "int32", "float32"])
def test_deep_greyscale_keeps_its_shades(tmp_path, kind):
    """Pillow's own conversion makes everything above 255 white."""
    from hyperdreambooth.nodes.pictures import read_square

    shades = np.linspace(0, 1, 128)[None].repeat(128, 0)
    white = 65535 if kind != "float32" else 1.0
    Image.fromarray((shades * white).astype(kind)).save(tmp_path / "deep.tiff")
    face = read_square(tmp_path / "deep.tiff")
    assert np.abs(face[0, :, :, 0].numpy() - shades).max() < 2 / 255


def test_a_broken_mask_is_the_pictures_fault_and_said_so(tmp_path):
    from hyperdreambooth.nodes.pictures import read_square

    Image.fromarray(np.random.default_rng(0).integers(0, 255, (128, 128, 3), dtype=np.uint8)).save(tmp_path / "a.png")
    whole = io.BytesIO()
    Image.fromarray(np.full((128, 128), 255, np.uint8)).save(whole, "PNG")
    (tmp_path / "mask.png").write_bytes(whole.getvalue()[:60])
    with pytest.raises(ValueError, match="its mask is not a readable picture"):
        read_square(tmp_path / "a.png", tmp_path / "mask.png")


def test_a_small_face_in_a_batch_does_not_shrink_the_others():
    from hyperdreambooth.nodes.pictures import cut_squares

    image = torch.rand(2, 200, 200, 3, generator=torch.Generator().manual_seed(0))
    crops = cut_squares(image, [(0, 0, 60), (10, 10, 180)])
    assert crops.shape == (2, 180, 180, 3) and torch.equal(crops[1], image[1, 10:190, 10:190])


def test_predict_takes_one_word_for_where_the_face_is(host):
    from hyperdreambooth.nodes.predict import PredictLiDB

    with pytest.raises(ValueError, match="bounding_box and mask are connected"):
        PredictLiDB.execute(None, torch.rand(1, 64, 64, 3), mask=torch.ones(1, 64, 64), bounding_box={"x": 0})
