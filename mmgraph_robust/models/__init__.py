"""Backbones, one per file, and the contract that they share."""

from mmgraph_robust.models.base import Recommender
from mmgraph_robust.models.embeddings import Embeddings
from mmgraph_robust.models.freedom import FREEDOM
from mmgraph_robust.models.grcn import GRCN
from mmgraph_robust.models.lattice import LATTICE
from mmgraph_robust.models.lightgcn import LightGCN
from mmgraph_robust.models.mmgcn import MMGCN
from mmgraph_robust.models.vbpr import VBPR

__all__ = ["FREEDOM", "GRCN", "LATTICE", "MMGCN", "VBPR", "Embeddings", "LightGCN", "Recommender"]
