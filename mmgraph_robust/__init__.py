"""mmgraph_robust: multi-modal graph recommendation, attacked, defended and measured honestly."""

from mmgraph_robust import attacks, data, defenses, errors, evaluation, metrics, models, nn, sparse, testing, training
from mmgraph_robust.data import Graph, random_split, read_mmrec, synthetic, validate
from mmgraph_robust.evaluation import evaluate
from mmgraph_robust.models import Embeddings, Recommender
from mmgraph_robust.training import fit, load_model, save_model
from mmgraph_robust.version import __version__

__all__ = [
    "Embeddings",
    "Graph",
    "Recommender",
    "__version__",
    "attacks",
    "data",
    "defenses",
    "errors",
    "evaluate",
    "evaluation",
    "fit",
    "load_model",
    "metrics",
    "models",
    "nn",
    "random_split",
    "read_mmrec",
    "save_model",
    "sparse",
    "synthetic",
    "testing",
    "training",
    "validate",
]
