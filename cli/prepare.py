"""From picture files to shards: reading, cropping and encoding with the host's VAE, fitting through its UNet."""

import argparse

import comfy.sd
import folder_paths
import torch

from ..hypernet.picture_folder import Person, caption_of, is_reference, mask_of
from ..hypernet.precompute import FitSettings, fit_people
from ..hypernet.shards import Shard
from ..lidb.basis import Basis
from ..lidb.basis_form import describe
from ..nodes.host import HostModel
from ..nodes.pictures import read_square, resize
from .precompute import RESOLUTION


class Preparation:
    """A loaded checkpoint that turns people into shards.

    Raises:
        ValueError: no such checkpoint, or a basis that does not fit it.
    """

    def __init__(self, args: argparse.Namespace):
        with torch.inference_mode():
            path = folder_paths.get_full_path_or_raise("checkpoints", args.checkpoint)
            self.host = HostModel(*comfy.sd.load_checkpoint_guess_config(path)[:3])
        self.basis = Basis(args.a, args.b)
        self.basis.check_fits(self.host.table)
        self.fit = FitSettings(args.steps, args.lr, args.samples, seed=args.seed, own_start=args.own_start)
        self.prompt, self.trigger = args.prompt, args.trigger
        self.resolution = args.resolution or RESOLUTION.get(self.host.base, 512)
        self.face_size = args.face_size or (128 if self.host.base == "Faceworld" else 224)

    @property
    def settings(self) -> dict:
        """Everything that people of one folder must have in common."""
        return {
            "base": self.host.base,
            "table": self.host.table.pack(),
            "basis": describe(self.basis),
            "trigger": self.trigger,
            "prompt": self.prompt,
            "resolution": self.resolution,
            "face_size": self.face_size,
            "fit": vars(self.fit),
        }

    def shard(self, people: list[Person], fit: int, first: int, bar) -> Shard:
        """Read everybody's pictures; fit a LiDB for the first ``fit`` of those with a picture left; ``bar`` (tqdm) shows the steps."""
        names, captions, owner, reference, faces, latents, skipped = [], [], [], [], [], [], []
        for person in people:
            kept = 0
            for picture in person.pictures:
                try:
                    caption = caption_of(picture, self.prompt, self.trigger)
                    face = read_square(picture, mask_of(picture))
                except (ValueError, OSError) as error:
                    skipped.append((person.label(picture), str(error)))
                    continue
                small, large = (resize(face, side, side) for side in (self.face_size, self.resolution))
                faces.append((small[0] * 255 + 0.5).to(torch.uint8))
                with torch.inference_mode():
                    latents.append(self.host.encode_image(large).half().cpu())
                captions.append(caption)
                owner.append(len(names))
                reference.append(is_reference(picture))
                kept += 1
            if kept:
                names.append(person.name)
        L, numbers = len(self.host.table), self.basis.a + self.basis.b
        shard = Shard(
            names,
            captions,
            torch.stack(faces) if faces else torch.zeros(0, self.face_size, self.face_size, 3, dtype=torch.uint8),
            torch.cat(latents) if latents else torch.zeros(0, 1, 1, 1, dtype=torch.float16),
            torch.tensor(owner, dtype=torch.int32),
            torch.tensor(reference, dtype=torch.uint8),
            torch.zeros(0, L, numbers),
            torch.zeros(0),
            skipped,
        )
        fit = min(fit, len(names))
        if fit:
            of = [[i for i, o in enumerate(owner) if o == p] for p in range(fit)]
            texts = [[captions[i] for i in rows] for rows in of]

            def show(step: int, loss: float) -> None:
                bar.set_postfix_str(f"fitting step {step} of {self.fit.steps}, loss {loss:.4f}")

            shape = (fit * self.fit.samples, *shard.latents.shape[1:])
            with self.host.training(shape):
                shard.theta, shard.loss = fit_people(
                    self.host, self.basis, [shard.latents[rows] for rows in of], texts, self.fit, show, first
                )
        return shard
