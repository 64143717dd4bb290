"""Muon for matrices and convolutions, AdamW for the rest: the optimiser of the HyperNet and of faceworld's models.

The update of a matrix is its momentum, orthogonalised by five Newton-Schulz steps (Jordan et al., 2024). On faceworld it
needs about half of AdamW's time for the same loss.
"""

import torch


def _orthogonalise(G: torch.Tensor) -> torch.Tensor:
    """(k, m, n) -> the same with singular values near 1."""
    X = G / (G.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    tall = X.shape[-2] > X.shape[-1]
    X = X.mT if tall else X
    for _ in range(5):
        A = X @ X.mT
        X = 3.4445 * X + (-4.7750 * A + 2.0315 * A @ A) @ X
    return X.mT if tall else X


class Muon:
    """Step all parameters; those with two or more dimensions by Muon unless their name is in ``adam_names``."""

    def __init__(
        self, named: dict[str, torch.nn.Parameter], lr: float, adam_names: tuple[str, ...] = (), momentum: float = 0.95
    ):
        by_muon = {k: p for k, p in named.items() if p.ndim >= 2 and not any(k.startswith(a) for a in adam_names)}
        self.momentum, self.parameters = momentum, list(named.values())
        self.adam = torch.optim.AdamW(
            [p for k, p in named.items() if k not in by_muon], lr, betas=(0.9, 0.98), weight_decay=0.0
        )
        self.groups: dict[tuple[int, int], list[torch.nn.Parameter]] = {}
        for p in by_muon.values():
            self.groups.setdefault((p.shape[0], p[0].numel()), []).append(p)
        self.buffers = {s: group[0].new_zeros(len(group), *s) for s, group in self.groups.items()}

    @torch.no_grad()
    def step(self, lr: float) -> None:
        for group in self.adam.param_groups:
            group["lr"] = 0.5 * lr
        self.adam.step()
        for shape, group in self.groups.items():
            gradient = torch.stack([p.grad.reshape(shape) for p in group])
            buffer = self.buffers[shape].lerp_(gradient, 1 - self.momentum)
            update = _orthogonalise(gradient.lerp(buffer, self.momentum)) * (0.2 * max(shape) ** 0.5)
            for p, u in zip(group, update, strict=True):
                p.add_(u.view_as(p), alpha=-lr)
        for p in self.parameters:
            p.grad = None

    def tensors(self) -> dict[str, torch.Tensor]:
        """Everything the optimiser remembers, under stable names; the same tensors, not copies."""
        memory = {f"muon.{m}x{n}": buffer for (m, n), buffer in self.buffers.items()}
        for i, state in self.adam.state_dict()["state"].items():
            memory |= {f"adam.{i}.{key}": value for key, value in state.items()}
        return memory

    def restore(self, memory: dict[str, torch.Tensor]) -> None:
        """Inverse of ``tensors``."""
        for (m, n), buffer in self.buffers.items():
            buffer.copy_(memory[f"muon.{m}x{n}"])
        form = self.adam.state_dict()
        form["state"] = {}
        for name, value in memory.items():
            kind, index, *key = name.split(".")
            if kind == "adam":
                form["state"].setdefault(int(index), {})[key[0]] = value.clone()
        self.adam.load_state_dict(form)
