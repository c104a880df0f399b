import math

import pytest
import torch

from mmgraph_robust.defenses import OGMGE
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import BM3, GRCN, MMGCN, VBPR, LightGCN

from .conftest import same


def factors(embeddings, batch, modalities, alpha):
    """From the formula, triple by triple."""
    trust = {}
    for m in modalities:
        total = 0.0
        for u, i, j in zip(batch.user.tolist(), batch.positive.tolist(), batch.negative.tolist(), strict=True):
            margin = float(
                embeddings.user[m][u] @ embeddings.item[m][i] - embeddings.user[m][u] @ embeddings.item[m][j]
            )
            total += 1 / (1 + math.exp(-margin))
        trust[m] = total / len(batch)
    result = {}
    for m in modalities:
        others = [trust[o] for o in modalities if o != m]
        ratio = trust[m] * len(others) / sum(others)
        result[m] = 1 - math.tanh(alpha * ratio) if ratio > 1 else 1.0
    return result


@pytest.mark.parametrize("kind", [VBPR, MMGCN, GRCN])
@pytest.mark.parametrize("names", [["visual", "textual"], ["visual", "textual", "acoustic"]])
def test_equals_the_formula(tiny, batch, step_of, kind, names):
    model = kind.from_data(tiny, embedding_dim=4, modalities=names)
    defense = OGMGE(alpha=0.4, noise=False)
    step = step_of(model, tiny, defense)
    term, numbers = defense.loss(step)
    assert float(term) == 0
    expected = factors(step.embeddings.detach(), batch, names, 0.4)
    assert min(expected.values()) < 0.7
    assert max(expected.values()) == 1.0
    assert numbers == pytest.approx({f"factor_{m}": k for m, k in expected.items()}, rel=1e-5)
    step.loss.backward()
    before = {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
    defense.gradients(step)
    for name, parameter in model.named_parameters():
        owners = [m for m in names if m in name]
        if name in before:
            assert torch.allclose(parameter.grad, before[name] * (expected[owners[0]] if owners else 1.0))


def test_noise_has_the_deviation_of_the_gradient(tiny, step_of):
    model, defense = VBPR.from_data(tiny, embedding_dim=512, modalities=["visual", "textual"]), OGMGE()
    step = step_of(model, tiny, defense)
    _, numbers = defense.loss(step)
    step.loss.backward()
    before = {n: p.grad.clone() for n, p in model.named_parameters()}
    defense.gradients(step)
    for name, parameter in model.named_parameters():
        if "projection" not in name:
            assert torch.equal(parameter.grad, before[name])
            continue
        noise = parameter.grad - numbers[f"factor_{name.split('.')[1]}"] * before[name]
        g = before[name].double().flatten()
        assert float(noise.std()) == pytest.approx(float(((g - g.mean()) ** 2).mean() ** 0.5), rel=0.05)


def test_without_strength_and_noise_it_is_plain_training(tiny, train):
    assert same(train(GRCN, tiny, OGMGE(alpha=0.0, noise=False)), train(GRCN, tiny, None))


def test_it_resumes_to_the_same_bits(tiny, train, resumed):
    assert same(resumed(VBPR, tiny, OGMGE), train(VBPR, tiny, OGMGE()))


def test_bad_arguments_and_models(tiny, train):
    with pytest.raises(ConfigError, match="alpha"):
        OGMGE(alpha=-1.0)
    with pytest.raises(ConfigError, match="nothing to defend"):
        train(LightGCN, tiny, OGMGE())
    with pytest.raises(ConfigError, match="at least two"):
        train(BM3, tiny, OGMGE())

    class Own(VBPR):
        """Whose parameters have names of their own."""

        def named_parameters(self, *args, **kwargs):
            return ((name.replace("visual", "look"), p) for name, p in super().named_parameters(*args, **kwargs))

    with pytest.raises(ConfigError, match="no parameter named after 'visual'"):
        train(Own, tiny, OGMGE())
