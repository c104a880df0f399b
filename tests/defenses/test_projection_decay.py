import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust import models
from mmgraph_robust.defenses import ProjectionDecay
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import GRCN, VBPR, LightGCN

from .conftest import same

MATRICES = {
    "VBPR": ["projection.visual"], "GRCN": ["projection.visual.weight"], "FREEDOM": ["projection.visual.weight"],
    "LATTICE": ["latent.lins.visual.weight"], "MGCN": ["projection.visual.weight"],
    "MMGCN": ["convs.visual.0.lin_self.weight", "convs.visual.0.weight"],
    "DRAGON": ["mlp.visual.0.weight"], "LGMRec": ["hyperedge.visual", "projection.visual"],
}  # fmt: skip


@pytest.mark.parametrize("name", MATRICES)
def test_equals_the_formula_on_the_matrices_that_features_meet(tiny, step_of, name):
    model = getattr(models, name).from_data(tiny, embedding_dim=4)
    defense = ProjectionDecay(weight=0.3, modalities=["visual"])
    expected = MATRICES[name]
    step = step_of(model, tiny, defense)
    got, numbers = defense.loss(step)
    assert sorted(defense._matrices) == expected
    total = sum(v * v for n in expected for v in model.get_parameter(n).flatten().tolist())
    assert float(got.detach()) == pytest.approx(0.15 * total, rel=1e-5)
    assert numbers["projection_norm"] == pytest.approx(total**0.5, rel=1e-5)
    gradients = torch.autograd.grad(got, list(model.parameters()), allow_unused=True)
    for (n, p), g in zip(model.named_parameters(), gradients, strict=True):
        assert (g is None) == (n not in expected)
        assert g is None or torch.allclose(g, 0.3 * p)


def test_with_weight_zero_it_is_plain_training(tiny, train):
    assert same(train(GRCN, tiny, ProjectionDecay(weight=0.0)), train(GRCN, tiny, None))


def test_only_these_matrices_shrink(tiny, train):
    plain, decayed = train(VBPR, tiny, None, 20), train(VBPR, tiny, ProjectionDecay(weight=1.0), 20)
    for name, x in plain.items():
        assert (float(decayed[name].norm()) < 0.8 * float(x.norm())) == name.startswith("projection")


def test_named_matrices(tiny):
    model, graph = VBPR.from_data(tiny, embedding_dim=4), mr.Graph.from_data(tiny)
    defense = ProjectionDecay(parameters=["item_id"])
    defense.setup(model, tiny, graph)
    assert defense._matrices == ("item_id",)
    with pytest.raises(ConfigError, match="did you mean 'item_id'"):
        ProjectionDecay(parameters=["item_if"]).setup(model, tiny, graph)

    class Own(VBPR):
        """Whose matrices have names of their own."""

        def named_parameters(self, *args, **kwargs):
            return ((name.replace("visual", "look"), p) for name, p in super().named_parameters(*args, **kwargs))

    with pytest.raises(ConfigError, match="'parameters'"):
        ProjectionDecay().setup(Own.from_data(tiny), tiny, graph)


def test_bad_arguments_and_models(tiny, train):
    with pytest.raises(ConfigError, match="weight"):
        ProjectionDecay(weight=-1.0)
    with pytest.raises(ConfigError, match="not both"):
        ProjectionDecay(modalities=["visual"], parameters=["user"])
    with pytest.raises(ConfigError, match="nothing to defend"):
        train(LightGCN, tiny, ProjectionDecay())
    with pytest.raises(ConfigError, match="unknown modality"):
        train(VBPR, tiny, ProjectionDecay(modalities=["odour"]))
