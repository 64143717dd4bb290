"""Export to a plain LoRA: exact, in kohya names, which every host and importer reads."""

import torch

from .value import LiDB


def to_lora(lidb: LiDB) -> dict[str, torch.Tensor]:
    """The identity as LoRA tensors: ``up (m, R)``, ``down (R, n)``, ``alpha = R`` so that the scale is exactly 1.

    Raises:
        ValueError: the identity is neutral (rank 0), so there is nothing to export.
    """
    R = lidb.rank + lidb.full_rank
    if R == 0:
        raise ValueError("This identity is neutral (rank 0): there is nothing to export. Predict or finetune it first.")
    lora = {}
    for name, (A, B) in lidb.factors().items():
        lora[f"{name}.lora_up.weight"] = B.T.contiguous()
        lora[f"{name}.lora_down.weight"] = A.T.contiguous()
        lora[f"{name}.alpha"] = torch.tensor(float(R))
    return lora


def lora_metadata(lidb: LiDB, title: str) -> dict[str, str]:
    """Metadata that LoRA managers show: trigger phrase, rank, origin."""
    R = str(lidb.rank + lidb.full_rank)
    return {
        "modelspec.sai_model_spec": "1.0.0",
        "modelspec.title": title,
        "modelspec.architecture": f"{lidb.facts.base}/lora",
        "modelspec.trigger_phrase": lidb.facts.trigger,
        "ss_network_module": "networks.lora",
        "ss_network_dim": R,
        "ss_network_alpha": R,
        "ss_base_model_version": lidb.facts.base,
        "hyperdreambooth.made_by": lidb.facts.made_by,
    }
