"""Training: the fit loop, its guards, and state on disk."""

from mmgraph_robust.training.checkpoint import load_checkpoint, load_model, save_checkpoint, save_model, trained_on
from mmgraph_robust.training.fit import SEARCH_SPACE, History, check_settings, data_hash, fit

__all__ = [
    "SEARCH_SPACE",
    "History",
    "check_settings",
    "data_hash",
    "fit",
    "load_checkpoint",
    "load_model",
    "save_checkpoint",
    "save_model",
    "trained_on",
]
