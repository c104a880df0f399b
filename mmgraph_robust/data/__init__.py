"""Data: the exchange format, readers, splits, a synthetic data set, and the compiled graph."""

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.mmrec import read_mmrec, write_mmrec
from mmgraph_robust.data.sampling import Batch, NegativeSampler, TripleLoader
from mmgraph_robust.data.schema import build, features, interactions, modalities, with_features
from mmgraph_robust.data.split import random_split
from mmgraph_robust.data.synthetic import synthetic
from mmgraph_robust.data.validate import DataWarning, validate

__all__ = [
    "Batch",
    "DataWarning",
    "Graph",
    "NegativeSampler",
    "TripleLoader",
    "build",
    "features",
    "interactions",
    "modalities",
    "random_split",
    "read_mmrec",
    "synthetic",
    "validate",
    "with_features",
    "write_mmrec",
]
