"""Graphs of similar items as edges of HeteroData."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch_geometric.data import HeteroData

from mmgraph_robust.data.schema import ITEM, features
from mmgraph_robust.errors import DataError
from mmgraph_robust.sparse import Adjacency, SoftGraph, knn_graph

_PREFIX = "similar_"


def add_item_graphs(
    data: HeteroData,
    k: int = 10,
    modalities: Sequence[str] | None = None,
    *,
    cache: str | Path | None = None,
    progress: bool = False,
) -> HeteroData:
    """A shallow copy of `data` with the `k` nearest items of each item, by cosine, as edges per modality, beside the
    item graphs of other modalities that it has.

    Models that read item graphs (FREEDOM, LATTICE, MGCN, DRAGON) take the edges
    ``('item', 'similar_<modality>', 'item')`` where `data` has them, and build them from the features otherwise. Stored
    edges are frozen: who perturbs the features of the returned data does not change them.

    Args:
        data: The data set.
        k: Neighbours per item, the item itself included.
        modalities: The modalities to build graphs for (default: all).
        cache: A folder in which graphs are kept under the hash of the features that they were made from.
        progress: Whether a bar is shown.

    Raises:
        ConfigError: If there is no such modality, or `k` does not fit the number of items.
        NonFiniteError: If features are not finite.
    """
    graphs = {name: knn_graph(x, k, cache=cache, progress=progress) for name, x in features(data, modalities).items()}
    return with_item_graphs(data, stored_item_graphs(data) | graphs)


def with_item_graphs(data: HeteroData, graphs: Mapping[str, Adjacency]) -> HeteroData:
    """A shallow copy of `data` with these item graphs and no others; none, and models build them from the features.

    Args:
        data: The data set.
        graphs: ``[num_items, num_items]`` per modality, rows gathering from their similar items; of a
            :class:`~mmgraph_robust.sparse.SoftGraph` the weights of the choice are kept as ``edge_selection``.
    """
    result = copy.copy(data)
    for kind in _edge_types(data):
        del result[kind]
    for name, graph in graphs.items():
        store = result[ITEM, _PREFIX + name, ITEM]
        # In PyG an edge runs from source to target; a row is the target that gathers.
        store.edge_index = graph.edge_index().flip(0)
        if isinstance(graph, SoftGraph):
            store.edge_weight, store.edge_selection = graph.cosine.detach(), graph.selection.detach()
        else:
            store.edge_weight = graph.values().detach()
    return result


def stored_item_graphs(data: HeteroData) -> dict[str, Adjacency]:
    """The compiled item graphs that `data` holds, per modality.

    Raises:
        DataError: If edges or their values do not fit the items, or are not finite.
    """
    size = int(data[ITEM].num_nodes)
    graphs = {}
    for kind in _edge_types(data):
        store = data[kind]
        if "edge_index" not in store:
            raise DataError(f"data[{kind}] lacks 'edge_index': make item graphs with 'add_item_graphs'")
        for key in ("edge_weight", "edge_selection"):
            value = store.get(key)
            if value is None:
                continue
            if value.shape != store.edge_index.shape[1:]:
                raise DataError(
                    f"data[{kind}].{key} expects one value for each of {store.edge_index.size(1)} edges "
                    f"(got {list(value.shape)}): make item graphs with 'add_item_graphs'"
                )
            if not bool(torch.isfinite(value).all()):
                raise DataError(f"data[{kind}].{key} has NaN or infinite values: fill or remove these edges")
        try:
            graph = Adjacency.from_edge_index(
                store.edge_index.flip(0), num_rows=size, num_cols=size, values=store.get("edge_weight")
            )
        except DataError as error:
            raise DataError(f"data[{kind}]: {error}") from error
        if "edge_selection" in store:
            graph = SoftGraph(graph.structure, graph.values(), store.edge_selection[graph.order])
        graphs[kind[1].removeprefix(_PREFIX)] = graph
    return graphs


def _edge_types(data: HeteroData) -> list[tuple[str, str, str]]:
    return [kind for kind in data.edge_types if kind[0] == kind[2] == ITEM and kind[1].startswith(_PREFIX)]
