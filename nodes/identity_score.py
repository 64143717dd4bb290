"""*Identity Score*: how much pictures look like the person of the reference pictures, as a number to compare settings by."""

import torch
from comfy_api.latest import io, ui
from einops import rearrange

from .rulers import RULERS, Ruler, load_measure
from .wire import CATEGORY


def check_size(ruler: Ruler, **batches: torch.Tensor) -> None:
    """Raise ValueError unless every picture has the one size that the ruler is valid for; nothing is resized in silence."""
    for name, image in batches.items():
        H, W = image.shape[1:3]
        if (H, W) != (ruler.side, ruler.side):
            raise ValueError(
                f"The measure {ruler.name!r} is valid for pictures of {ruler.side} x {ruler.side} pixels as its own model draws "
                f"them, but {name} has {W} x {H}. Crop and scale drawn faces to that size; for photographs and other models "
                "this extension has no measure, and this one's number would mean nothing."
            )


def score(ruler: Ruler, image: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
    """Similarity (N, R) of every picture (N, H, W, C) with every reference (R, H, W, C).

    Raises:
        ValueError: pictures of another size than the ruler's.
    """
    check_size(ruler, image=image, reference=reference)
    with torch.inference_mode(False):
        pictures, references = (
            rearrange(x[..., :3].float().cpu().clone(), "n h w c -> n c h w") for x in (image, reference)
        )
        measure = load_measure(ruler.name)
        return torch.stack([measure.similarity(pictures, one[None]) for one in references], dim=1)


def explain(ruler: Ruler, similarity: torch.Tensor) -> str:
    """Name of the measure, mean, every picture's own score, and what the numbers mean."""
    N, R = similarity.shape
    lines = [f"{ruler.name}: {float(similarity.mean()):.3f} (mean of {N} x {R} comparisons)"]
    lines += [f"picture {i}: {float(row.mean()):.3f}" for i, row in enumerate(similarity, 1)]
    return "\n".join([*lines, ruler.marks])


class IdentityScore(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="HDB_IdentityScore",
            display_name="Identity Score",
            category=CATEGORY,
            description="Measures how much pictures look like the person of the reference pictures, to compare settings in the "
            "graph. The only measure that comes with the extension is valid for the drawn faces of its miniature model; "
            "pictures of another size are refused.",
            search_aliases=["hyperdreambooth", "similarity", "likeness", "metric", "compare faces"],
            is_output_node=True,
            inputs=[
                io.Image.Input("image", tooltip="The pictures to measure, of the size the measure is valid for."),
                io.Image.Input(
                    "reference",
                    tooltip="Pictures of the person. Use others than the one handed in: likeness to that one is partly copying.",
                ),
                io.Combo.Input(
                    "metric", options=list(RULERS), tooltip="The measure. Its name says which pictures it is valid for."
                ),
            ],
            outputs=[
                io.Float.Output(display_name="score", tooltip="Mean similarity over all pictures and references."),
                io.String.Output(
                    display_name="report",
                    tooltip="The measure's name, every picture's score, and what the numbers mean.",
                ),
            ],
        )

    @classmethod
    def execute(cls, image, reference, metric):
        similarity = score(RULERS[metric], image, reference)
        report = explain(RULERS[metric], similarity)
        return io.NodeOutput(float(similarity.mean()), report, ui=ui.PreviewText(report))
