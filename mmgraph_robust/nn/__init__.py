"""Layers, each usable alone with plain PyG inputs, and losses."""

from mmgraph_robust.nn.contrast import contrast_with_all
from mmgraph_robust.nn.denoised_propagation import DenoisedPropagation
from mmgraph_robust.nn.frozen_item_graph import FrozenItemGraph
from mmgraph_robust.nn.graph_refining import GraphRefining
from mmgraph_robust.nn.latent_item_graph import LatentItemGraph
from mmgraph_robust.nn.light_propagation import LightPropagation
from mmgraph_robust.nn.linear import Linear
from mmgraph_robust.nn.losses import batch_mean_squares, batch_norms, batch_squares, bpr_loss, info_nce
from mmgraph_robust.nn.mmgcn_conv import MMGCNConv
from mmgraph_robust.nn.modality_fusion import ModalityFusion
from mmgraph_robust.nn.prototype_routing import PrototypeRouting

__all__ = [
    "DenoisedPropagation",
    "FrozenItemGraph",
    "GraphRefining",
    "LatentItemGraph",
    "LightPropagation",
    "Linear",
    "MMGCNConv",
    "ModalityFusion",
    "PrototypeRouting",
    "batch_mean_squares",
    "batch_norms",
    "batch_squares",
    "bpr_loss",
    "contrast_with_all",
    "info_nce",
]
