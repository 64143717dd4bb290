"""From picture files to shards: reading, cropping and encoding with the host's VAE, fitting through its UNet."""

import argparse
from collections.abc import Iterable
from pathlib import Path

import comfy.sd
import folder_paths
import torch

from ..hypernet.picture_folder import TOO_DEEP, Person, caption_of, fingerprint, is_reference, mask_of
from ..hypernet.precompute import FitSettings, fit_people
from ..hypernet.shards import Shard
from ..lidb.basis import Basis
from ..lidb.basis_form import describe
from ..nodes.host import HostModel
from ..nodes.pictures import read_square, resize
from .precompute import TOGETHER
from .study import digest


class Preparation:
    """A loaded checkpoint that turns people into shards.

    Raises:
        ValueError: no such checkpoint, a basis that does not fit it, or a prompt that cannot be trained on.
    """

    def __init__(self, args: argparse.Namespace):
        with torch.inference_mode():
            path = folder_paths.get_full_path_or_raise("checkpoints", args.checkpoint)
            self.checkpoint = digest(Path(path))[:16]
            self.host = HostModel(*comfy.sd.load_checkpoint_guess_config(path)[:3])
        self.basis = Basis(args.a, args.b)
        self.basis.check_fits(self.host.table)
        low_share = 0.5 if args.own_start else FitSettings.low_share  # the paper's noise levels are even
        self.fit = FitSettings(args.steps, args.lr, args.samples, low_share, args.seed, args.own_start)
        self.prompt, self.trigger = args.prompt, args.trigger
        self.host.one_section(self.prompt)
        self.resolution = args.resolution or self.host.side
        self.face_size = args.face_size or (128 if self.host.base == "Faceworld" else 224)
        self.together = args.together or TOGETHER.get(self.host.base, 4)

    @property
    def settings(self) -> dict:
        """Everything that people of one folder must have in common."""
        return {
            "checkpoint": self.checkpoint,
            "base": self.host.base,
            "table": self.host.table.pack(),
            "basis": describe(self.basis),
            "trigger": self.trigger,
            "prompt": self.prompt,
            "resolution": self.resolution,
            "face_size": self.face_size,
            "fit": vars(self.fit),
        }

    def read(self, wanted: Iterable[str], people: dict[str, Person]) -> Shard:
        """The pictures of those who are wanted, with nobody fitted; what is broken is listed, and who has nothing is left out."""
        names, captions, owner, reference, faces, latents, skipped, seen = [], [], [], [], [], [], [], {}
        for name in wanted:
            if name not in people:
                skipped.append((name, "there when the folder was begun, gone now"))
                continue
            person, kept = people[name], 0
            seen[name] = fingerprint(person)
            if not person.pictures:
                skipped.append((name, TOO_DEEP))
            for picture in person.pictures:
                try:
                    caption = caption_of(picture, self.prompt, self.trigger)
                    self.host.one_section(caption)
                    face = read_square(picture, mask_of(picture))
                    small, large = (resize(face, side, side) for side in (self.face_size, self.resolution))
                    with torch.inference_mode():
                        latent = self.host.encode_image(large).half().cpu()
                    if not torch.isfinite(latent).all():
                        raise ValueError("the autoencoder makes numbers of it that are not finite")
                except (ValueError, PermissionError, FileNotFoundError, IsADirectoryError) as error:
                    # a dead link, a folder named like a picture; a disk or share that fails ends the run instead
                    skipped.append((person.label(picture), str(error)))
                    continue
                faces.append((small[0] * 255 + 0.5).to(torch.uint8))
                latents.append(latent)
                captions.append(caption)
                owner.append(len(names))
                reference.append(is_reference(picture))
                kept += 1
            if kept:
                names.append(person.name)
        return Shard(
            names,
            captions,
            torch.stack(faces) if faces else torch.zeros(0, self.face_size, self.face_size, 3, dtype=torch.uint8),
            torch.cat(latents) if latents else torch.zeros(0, 1, 1, 1, dtype=torch.float16),
            torch.tensor(owner, dtype=torch.int32),
            torch.tensor(reference, dtype=torch.uint8),
            torch.zeros(0, len(self.host.table), self.basis.a + self.basis.b),
            torch.zeros(0),
            skipped,
            seen,
        )

    def fit_more(self, shard: Shard, fit: int, first: int, bar) -> None:
        """Fit LiDBs until the first ``fit`` people of a shard have one, ``together`` at a time; ``bar`` (tqdm) shows it. Whose
        LiDB comes out without finite numbers is skipped.

        Raises:
            ValueError: nobody's is finite, so the settings are at fault.
        """
        while (begin := len(shard.loss)) < min(fit, len(shard.names)):
            end = min(begin + self.together, fit, len(shard.names))
            of = [(shard.owner == p).nonzero().flatten().tolist() for p in range(begin, end)]
            texts = [[shard.captions[i] for i in rows] for rows in of]

            def show(step: int, loss: float) -> None:
                bar.set_postfix_str(f"fitting step {step} of {self.fit.steps}, loss {loss:.4f}")

            shape = ((end - begin) * self.fit.samples, *shard.latents.shape[1:])
            with self.host.training(shape):
                latents = [shard.latents[rows] for rows in of]
                theta, loss = fit_people(self.host, self.basis, latents, texts, self.fit, show, first + begin)
            finite = theta.isfinite().all(-1).all(-1)
            if not finite.any():
                raise ValueError(
                    f"The LiDB of {shard.names[begin]} ({end - begin} of {end - begin} people) came out without finite numbers. "
                    "Nothing was written for this batch; try a lower --lr in another --out."
                )
            for i in reversed((~finite).nonzero().flatten().tolist()):
                shard.drop(begin + i, "its LiDB came out without finite numbers")
            theta, loss = theta[finite], loss[finite]
            shard.theta, shard.loss = torch.cat([shard.theta, theta]), torch.cat([shard.loss, loss])
