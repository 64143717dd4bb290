"""Losses of the HyperNet's training."""

import torch


def weight_loss(u, v, u_hat, v_hat):
    """``|delta_W - delta_W_hat|^2_F`` of rank-1 identities in O(a + b), free of the gauge (u, v) -> (cu, v/c).

    With orthonormal bases, |dW - dW_hat|^2 = |u|^2|v|^2 + |u_hat|^2|v_hat|^2 - 2 <u,u_hat><v,v_hat>.

    Args:
        u, u_hat: (..., a); v, v_hat: (..., b).

    Returns:
        (...,), one number per layer.
    """

    def dot(x, y):
        return (x * y).sum(-1)

    return dot(u, u) * dot(v, v) + dot(u_hat, u_hat) * dot(v_hat, v_hat) - 2 * dot(u, u_hat) * dot(v, v_hat)


def output_norm(theta: torch.Tensor) -> torch.Tensor:
    """Mean square of a normalised output (N, L, a+b): keeps predictions near the mean identity."""
    return theta.pow(2).mean()
