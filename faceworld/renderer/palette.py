"""Words and colours of the drawn world. Colours are (r, g, b) in 0..1."""

Colour = tuple[float, float, float]


def from_hex(code: str) -> Colour:
    return tuple(int(code[i : i + 2], 16) / 255 for i in (0, 2, 4))


def mix(a: Colour, b: Colour, share: float) -> Colour:
    """``a`` at share 0, ``b`` at share 1."""
    return tuple(x * (1 - share) + y * share for x, y in zip(a, b, strict=True))


def shade(colour: Colour, factor: float) -> Colour:
    """Darker below 1, lighter above, never beyond white."""
    return tuple(min(1, x * factor) for x in colour)


STYLES = ("photo", "pencil sketch", "pixel art", "pop art", "neon sign")
CONTEXTS = ("plain", "beach", "night sky", "forest", "sunset")
ACCESSORIES = ("none", "sunglasses", "red hat", "crown", "santa hat")
EXPRESSIONS = ("neutral", "smiling", "surprised", "sleeping")

BACKGROUNDS = {
    "red": from_hex("d9534f"),
    "blue": from_hex("5b8fd9"),
    "green": from_hex("6fb07a"),
    "yellow": from_hex("ecc94b"),
    "pink": from_hex("f0a6c0"),
    "purple": from_hex("9b7fcf"),
    "gray": from_hex("b5bac0"),
}
SKIN = tuple(from_hex(c) for c in ("fbe0d0", "f3c9a8", "e5ab80", "c98a5b", "a0683f", "754a2c", "4f3020"))
IRIS = tuple(from_hex(c) for c in ("3b2415", "6b4423", "8a7a3a", "4f8a4a", "3f86c6", "7f98a8", "3fb5b0"))
HAIR = {  # name: colour, how common
    "black": (from_hex("1d1a20"), 0.22),
    "brown": (from_hex("5a3620"), 0.2),
    "blonde": (from_hex("e6bf6a"), 0.17),
    "red": (from_hex("bf4a1e"), 0.12),
    "gray": (from_hex("a9adb3"), 0.08),
    "pink": (from_hex("e97fb0"), 0.08),
    "blue": (from_hex("3f79d8"), 0.07),
    "green": (from_hex("3fa56a"), 0.06),
}
HAIRCUTS = {  # name: how common
    "bald": 0.08,
    "short": 0.14,
    "quiff": 0.1,
    "spiky": 0.1,
    "afro": 0.1,
    "bob": 0.12,
    "long": 0.13,
    "bun": 0.1,
    "mohawk": 0.06,
    "bowl": 0.07,
}
NATURAL_BROWS = ("black", "brown", "blonde", "red", "gray")
GLASSES = ("none", "round", "square")
FRAMES = ((0.1, 0.1, 0.12), (0.55, 0.3, 0.15), (0.75, 0.15, 0.2), (0.15, 0.3, 0.6), (0.85, 0.7, 0.3))
EARRINGS = ((0.95, 0.8, 0.3), (0.9, 0.9, 0.95), (0.85, 0.2, 0.3))
FACE_PAINT = ((0.9, 0.2, 0.25), (0.2, 0.5, 0.9), (0.95, 0.85, 0.2), (0.2, 0.7, 0.4))
