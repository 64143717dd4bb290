"""Steps and learning rate of each method, chosen on validation people of faceworld, so good for nothing else yet.

The most likeness among those tried whose edits obey within 5 % of the plain model's prompt score (``bench/tables/tuning.py``;
coarse grids; ``docs/tuning.md``); DreamBooth and LoRA at the next lower rate, where likeness is within 0.002 of that and edits
obey better. The tables hold them to the rule.
"""

DEFAULTS = {
    "hyperdreambooth": (40, 2e-2),
    "lidb": (40, 2e-2),
    "lora": (40, 2e-2),
    "dreambooth": (160, 5e-4),
    "textual-inversion": (400, 1e-1),
}
"""Method -> (steps, learning rate); ``hyperdreambooth`` is lidb that begins from a prediction, relaxed in the full space."""
