"""Layers, each usable alone with plain PyG inputs, and losses."""

from mmgraph_robust.nn.attention_product import attention_product
from mmgraph_robust.nn.graph_refining import GraphRefining
from mmgraph_robust.nn.light_propagation import LightPropagation
from mmgraph_robust.nn.losses import batch_mean_squares, batch_norms, bpr_loss
from mmgraph_robust.nn.mmgcn_conv import MMGCNConv
from mmgraph_robust.nn.prototype_routing import PrototypeRouting

__all__ = [
    "GraphRefining",
    "LightPropagation",
    "MMGCNConv",
    "PrototypeRouting",
    "attention_product",
    "batch_mean_squares",
    "batch_norms",
    "bpr_loss",
]
