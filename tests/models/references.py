"""Plain dense references, written from the papers' equations with loops over nodes."""

from __future__ import annotations

import torch


def leaky(x):
    return torch.where(x > 0, x, 0.01 * x)


def unit(x):
    return x / x.norm() if bool(x.any()) else x


def neighbours(data):
    edge = data["user", "interacts", "item"]
    users = [[] for _ in range(data["user"].num_nodes)]
    items = [[] for _ in range(data["item"].num_nodes)]
    for u, i in edge.edge_index[:, edge.train_mask].t().tolist():
        users[u].append(i)
        items[i].append(u)
    return users, items


def cosines(x, k):
    """The cosines of each row with its `k` nearest, itself included; zeros elsewhere."""
    rows = [unit(row) for row in x]
    result = torch.zeros(len(rows), len(rows), dtype=x.dtype)
    for i, row in enumerate(rows):
        near = sorted(range(len(rows)), key=lambda j: (j != i, -(row @ rows[j]).item(), j))[:k]
        for j in near:
            result[i, j] = row @ rows[j]
    return result


def symmetric(a):
    """D^-1/2 A D^-1/2 by row sums."""
    rows = []
    for i in range(len(a)):
        rows.append(torch.stack([a[i, j] / (a[i].sum() * a[j].sum()).sqrt() for j in range(len(a))]))
    return torch.stack(rows)


def bpr(score, batch):
    """The ranking loss on a matrix of scores."""
    gaps = [
        score[u, i] - score[u, j]
        for u, i, j in zip(batch.user.tolist(), batch.positive.tolist(), batch.negative.tolist(), strict=True)
    ]
    return -sum(torch.log(1 / (1 + torch.exp(-gap))) for gap in gaps) / len(gaps)


def lightgcn(model, data):
    user, item = propagate(model, data)
    return user @ item.t()


def propagate(model, data, edges=None):
    users, items = neighbours(data) if edges is None else edges
    layers = [(model.user_id, model.item_id)]
    for _ in range(model.propagation.num_layers):
        u, i = layers[-1]
        new_u = [sum((i[k] / (len(n) * len(items[k])) ** 0.5 for k in n), torch.zeros(i.size(1))) for n in users]
        new_i = [sum((u[k] / (len(n) * len(users[k])) ** 0.5 for k in n), torch.zeros(u.size(1))) for n in items]
        layers.append((torch.stack(new_u), torch.stack(new_i)))
    user = sum(layer[0] for layer in layers) / len(layers)
    item = sum(layer[1] for layer in layers) / len(layers)
    return user, item


def vbpr(model, data):
    d = model.embedding_dim
    p, r = model.user[:, :d], model.user[:, d:]
    content = sum(data["item"][f"x_{m}"] @ model.projection[m] for m in model.modalities)
    return p @ model.item_id.t() + r @ content.t()


def mmgcn(model, data, combine="concat"):
    users, items = neighbours(data)
    num_users = len(users)
    near = [[i + num_users for i in n] for n in users] + items
    branches = []
    for m in model.modalities:
        f = data["item"][f"x_{m}"]
        if m in model.projection:
            f = f @ model.projection[m].weight.t() + model.projection[m].bias
        x = torch.stack([unit(row) for row in torch.cat([model.preference[m], f])])
        for conv in model.convs[m]:
            rows = []
            for node, neighbourhood in enumerate(near):
                messages = [x[j] @ conv.weight for j in neighbourhood]
                h = leaky(sum(messages) / len(messages)) if messages else torch.zeros(conv.in_channels)
                own = leaky(conv.lin_self.weight @ x[node] + conv.lin_self.bias) + model.id[node]
                if combine == "concat":
                    rows.append(leaky(conv.lin_out.weight @ torch.cat([h, own]) + conv.lin_out.bias))
                else:
                    rows.append(leaky(conv.lin_out.weight @ h + conv.lin_out.bias + own))
            x = torch.stack(rows)
        branches.append(x)
    rep = sum(branches) / len(branches)
    return rep[:num_users] @ rep[num_users:].t()


def grcn(model, data, routings=3, weighting="confidence", pruning=True, fusion="concat"):
    users, items = neighbours(data)
    num_users = len(users)
    content, affinities = [], []
    for m in model.modalities:
        linear = model.projection[m]
        f = torch.stack([unit(leaky(linear.weight @ x + linear.bias)) for x in data["item"][f"x_{m}"]])
        p = torch.stack([unit(x) for x in model.preference[m]])
        for _ in range(routings):
            rows = []
            for u, near in enumerate(users):
                a = torch.softmax(torch.stack([p[u] @ f[i] for i in near]), 0) if near else []
                rows.append(unit(p[u] + sum((w * f[i] for w, i in zip(a, near, strict=True)), torch.zeros(f.size(1)))))
            p = torch.stack(rows)
        x = torch.cat([p, f])
        near = [[i + num_users for i in n] for n in users] + items
        out, alpha = [], {}
        for node, neighbourhood in enumerate(near):
            a = torch.softmax(torch.stack([x[node] @ x[j] for j in neighbourhood]), 0) if neighbourhood else []
            for w, j in zip(a, neighbourhood, strict=True):
                alpha[node, j] = w
            out.append(x[node] + sum((w * x[j] for w, j in zip(a, neighbourhood, strict=True)), torch.zeros(x.size(1))))
        content.append(torch.stack(out))
        affinities.append(alpha)
    weight = {}
    for i, j in affinities[0]:
        trust = model.confidence[j] if weighting == "confidence" else [1] * len(affinities)
        seen = [a[i, j] * t for a, t in zip(affinities, trust, strict=True)]
        value = sum(seen) / len(seen) if weighting == "mean" else max(seen)
        weight[i, j] = torch.relu(value) if pruning else value
    layer = torch.stack([unit(x) for x in model.id])
    total = layer
    for _ in range(model.num_layers):
        rows = []
        for node in range(layer.size(0)):
            own = [(w, j) for (i, j), w in weight.items() if i == node]
            rows.append(sum((w * layer[j] for w, j in own), torch.zeros(layer.size(1))))
        layer = torch.stack(rows)
        total = total + layer
    if fusion == "concat":
        rep = torch.cat([total, *content], dim=1)
    else:
        rep = total if fusion == "id" else sum([total, *content]) / (1 + len(content))
    return rep[:num_users] @ rep[num_users:].t()


def dual_branches(model, data, num_layers):
    """DualGNN's weighted users and items per modality."""
    users, items = neighbours(data)
    num_users = len(users)
    near = [[i + num_users for i in n] for n in users] + items
    result = []
    for index, m in enumerate(model.modalities):
        first, _, last = model.mlp[m]
        content = [last.weight @ leaky(first.weight @ x + first.bias) + last.bias for x in data["item"][f"x_{m}"]]
        x = torch.stack([unit(row) for row in [*model.preference[m], *content]])
        total = x
        for _ in range(num_layers):
            rows = []
            for neighbourhood in near:
                messages = (x[j] / (len(neighbourhood) * len(near[j])) ** 0.5 for j in neighbourhood)
                rows.append(sum(messages, torch.zeros(x.size(1))))
            x = torch.stack(rows)
            total = total + x
        weighted = [model.user_weight[u, index] * total[u] for u in range(num_users)]
        result.append((torch.stack(weighted), total[num_users:]))
    return result


def with_similar_users(user, data, k):
    """Each user and the `k` who share most items with her, by the softmax of how many."""
    users, _ = neighbours(data)
    rows = []
    for u, own in enumerate(users):
        shared = [(-len(set(own) & set(other)), v) for v, other in enumerate(users) if v != u]
        near = sorted(pair for pair in shared if pair[0] < 0)[:k]
        weights = torch.softmax(torch.tensor([-float(count) for count, _ in near]), 0)
        rows.append(user[u] + sum((w * user[v] for w, (_, v) in zip(weights, near, strict=True)), torch.zeros(1)))
    return torch.stack(rows)


def dual_loss(model, score, batch):
    """DualGNN's loss on a matrix of scores."""
    total = 0.0
    for u, i, j in zip(*(ids.tolist() for ids in batch.ids), strict=True):
        total = total - torch.log2(torch.sigmoid(score[u, i] - score[u, j])) / len(batch)
    squares = [sum((p[u] ** 2).mean() for u in batch.user.tolist()) for p in model.preference.values()]
    return total + model.reg * (sum(squares) / len(batch) + (model.user_weight**2).mean())
