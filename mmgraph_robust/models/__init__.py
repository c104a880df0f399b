"""Backbones, one per file, and the contract that they share."""

from mmgraph_robust.models.base import Recommender
from mmgraph_robust.models.bm3 import BM3
from mmgraph_robust.models.bprmf import BPRMF
from mmgraph_robust.models.dragon import DRAGON
from mmgraph_robust.models.dualgnn import DualGNN
from mmgraph_robust.models.embeddings import Embeddings
from mmgraph_robust.models.encoders import LinearEncoder
from mmgraph_robust.models.freedom import FREEDOM
from mmgraph_robust.models.grcn import GRCN
from mmgraph_robust.models.lattice import LATTICE
from mmgraph_robust.models.lgmrec import LGMRec
from mmgraph_robust.models.lightgcn import LightGCN
from mmgraph_robust.models.mgcn import MGCN
from mmgraph_robust.models.mmgcn import MMGCN
from mmgraph_robust.models.mmssl import MMSSL
from mmgraph_robust.models.slmrec import SLMRec
from mmgraph_robust.models.vbpr import VBPR

__all__ = [
    "BM3",
    "BPRMF",
    "DRAGON",
    "FREEDOM",
    "GRCN",
    "LATTICE",
    "MGCN",
    "MMGCN",
    "MMSSL",
    "VBPR",
    "DualGNN",
    "Embeddings",
    "LGMRec",
    "LightGCN",
    "LinearEncoder",
    "Recommender",
    "SLMRec",
]
