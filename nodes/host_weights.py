"""The host's weights as autograd needs them: not paged, in one type, and tensors that can be saved for backward."""

from contextlib import ExitStack

import torch


def ordinary(loaded):
    """MODEL or CLIP itself; or, if its weights are paged in and out during a forward (dynamic VRAM), an ordinary copy.

    The host reads the copy from the file again and gives it the same patches (comfy/model_patcher.py, ``clone``).

    Raises:
        ValueError: its loader left the host no way to read it again, or a bypass LoRA is attached to it.
    """
    is_clip = hasattr(loaded, "patcher")
    if not (loaded.patcher if is_clip else loaded).is_dynamic():
        return loaded
    if (loaded.patcher if is_clip else loaded).injections:  # they act on the paged modules, not on the copy's
        raise ValueError(
            f"This {'CLIP' if is_clip else 'MODEL'} carries a bypass LoRA, which a finetune cannot see with dynamic VRAM. Use Load "
            "LoRA (Model and CLIP) in its place, or start ComfyUI with --disable-dynamic-vram."
        )
    if (loaded.patcher if is_clip else loaded).cached_patcher_init is None:
        raise ValueError(
            f"This {'CLIP' if is_clip else 'MODEL'} came from a loader node that ComfyUI cannot repeat, so it cannot be "
            "trained with dynamic VRAM. Use Load Checkpoint, or start ComfyUI with --disable-dynamic-vram."
        )
    copy = loaded.clone(disable_dynamic=True)
    if is_clip:
        copy.cond_stage_model = copy.patcher.model  # the host's copy of a CLIP still names the paged encoder
    to_computed_types(copy.patcher.model if is_clip else copy.model)
    return copy


def to_computed_types(root: torch.nn.Module) -> None:
    """Parameters into the type that the model computes in: under dynamic VRAM the host reads linear layers in the file's
    own (comfy/ops.py) and leaves the rest to the pager, which an ordinary copy does not have."""
    for module in root.modules():
        for name, tensor in module._parameters.items():
            wanted = getattr(module, f"{name}_comfy_model_dtype", None)
            if type(tensor) is torch.nn.Parameter and wanted is not None and tensor.dtype != wanted:
                module._parameters[name] = torch.nn.Parameter(tensor.to(wanted), requires_grad=False)


def own_memory(root: torch.nn.Module) -> None:
    """Re-wrap tensors that autograd cannot save as ordinary ones on the same memory: no copy, no change of values.

    A bypass LoRA applied upstream keeps its factors outside the module tree (comfy/weight_adapter/bypass.py).
    """
    for module in root.modules():
        for store in (module._parameters, module._buffers):
            for name, tensor in store.items():
                if type(tensor) in (torch.Tensor, torch.nn.Parameter) and not _counts_versions(tensor):
                    plain = _view(tensor)
                    is_parameter = isinstance(tensor, torch.nn.Parameter)
                    store[name] = torch.nn.Parameter(plain, requires_grad=False) if is_parameter else plain
        adapter = getattr(getattr(module.__dict__.get("forward"), "__self__", None), "adapter", None)
        if isinstance(getattr(adapter, "weights", None), tuple):
            adapter.weights = tuple(
                _view(w) if torch.is_tensor(w) and not _counts_versions(w) else w for w in adapter.weights
            )


def _counts_versions(tensor: torch.Tensor) -> bool:
    """Whether autograd can save it. Not if it was made in inference mode, also not if its data were replaced outside of
    it since, as when the host moves a loaded model to its device; it then no longer calls itself an inference tensor."""
    try:
        return not tensor.is_inference() and tensor._version >= 0
    except RuntimeError:
        return False


def hold_widened(root: torch.nn.Module, stack: ExitStack) -> None:
    """Half-precision parameters as float32 until the stack closes: on the CPU the host would widen them at every forward."""
    for module in root.modules():
        for name, tensor in module._parameters.items():
            if type(tensor) is torch.nn.Parameter and tensor.dtype in (torch.float16, torch.bfloat16):
                stack.callback(module._parameters.__setitem__, name, tensor)
                module._parameters[name] = torch.nn.Parameter(tensor.float(), requires_grad=False)


def _view(tensor: torch.Tensor) -> torch.Tensor:
    data = tensor.detach()
    empty = torch.empty(0, dtype=data.dtype, device=data.device)
    return empty.set_(data.untyped_storage(), data.storage_offset(), data.size(), data.stride())
