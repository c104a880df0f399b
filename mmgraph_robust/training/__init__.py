"""Training: the fit loop, its guards, and state on disk."""

from mmgraph_robust.training.checkpoint import load_checkpoint, load_model, save_checkpoint, save_model
from mmgraph_robust.training.fit import History, data_hash, fit

__all__ = ["History", "data_hash", "fit", "load_checkpoint", "load_model", "save_checkpoint", "save_model"]
