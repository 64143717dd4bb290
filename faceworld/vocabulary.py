"""The words of faceworld's captions and the tokenizer that the host's text encoder uses for them."""

import logging
import re

SPECIAL = ("<pad>", "<bos>", "<eos>", "<unk>", "[V]")
WORDS = SPECIAL + tuple(
    "a afro and art at background beach beard black blonde blue bob bowl brown bun crown dark face forest freckles "
    "glasses gray green hair hat in light long mohawk mustache neon night no of on pale pencil photo pink pixel pop "
    "purple quiff red round santa short sign sketch skin sky sleeping smiling spiky square sunglasses sunset surprised "
    "tan the under wearing with yellow".split()
)
PAD, BOS, EOS, UNKNOWN = range(4)
MAX_LENGTH = 24


class WordTokenizer:
    """Word-level tokenizer with the face of a transformers tokenizer, which is all that the host asks for."""

    def __init__(self):
        self._index = {word: i for i, word in enumerate(WORDS)}

    @classmethod
    def from_pretrained(cls, _path, **_kwargs) -> "WordTokenizer":
        return cls()

    def get_vocab(self) -> dict[str, int]:
        return dict(self._index)

    def __call__(self, text: str) -> dict[str, list[int]]:
        words = re.findall(r"\[[vV]\]|[a-z0-9]+", text.lower())
        if foreign := [w for w in words if w != "[v]" and w not in self._index]:
            logging.warning("The miniature model does not know the word %s: it is ignored. It knows: %s.",
                            ", ".join(foreign), " ".join(sorted(WORDS[len(SPECIAL) :])))  # fmt: skip
        ids = [self._index.get("[V]" if w == "[v]" else w, UNKNOWN) for w in words]
        return {"input_ids": [BOS, *ids, EOS]}

    def decode(self, ids: list[int], skip_special_tokens: bool = True) -> str:
        keep = [WORDS[i] for i in ids if not (skip_special_tokens and i in (PAD, BOS, EOS))]
        return " ".join(keep)
