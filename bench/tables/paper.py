"""The paper's own tables (arXiv 2307.06949, as reported second-hand), for the *order* of its methods only.

Its networks, people and pictures are others: none of these numbers can be compared with ours.
"""

COLUMNS = ("Face Rec", "DINO", "CLIP-I", "CLIP-T")
TABLE_1 = {
    "HyperDreamBooth": (0.655, 0.473, 0.577, 0.286),
    "DreamBooth": (0.618, 0.441, 0.546, 0.282),
    "Textual Inversion": (0.623, 0.289, 0.472, 0.277),
}
TABLE_2 = {
    "HyperDreamBooth": (0.655, 0.473, 0.577, 0.286),
    "DreamBooth, 1,200 iterations": (0.618, 0.441, 0.546, 0.282),
    "DreamBooth, 400, higher rate": (0.615, 0.323, 0.431, 0.313),
    "DreamBooth, 40, higher rate": (0.616, 0.360, 0.467, 0.302),
}
TABLE_3 = {
    "full": (0.655, 0.473, 0.577, 0.286),
    "no HyperNet": (0.647, 0.392, 0.498, 0.299),
    "only HyperNet": (0.631, 0.414, 0.501, 0.298),
    "one refinement": (0.648, 0.464, 0.570, 0.288),
}

CLAIMS_1 = [
    ("hyperdreambooth", "dreambooth"),
    ("hyperdreambooth", "dreambooth_prior"),
    ("hyperdreambooth", "harder_prior"),
    ("hyperdreambooth", "textual_inversion"),
]
CLAIMS_3 = [("hyperdreambooth", "zero"), ("hyperdreambooth", "predicted"), ("hyper_ours", "hyper_one_refinement")]
"""(better, worse) in likeness, by all three of the paper's likeness columns; its DreamBooth is held against ours without prior
preservation and with it. The last: HyperNets trained alike, with three refinements and with one."""


def markdown(table: dict[str, tuple]) -> str:
    """The table as the paper has it."""
    lines = ["| the paper's, second-hand | " + " | ".join(COLUMNS) + " |", "|---" * (len(COLUMNS) + 1) + "|"]
    lines += [f"| {name} | " + " | ".join(f"{v:.3f}" for v in row) + " |" for name, row in table.items()]
    return "\n".join(lines) + "\n"
