"""Captions: with a person's attributes in words, to train the base model, or with "[V]" for the person."""

import numpy as np

from .identity import Identity
from .render import Scene

OPENING = {"photo": "a photo", "pixel art": "pixel art", "pop art": "pop art"}
PLACE = {
    "beach": " at the beach",
    "night sky": " under the night sky",
    "forest": " in the forest",
    "sunset": " at sunset",
}
SKIN_WORDS = ("pale", "light", "tan", "brown", "dark")


def _attributes(person: Identity, rng: np.random.Generator) -> list[str]:
    """A random choice of the person's nameable attributes, in random order."""
    hair = "no hair" if person.hair == "bald" else f"{person.hair_name} {person.hair} hair"
    words = []
    for present, text in (
        (True, SKIN_WORDS[min(4, int(person.skin_tone * 5))] + " skin"),
        (True, hair),
        (person.beard != "none", f"a {person.beard}"),
        (person.glasses != "none", f"{person.glasses} glasses"),
        (person.freckles > 0, "freckles"),
    ):
        if present and rng.random() < 0.8:
            words.append(text)
    rng.shuffle(words)
    return words


def _sentence(scene: Scene, who: str, rng: np.random.Generator, background_chance: float) -> str:
    text = f"{OPENING.get(scene.style, 'a ' + scene.style)} of a "
    text += ("" if scene.expression == "neutral" else scene.expression + " ") + who
    if scene.accessory != "none":
        text += " wearing " + ("" if scene.accessory == "sunglasses" else "a ") + scene.accessory
    if scene.context != "plain":
        return text + PLACE[scene.context]
    if scene.style in ("photo", "pixel art") and rng.random() < background_chance:
        text += f" on a {scene.background} background"
    return text


def describe(person: Identity, scene: Scene, rng: np.random.Generator) -> str:
    """For the base model: "a photo of a smiling face with tan skin and brown bob hair at the beach"."""
    words = _attributes(person, rng) if rng.random() < 0.75 else []
    return _sentence(scene, "face" + (" with " + " and ".join(words) if words else ""), rng, 0.7)


def personal(scene: Scene, rng: np.random.Generator) -> str:
    """For one person's pictures: "a photo of a smiling [V] face at the beach"."""
    return _sentence(scene, "[V] face", rng, 0.5)
