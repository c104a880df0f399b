import pytest
import torch
import torch.nn.functional as F

from mmgraph_robust.defenses import APR
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import BPRMF, GRCN, MMGCN, VBPR, Embeddings

from .conftest import same


def test_equals_the_paper_on_matrix_factorisation(tiny, batch, step_of):
    model = BPRMF.from_data(tiny, embedding_dim=4, reg=0.0)
    step = step_of(model, tiny, APR(weight=0.5, eps=0.7))
    got, _ = APR(weight=0.5, eps=0.7).loss(step)
    p, q = (step.embeddings.user["id"], step.embeddings.item["id"])
    gamma_p, gamma_q = torch.zeros_like(p), torch.zeros_like(q)
    triples = list(zip(batch.user.tolist(), batch.positive.tolist(), batch.negative.tolist(), strict=True))
    for u, i, j in triples:
        slope = -torch.sigmoid(-(p[u] @ (q[i] - q[j]))).detach() / len(triples)
        gamma_p[u] += slope * (q[i] - q[j]).detach()
        gamma_q[i] += slope * p[u].detach()
        gamma_q[j] -= slope * p[u].detach()
    moved_p = p + 0.7 * gamma_p / gamma_p.norm(dim=1, keepdim=True).clamp(min=1e-30)
    moved_q = q + 0.7 * gamma_q / gamma_q.norm(dim=1, keepdim=True).clamp(min=1e-30)
    expected = 0.5 * sum(-F.logsigmoid(moved_p[u] @ (moved_q[i] - moved_q[j])) for u, i, j in triples) / len(triples)
    assert torch.allclose(got, expected, atol=1e-6)
    mine = torch.autograd.grad(got, list(model.parameters()), retain_graph=True)
    theirs = torch.autograd.grad(expected, list(model.parameters()))
    assert all(torch.allclose(a, b, atol=1e-6) for a, b in zip(mine, theirs, strict=True))


@pytest.mark.parametrize("kind", [VBPR, MMGCN, GRCN])
def test_every_matrix_of_every_channel_once(tiny, batch, step_of, kind):
    """MMGCN's and VBPR's channels share users; the gradient of a shared matrix is that of all its channels."""
    model = kind.from_data(tiny, embedding_dim=4)
    defense = APR(eps=0.3)
    step = step_of(model, tiny, defense)
    got, numbers = defense.loss(step)
    assert numbers["adversarial_loss"] == pytest.approx(float(got.detach()))
    assert float(got.detach()) > float(step.loss.detach())

    def loss_at(user, item):
        e = Embeddings(user, item, step.embeddings.extra)
        return model.loss(e, batch, step.features)

    original = {"user": dict(step.embeddings.user), "item": dict(step.embeddings.item)}
    fixed = {id(x): x.detach() for matrices in original.values() for x in matrices.values()}

    def sides(change):
        """Shared matrices stay shared: penalties count them once."""
        return {s: {c: (fixed | change)[id(x)] for c, x in matrices.items()} for s, matrices in original.items()}

    moved = {}
    for key, x in fixed.items():
        z = x.clone().requires_grad_()
        (g,) = torch.autograd.grad(loss_at(**sides({key: z})), z)
        moved[key] = x + 0.3 * g / g.norm(dim=1, keepdim=True).clamp(min=1e-30)
    assert len(moved) < 2 * len(step.embeddings.channels) or kind is GRCN
    assert float(got.detach()) == pytest.approx(float(loss_at(**sides(moved)).detach()), rel=1e-4)


def test_with_weight_zero_it_is_plain_training(tiny, train):
    assert same(train(GRCN, tiny, APR(weight=0.0)), train(GRCN, tiny, None))


def test_bad_arguments():
    for bad in ({"weight": -1.0}, {"eps": float("nan")}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            APR(**bad)
