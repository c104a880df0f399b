"""Data: the exchange format, readers, splits, a synthetic data set, and the compiled graph."""

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.data.item_graphs import add_item_graphs, with_item_graphs
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
    "add_item_graphs",
    "build",
    "features",
    "interactions",
    "modalities",
    "random_split",
    "read_mmrec",
    "synthetic",
    "validate",
    "with_features",
    "with_item_graphs",
    "write_mmrec",
]
