"""Edge maps as the host's *Canny* node makes them, and the ones that the ControlNet is trained with.

A ControlNet that always sees the edges of the very picture it must make learns to trace them, and with them whoever they
were taken from. Here half of the edges are taken from somebody else in the same photo: same pose, expression, accessory and
place, another face. Where the outline of the control picture and the person asked for disagree, the person may win.
"""

from dataclasses import replace
from multiprocessing import Pool
from pathlib import Path

import numpy as np
import torch
from kornia.filters import canny
from scipy import ndimage

from .renderer.identity import sample_identity
from .renderer.palette import STYLES
from .renderer.render import SIZE, render
from .renderer.world import BASE_SPLIT, base_scene

OTHER_PERSON, OTHER_STYLE = 0.5, 0.5  # share of edge maps


def canny_edges(picture: np.ndarray, low: float, high: float) -> np.ndarray:
    """(H, W, 3) uint8 -> (H, W) bool, equal to the host's node at these thresholds; the last of its steps thirty times faster.

    The node lets strong edges grow along weak ones one pixel at a time: that keeps the connected pieces with a strong pixel.
    """
    x = torch.from_numpy(picture.astype(np.float32) / 255).permute(2, 0, 1)[None]
    strength = canny(x, low, high, hysteresis=False)[1][0, 0].numpy()  # 0, 0.5 weak, 1 strong
    pieces, count = ndimage.label(strength > 0, structure=np.ones((3, 3)))
    keep = np.zeros(count + 1, bool)
    keep[pieces[strength == 1]] = True
    return keep[pieces]


def control_picture(index: int, rng: np.random.Generator) -> np.ndarray:
    """(128, 128, 3): what picture ``index`` of the base model's set shows, maybe with another person, maybe in another style."""
    person, photo, scene, _ = base_scene(index)
    if rng.random() < OTHER_PERSON:
        person = sample_identity(rng)
    if rng.random() < OTHER_STYLE:
        scene = replace(scene, style=STYLES[rng.integers(len(STYLES))])
    return render(person, photo, scene)


def control_edges(index: int) -> np.ndarray:
    """(128 * 128 / 8,) packed bits; the upper threshold is anything from 0.3 to the node's default 0.8, the lower its half."""
    torch.set_num_threads(1)
    rng = np.random.default_rng([BASE_SPLIT, index, 1])
    high = rng.uniform(0.3, 0.8)
    return np.packbits(canny_edges(control_picture(index, rng), high / 2, high))


def edges_of(data: Path, count: int, processes: int) -> np.ndarray:
    """(count, 128 * 128 / 8) packed bits for the pictures of ``faceworld render base``, made once."""
    cache = data / "edges.npy"
    if not cache.is_file():
        with Pool(processes) as pool:
            np.save(cache, np.stack(list(pool.imap(control_edges, range(count), chunksize=50))))
    edges = np.load(cache)
    if len(edges) != count:
        raise ValueError(f"{cache} has {len(edges)} edge maps for {count} pictures. Remove it; it will be made again.")
    return edges


def unpack(edges: np.ndarray) -> torch.Tensor:
    """Packed bits (N, 2048) -> pictures (N, 3, 128, 128) of 0 and 1, as the node gives them."""
    pictures = np.unpackbits(edges, axis=1).reshape(-1, 1, SIZE, SIZE).repeat(3, axis=1)
    return torch.from_numpy(pictures.astype(np.float32))
