"""Graphs of nearest neighbours by cosine."""

from __future__ import annotations

from pathlib import Path
from typing import Literal, TypeAlias

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor
from tqdm.auto import tqdm

from mmgraph_robust.errors import CheckpointError, ConfigError, DataError, NonFiniteError
from mmgraph_robust.sparse.adjacency import Adjacency
from mmgraph_robust.sparse.checks import check_tensor
from mmgraph_robust.sparse.faiss_search import faiss_search
from mmgraph_robust.sparse.ops import sddmm
from mmgraph_robust.utils import atomic_write, chunks, hash_tensors, is_whole, matmul, stable_topk, unit_rows

SearchEngine: TypeAlias = Literal["torch", "faiss"]
# Part of every cache's name: to be raised when the same input gives another graph, be it by rounding, which decides
# between neighbours that are almost equally near. 2: products of wide rows by another library.
_VERSION = 2
_BLOCK_COLUMNS = 1 << 15
_WIDE = 256


def knn_search(
    x: Tensor,
    k: int,
    *,
    include_self: bool = True,
    memory: int = 1 << 28,
    engine: SearchEngine = "torch",
    progress: bool = False,
) -> tuple[Tensor, Tensor]:
    r"""The `k` rows of `x` with the largest cosine to each row, exact, in blocks of bounded memory.

    The order is one: a row itself first (where `include_self`), then by (cosine descending, row ascending). Equal rows,
    which imputed features make in numbers, have exactly equal cosines; a row of zeros has cosine 0 with every other.
    Cosines of different rows that are equal on paper may differ in the last bit, by how the products are cut into
    blocks: among those, order and choice may change with `memory`.

    Args:
        x: ``[num_nodes, dim]`` finite features, on the CPU or a GPU.
        k: Neighbours per row, the row itself counted where `include_self`.
        include_self: Whether each row is its own first neighbour.
        memory: Bytes for the similarities that are held at a time, beside a normalised copy of `x`.
        engine: ``"torch"``, exact; or ``"faiss"`` (extra ``faiss``), for millions of rows: exact below 100,000 rows,
            above them by an inverted file that finds most of the neighbours and not all. Among equal cosines, those
            of equal rows too, faiss decides arbitrarily which enter.
        progress: Whether a bar is shown.

    Shapes:
        - **output:** cosines ``[num_nodes, k]`` and int64 rows ``[num_nodes, k]``

    Raises:
        DataError: If `x` is no matrix of floating point numbers.
        NonFiniteError: If a row is not finite, or its length overflows.
        ConfigError: If `k` is no whole number or does not fit the number of rows, or faiss is asked for and is not
            installed.
    """
    _check(x, k, include_self, engine)
    x = unit_rows(x.detach().to(torch.promote_types(x.dtype, torch.float32)))
    wanted = k - int(include_self)
    if engine == "faiss":
        cosine, neighbour = faiss_search(x, wanted)
    else:
        # Half precision would choose other neighbours.
        with torch.autocast(x.device.type, enabled=False):
            cosine, neighbour = _search(x, wanted, memory, progress)
    if include_self:
        node = torch.arange(x.size(0), device=x.device).unsqueeze(1)
        own = (x.square().sum(1, keepdim=True) > 0).to(x.dtype)
        cosine, neighbour = torch.cat([own, cosine], 1), torch.cat([node, neighbour], 1)
    return cosine, neighbour


def knn_graph(
    x: Tensor,
    k: int,
    *,
    include_self: bool = True,
    memory: int = 1 << 28,
    engine: SearchEngine = "torch",
    cache: str | Path | None = None,
    progress: bool = False,
) -> Adjacency:
    """The graph in which every row of `x` gathers from its `k` nearest by cosine; the cosines are its edge values.

    Gradients do not flow through the choice of neighbours; :func:`edge_cosine` gives the cosines of a chosen graph with
    their gradients.

    Args:
        x: ``[num_nodes, dim]`` finite features.
        k: As in :func:`knn_search`, like all arguments that are not named here.
        include_self: Whether each row is its own first neighbour.
        memory: Bytes for the similarities that are held at a time.
        engine: Who searches.
        cache: A folder in which the graph is kept under the hash of what it was made from: changed features never meet
            the graph of others.
        progress: Whether a bar is shown.
    """
    _check(x, k, include_self, engine)
    path = None
    if cache is not None:
        options = torch.tensor([_VERSION, k, include_self, engine == "faiss"])
        path = Path(cache) / f"knn-{hash_tensors(x=x, options=options)}.safetensors"
        if path.exists():
            return _load(path, x)
    cosine, neighbour = knn_search(x, k, include_self=include_self, memory=memory, engine=engine, progress=progress)
    if path is not None:
        with atomic_write(path) as file:
            file.write(save({"cosine": cosine.cpu().contiguous(), "neighbour": neighbour.cpu().contiguous()}))
    return _graph(cosine, neighbour)


def cosine_graph(x: Tensor, k: int) -> Adjacency:
    """:func:`knn_graph` whose edge values carry gradients to `x` if it wants them; the neighbours are chosen without.

    Args:
        x: ``[num_nodes, dim]`` finite features.
        k: Neighbours per row, the row itself included.
    """
    graph = knn_graph(x, k)
    return graph.with_value(edge_cosine(graph, x)) if x.requires_grad and torch.is_grad_enabled() else graph


def edge_cosine(adj: Adjacency, x: Tensor, *, engine: str | None = None) -> Tensor:
    """The cosine of both ends of every edge of a square graph, with gradients to `x`.

    Args:
        adj: The graph.
        x: ``[num_nodes, dim]``
        engine: Who computes the dot products.

    Shapes:
        - **output:** ``[num_edges]``, in the order of the edges of `adj`
    """
    if adj.num_rows != adj.num_cols:
        raise DataError(f"'adj' expects a square matrix (got {adj})")
    check_tensor("x", x, (adj.num_rows, "dim"), adj.device, adj)
    unit = unit_rows(x.to(torch.promote_types(x.dtype, torch.float32)))
    return sddmm(adj, unit, unit, engine=engine)


def _check(x: Tensor, k: int, include_self: bool, engine: str) -> None:
    if x.dim() != 2 or not x.is_floating_point():
        raise DataError(f"'x' expects floating point rows [num_nodes, dim] (got {list(x.shape)} of {x.dtype})")
    if engine not in ("torch", "faiss"):
        raise ConfigError(f"'engine' expects 'torch' or 'faiss' (got '{engine}')")
    most = x.size(0) if include_self else x.size(0) - 1
    if not is_whole(k) or not 1 <= k <= most:
        raise ConfigError(f"'k' expects a whole number from 1 to {most} for {x.size(0)} rows (got {k})")
    wide = torch.promote_types(x.dtype, torch.float32)
    for a, b in chunks(x.size(0), max(1, (1 << 24) // max(x.size(1), 1))):
        bad = ~torch.isfinite(torch.linalg.vector_norm(x[a:b], dim=1, dtype=wide))
        if bool(bad.any()):
            row = a + int(bad.nonzero()[0])
            if bool(torch.isfinite(x[row]).all()):
                raise NonFiniteError(f"'x' holds numbers in row {row} whose squares overflow {wide}: scale it down")
            raise NonFiniteError(f"'x' holds NaN or infinite numbers in row {row}")


def _load(path: Path, x: Tensor) -> Adjacency:
    try:
        stored = load_file(path)
        return _graph(stored["cosine"].to(x.device), stored["neighbour"].to(x.device))
    except (OSError, SafetensorError, KeyError) as error:
        raise CheckpointError(f"{path} is damaged ({error}); delete it and run again") from error


def _graph(cosine: Tensor, neighbour: Tensor) -> Adjacency:
    num_nodes, k = neighbour.shape
    row = torch.arange(num_nodes, device=neighbour.device).repeat_interleave(k)
    edge_index = torch.stack([row, neighbour.flatten()])
    return Adjacency.from_edge_index(edge_index, num_rows=num_nodes, num_cols=num_nodes, values=cosine.flatten())


def _search(x: Tensor, k: int, memory: int, progress: bool) -> tuple[Tensor, Tensor]:
    """Neighbours of every row of unit length, itself left out."""
    num_nodes = x.size(0)
    if k == 0:
        return x.new_empty(num_nodes, 0), torch.empty(num_nodes, 0, dtype=torch.long, device=x.device)
    first, group = _groups(x)
    if first.numel() == num_nodes:
        return _distinct(x, k, memory, progress)
    # Products of equal rows may differ in the last bit by their place in a block: search among the distinct ones, then
    # put the others beside them.
    near = min(k, first.numel() - 1)
    cosine, neighbour = _distinct(x[first], near, memory, progress)
    members = _members(group, first.numel(), min(k + 1, int(torch.bincount(group).max())))
    own = (x[first].square().sum(1, keepdim=True) > 0).to(x.dtype)
    around = torch.cat([torch.arange(first.numel(), device=x.device).unsqueeze(1), neighbour], 1)
    score = torch.cat([own, cosine], 1)
    out_cosine, out_neighbour = x.new_empty(num_nodes, k), group.new_empty(num_nodes, k)
    width = (near + 1) * members.size(1)
    for a, b in chunks(num_nodes, max(1, memory // (64 * width))):
        candidate = members[around[group[a:b]]].flatten(1)
        value = score[group[a:b]].repeat_interleave(members.size(1), dim=1)
        node = torch.arange(a, b, device=x.device).unsqueeze(1)
        value = value.masked_fill((candidate < 0) | (candidate == node), -torch.inf)
        candidate, order = candidate.sort(dim=1)
        value, position = stable_topk(value.gather(1, order), k)
        out_cosine[a:b], out_neighbour[a:b] = value, candidate.gather(1, position)
    return out_cosine, out_neighbour


def _distinct(x: Tensor, k: int, memory: int, progress: bool) -> tuple[Tensor, Tensor]:
    num_nodes = x.size(0)
    cosine, neighbour = x.new_empty(num_nodes, k), torch.empty(num_nodes, k, dtype=torch.long, device=x.device)
    if k == 0:
        return cosine, neighbour
    wide = min(num_nodes, _BLOCK_COLUMNS)
    # The block of similarities and what top-k makes of it.
    rows = min(num_nodes, max(1, memory // (2 * x.element_size() * wide)))
    # One block for all similarities of narrow rows: fresh memory costs a page fault per 4 KB. Products of wide rows
    # take so long that the faster library, which knows no block to write to, wins.
    block = x.new_empty(rows * wide if x.size(1) < _WIDE else 0)
    for a, b in tqdm(list(chunks(num_nodes, rows)), desc="kNN", unit="block", disable=not progress):
        best: tuple[Tensor, Tensor] | None = None
        for c, d in chunks(num_nodes, wide):
            similarity = None  # the memory of the last one is there for the next
            if block.numel() > 0:
                similarity = block[: (b - a) * (d - c)].view(b - a, d - c)
                torch.mm(x[a:b], x[c:d].t(), out=similarity)
            else:
                similarity = matmul(x[a:b], x[c:d].t())
            similarity.clamp_(max=1.0)
            low, high = max(a, c), min(b, d)
            if low < high:
                node = torch.arange(low, high, device=x.device)
                similarity[node - a, node - c] = -torch.inf
            value, column = stable_topk(similarity, min(k, d - c))
            if best is not None:
                # Earlier blocks hold lower rows, and stand first.
                value = torch.cat([best[0], value], 1)
                column = torch.cat([best[1], column + c], 1)
                value, position = stable_topk(value, min(k, value.size(1)))
                column = column.gather(1, position)
            else:
                column = column + c
            best = value, column
        if best is not None:
            cosine[a:b], neighbour[a:b] = best
    return cosine, neighbour


def _groups(x: Tensor) -> tuple[Tensor, Tensor]:
    """The lowest row of each group of equal rows (ascending), and every row's group."""
    # A sum of 64-bit integers is exact in any order, so equal rows get equal hashes wherever they stand.
    generator = torch.Generator().manual_seed(0)
    odd = torch.randint(-(1 << 62), 1 << 62, (x.size(1),), generator=generator).to(x.device) * 2 + 1
    kind = torch.int32 if x.dtype == torch.float32 else torch.int64
    code = torch.empty(x.size(0), dtype=torch.long, device=x.device)
    for a, b in chunks(x.size(0), max(1, (1 << 22) // max(x.size(1), 1))):
        bits = (x[a:b] + 0.0).contiguous().view(kind).long()  # + 0.0 makes -0.0 and 0.0 one
        bits = (bits ^ (bits >> 15)) * odd
        code[a:b] = (bits ^ (bits >> 31)).sum(1)
    distinct, group = torch.unique(code, return_inverse=True)
    first = torch.full((distinct.numel(),), x.size(0), dtype=torch.long, device=x.device)
    first = first.scatter_reduce(0, group, torch.arange(x.size(0), device=x.device), "amin")
    first, order = first.sort()
    rank = torch.empty_like(order)
    rank[order] = torch.arange(order.numel(), device=x.device)
    return first, rank[group]


def _members(group: Tensor, num_groups: int, most: int) -> Tensor:
    """``[num_groups, most]`` the lowest rows of each group, ascending, filled up with -1."""
    order = torch.argsort(group, stable=True)
    size = torch.bincount(group, minlength=num_groups)
    rank = torch.arange(group.numel(), device=group.device) - (size.cumsum(0) - size)[group[order]]
    low = rank < most
    members = torch.full((num_groups, most), -1, dtype=torch.long, device=group.device)
    members[group[order][low], rank[low]] = order[low]
    return members
