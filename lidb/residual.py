"""A linear layer whose residual may differ for every sample of the batch: ``y = W x + (x A) B``.

The one primitive behind everything: it trains the HyperNet, pre-computes many identities in one forward and finetunes
one. It sits on forward hooks, so it works on any host's linear-like module, nests with whatever else is hooked, and is
removed in any order. ``forward`` is never replaced.
"""

import torch

from .value import Factors


class Residuals:
    """Residuals on named linear modules while the ``with`` block lasts.

    >>> with Residuals({"to_q": module}) as residuals:
    ...     residuals.set({"to_q": (A, B)})     # A (n, r), B (r, m), or per sample A (N, n, r), B (N, r, m)
    ...     y = module(x)                       # x (N, T, n) or, for shared factors, any (..., n)

    With nothing set, the modules behave bit for bit as without the block. Gradients flow into A and B.
    """

    def __init__(self, modules: dict[str, torch.nn.Module]):
        self.modules = modules
        self.factors: Factors = {}
        self._handles = []

    def set(self, factors: Factors | None) -> None:
        """Use these factors from the next forward on; ``None`` is neutral.

        Raises:
            KeyError: a name that is not among the modules.
        """
        factors = factors or {}
        unknown = sorted(set(factors) - set(self.modules))
        if unknown:
            raise KeyError(f"{len(unknown)} residuals have no layer to act on, the first is {unknown[0]!r}.")
        self.factors = factors

    def __enter__(self) -> "Residuals":
        for name, module in self.modules.items():
            self._handles.append(module.register_forward_hook(self._hook(name)))
        return self

    def __exit__(self, *_) -> None:
        for handle in self._handles:
            handle.remove()
        self._handles.clear()
        self.factors = {}

    def _hook(self, name: str):
        def add_residual(_module, args, output):
            if name not in self.factors:
                return None
            A, B = self.factors[name]
            return _add(output, args[0], A.to(args[0]), B.to(output))  # the text encoder may live elsewhere

        return add_residual


def _add(y: torch.Tensor, x: torch.Tensor, A: torch.Tensor, B: torch.Tensor) -> torch.Tensor:
    """``y + (x A) B``; x (N, T, n) with A (N, n, r) per sample, or any leading dimensions with A (n, r)."""
    if A.ndim == 3:
        if x.ndim != 3 or x.shape[0] != A.shape[0]:
            raise ValueError(
                f"Per-sample residuals for {A.shape[0]} samples need inputs ({A.shape[0]}, T, n), got {tuple(x.shape)}."
            )
        return torch.baddbmm(y, x @ A, B)  # (N, T, m)
    if y.ndim == 3:
        return torch.baddbmm(y, x @ A, B.expand(y.shape[0], *B.shape))
    return y + (x @ A) @ B
