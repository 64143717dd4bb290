"""What the HyperNet can do now, as a picture: held-out people, their reference and samples of the person it predicts."""

import torch
from einops import rearrange
from PIL import Image

from ..hypernet.hypernet import HyperNet
from ..hypernet.shards import PreparedPeople
from ..lidb.residual import Residuals
from ..lidb.value import expand

STEPS, GUIDANCE = 20, 3.0


@torch.no_grad()
def sample(host, residuals: Residuals, factors, prompts: list[str], seed: int, shape: tuple[int, ...]) -> torch.Tensor:
    """Latents (N, c, h, w) by Euler's method with guidance, one noise for everybody; inside ``host.training``."""
    last = len(host.sigmas) - 1
    sigmas = host.sigmas[torch.linspace(last, 0, STEPS).long()].float().to(host.device)
    sigmas = torch.cat([sigmas, sigmas.new_zeros(1)])
    residuals.set(factors)
    wanted, empty = host.encode_prompts(prompts), host.encode_prompts([""] * len(prompts))
    noise = torch.randn(1, *shape, generator=torch.Generator().manual_seed(seed)).to(host.device)
    x = (noise * sigmas[0]).expand(len(prompts), *shape).clone()
    for here, there in zip(sigmas, sigmas[1:], strict=False):
        sigma = here.expand(len(prompts))
        plain = host.clean(x, sigma, empty)
        x0 = plain + GUIDANCE * (host.clean(x, sigma, wanted) - plain)
        x = x + (x - x0) / here * (there - here)
    return x


def people_sheet(net: HyperNet, identity, host, data: PreparedPeople, people, prompts: list[str]) -> Image.Image:
    """One row per person: reference, one sample per prompt with the prediction, and (last) the plain model's first."""
    references = [data.references[p][0] for p in people]
    a, shape = identity.basis.a, tuple(data.latents([0]).shape[1:])
    with torch.no_grad():
        theta = net(data.faces(references).to(net.mean.device)).float()
    factors = expand(identity.table, identity.basis, theta[..., :a].unsqueeze(-1), theta[..., a:].unsqueeze(-2))
    columns = [data.faces(references)]
    with Residuals(host.modules) as residuals:
        for prompt, use in [*((p, factors) for p in prompts), (prompts[0], None)]:
            latents = sample(host, residuals, use, [prompt] * len(people), 1, shape)
            columns.append(host.decode(latents))
    return grid([[column[i] for column in columns] for i in range(len(people))])


def grid(rows: list[list[torch.Tensor]], side: int = 128) -> Image.Image:
    """Pictures (3, H, W) in 0..1 side by side."""
    page = Image.new("RGB", (side * max(len(row) for row in rows), side * len(rows)))
    for y, row in enumerate(rows):
        for x, picture in enumerate(row):
            array = (rearrange(picture, "c h w -> h w c").clamp(0, 1) * 255 + 0.5).to(torch.uint8).cpu().numpy()
            page.paste(Image.fromarray(array).resize((side, side), Image.Resampling.LANCZOS), (x * side, y * side))
    return page
