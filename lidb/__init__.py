"""The identity: what a LiDB is, how it is sharpened, stored and exported. No host, no HyperNet in here.

Orientation, once for the whole project. A frozen linear layer maps a row ``x (1, n)`` to ``x W^T (1, m)``. Its personal
residual is ``x A B`` with ``A (n, r) = A_aux (n, a) @ A_train (a, r)`` and ``B (r, m) = B_train (r, b) @ B_aux (b, m)``.
The bases ``A_aux`` and ``B_aux`` are frozen, orthonormal and the same for everybody; ``A_train`` and ``B_train`` are the
person. Seen from torch: ``delta_W (m, n) = (A B)^T``, and LoRA's ``down = A^T``, ``up = B^T``. (Paper, section 4.1.)
"""
