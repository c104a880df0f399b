"""Gradients that are not finite."""

from __future__ import annotations

import torch


def bad_gradient(model: torch.nn.Module) -> str | None:
    """What is wrong with the gradients of a model's parameters, naming the first; None where all are finite."""
    found = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
    # Of sparse ones (torch.nn.Embedding's, where asked for) the entries that are there.
    gradients = {name: g.coalesce().values() if g.is_sparse else g for name, g in found.items()}
    if not gradients:
        return None
    # One look at all norms together; only where it fails, which one it was.
    norms = torch._foreach_norm(list(gradients.values()))
    if bool(torch.isfinite(torch.stack(norms)).all()):
        return None
    for name, gradient in gradients.items():
        if not bool(torch.isfinite(gradient).all()):
            return f"the gradient of '{name}' is not finite"
    return "a gradient's norm overflowed"
