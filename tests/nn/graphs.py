"""Small graphs and plain references for the tests of this folder."""

import torch

# Node 4 has no incoming edge.
EDGE_INDEX = torch.tensor([[0, 1, 2, 3, 4, 2], [1, 0, 0, 1, 1, 3]])
BOTH_WAYS = torch.cat([EDGE_INDEX, EDGE_INDEX.flip(0)], dim=1).unique(dim=1)


def dense(edge_index, num_nodes):
    """``A[target, source]``."""
    matrix = torch.zeros(num_nodes, num_nodes)
    matrix[edge_index[1], edge_index[0]] = 1.0
    return matrix


def gcn(matrix):
    """Normalised by row sums on both sides; rows whose sum is not positive become 0."""
    total = matrix.sum(1)
    scale = torch.where(total > 0, total.clamp(min=1e-30).rsqrt(), torch.zeros_like(total))
    return scale[:, None] * matrix * scale


def nearest(x, k):
    """``[num_nodes, num_nodes]`` cosines of each row's `k` nearest, itself first, and 0 elsewhere; with gradients."""
    unit = x / x.norm(dim=1, keepdim=True)
    cosine = unit @ unit.t()
    ranked = cosine.detach() + 9.0 * torch.eye(len(x))
    keep = torch.zeros_like(cosine).scatter(1, ranked.topk(k, dim=1).indices, 1.0)
    return cosine * keep
