"""Losses of the HyperNet's training, on identities as vectors (..., a+b)."""

import torch


def _dot(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
    return (x * y).sum(-1)


def weight_loss(u, v, u_hat, v_hat):
    """``|delta_W - delta_W_hat|^2_F`` of rank-1 identities in O(a + b), free of the gauge (u, v) -> (cu, v/c).

    With orthonormal bases, |dW - dW_hat|^2 = |u|^2|v|^2 + |u_hat|^2|v_hat|^2 - 2 <u,u_hat><v,v_hat>.

    Args:
        u, u_hat: (..., a); v, v_hat: (..., b).

    Returns:
        (...,), one number per layer.
    """
    own, predicted = _dot(u, u) * _dot(v, v), _dot(u_hat, u_hat) * _dot(v_hat, v_hat)
    return own + predicted - 2 * _dot(u, u_hat) * _dot(v, v_hat)


def cosine(u, v, u_hat, v_hat):
    """Cosine between ``delta_W`` and ``delta_W_hat``, per layer (...,); 0 where one of them is zero."""
    size = (_dot(u, u) * _dot(v, v) * _dot(u_hat, u_hat) * _dot(v_hat, v_hat)).sqrt()
    return _dot(u, u_hat) * _dot(v, v_hat) / size.clamp_min(1e-20)


def balanced(theta: torch.Tensor, a: int) -> torch.Tensor:
    """The same residuals with ``|u| = |v|``: (..., a+b). Fixes the gauge's scale; a shared start fixes its sign."""
    u, v = theta[..., :a], theta[..., a:]
    sizes = u.norm(dim=-1, keepdim=True), v.norm(dim=-1, keepdim=True)
    middle = (sizes[0] * sizes[1]).sqrt()
    return torch.cat([u * middle / sizes[0].clamp_min(1e-12), v * middle / sizes[1].clamp_min(1e-12)], dim=-1)


def spread(theta: torch.Tensor, a: int) -> torch.Tensor:
    """``E |delta_W - E delta_W|^2`` over people, per layer: (P, L, a+b) -> (L,). What the mean identity leaves open."""
    u, v = theta[..., :a], theta[..., a:]
    energy = (_dot(u, u) * _dot(v, v)).mean(0)
    gram = torch.einsum("pla,qla->lpq", u, u) * torch.einsum("plb,qlb->lpq", v, v)
    return (energy - gram.mean((1, 2))).clamp_min(1e-12 + 1e-6 * energy)


def output_norm(theta: torch.Tensor) -> torch.Tensor:
    """Mean square of a normalised output (N, L, a+b): keeps predictions near the mean identity."""
    return theta.pow(2).mean()
