"""*Blend LiDBs*: one person out of several."""

import io as bytes_io

from comfy_api.latest import io, ui
from PIL import Image

from ..lidb.blend import blend_factors, blend_residuals, check_same_basis, shares
from ..lidb.value import LiDB
from .pictures import read_thumbnail
from .wire import CATEGORY, LidbWire

WAYS = {"exact sum": blend_residuals, "morph": blend_factors}
SLOTS = 4


def side_by_side(people: list[LiDB]) -> bytes:
    """One JPEG of the thumbnails that can be read, of equal height, from left to right; empty if there are none."""
    pictures = []
    for person in people:
        try:
            pictures.append(read_thumbnail(person.facts.thumbnail))
        except ValueError:
            continue  # a file without a picture, or with a damaged one, is still a person
    if not pictures:
        return b""
    height = min(picture.height for picture in pictures)
    pictures = [p.resize((max(1, p.width * height // p.height), height)) for p in pictures]
    strip, left = Image.new("RGB", (sum(p.width for p in pictures), height)), 0
    for picture in pictures:
        strip.paste(picture, (left, 0))
        left += picture.width
    buffer = bytes_io.BytesIO()
    strip.save(buffer, "JPEG", quality=70)
    return buffer.getvalue()


def explain(people: dict[int, LiDB], weights: list[float], blended: LiDB) -> str:
    """Shares, rank, and a warning where the trigger phrases differ."""
    mixture = " + ".join(f"{100 * share:.3g} % of person {i}" for i, share in zip(people, shares(weights), strict=True))
    lines = [f"{mixture}; rank {blended.rank + blended.full_rank}, {blended.numbers:,} numbers"]
    triggers = {person.facts.trigger for person in people.values()}
    if len(triggers) > 1:
        lines.append(
            f'The trigger phrases differ ({", ".join(sorted(triggers))}): "{blended.facts.trigger}" is kept, and calls the '
            "others less surely."
        )
    return "\n".join(lines)


class BlendLiDBs(io.ComfyNode):
    @classmethod
    def define_schema(cls):
        numbered = range(1, SLOTS + 1)
        return io.Schema(
            node_id="HDB_BlendLiDBs",
            has_intermediate_output=True,  # the report comes back after the page was loaded again
            display_name="Blend LiDBs",
            category=CATEGORY,
            description="Mixes two to four people of one base model and basis. The weights are divided by their sum, so the "
            "mixture is as strong as one person: 1 and 1 is the average, 1 and 0 exactly the first person.",
            search_aliases=["hyperdreambooth", "merge", "mix", "average", "interpolate", "morph"],
            inputs=[
                *[
                    LidbWire.Input(
                        f"lidb_{i}",
                        optional=i > 2,
                        tooltip=f"Person {i}." if i <= 2 else f"Person {i}; left out if unconnected.",
                    )
                    for i in numbered
                ],
                *[
                    io.Float.Input(
                        f"weight_{i}",
                        default=1.0,
                        min=-10.0,
                        max=10.0,
                        step=0.05,
                        tooltip=f"How much of person {i}, divided by the sum of the weights. Below 0: away from this person.",
                    )
                    for i in numbered
                ],
                io.Combo.Input(
                    "how",
                    options=list(WAYS),
                    default="exact sum",
                    tooltip="exact sum: the weighted sum of what the people do to the model, without any error; the ranks add up, and "
                    "finetuned people may be mixed. morph: the weighted mean of the numbers themselves; for predictions (rank 1) "
                    "only, stays rank 1 and as small, and gives somebody in between; not the sum, because a residual is a product "
                    "of two factors.",
                ),
            ],
            outputs=[
                LidbWire.Output(display_name="lidb", tooltip="The mixture, a person like any other."),
                io.String.Output(display_name="trigger", tooltip="The words that call the mixture: person 1's."),
                io.String.Output(
                    display_name="report", tooltip="Shares, rank and size; says so if trigger phrases differ."
                ),
            ],
        )

    @classmethod
    def execute(cls, how, **inputs):
        people = {i: inputs[f"lidb_{i}"] for i in range(1, SLOTS + 1) if inputs.get(f"lidb_{i}") is not None}
        check_same_basis(list(people.values()), list(people))
        shares([inputs[f"weight_{i}"] for i in people])
        people = {i: person for i, person in people.items() if inputs[f"weight_{i}"]}  # the others are left out
        weights = [inputs[f"weight_{i}"] for i in people]
        blended = WAYS[how](list(people.values()), weights)
        if not any(blended is person for person in people.values()):
            blended = blended.with_facts(thumbnail=side_by_side(list(people.values())))
        report = explain(people, weights, blended)
        return io.NodeOutput(blended, blended.facts.trigger, report, ui=ui.PreviewText(report))
