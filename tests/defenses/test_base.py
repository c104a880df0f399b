import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.defenses import Defense
from mmgraph_robust.errors import ConfigError, NonFiniteError
from mmgraph_robust.models import FREEDOM, LATTICE, VBPR


def test_all_three_hooks_are_called_and_an_empty_defense_changes_nothing(shop):
    class Idle(Defense):
        def loss(self, step):
            return step.loss.new_zeros(()), {"seen": float(step.index)}

    class Freeze(Idle):
        def features(self, features, generator):
            return {m: x * 0 for m, x in features.items()}

        def gradients(self, step):
            step.model.item_id.grad.zero_()

    def train(defense):
        model = VBPR.from_data(shop, embedding_dim=4, reg=0.0)
        history = mr.fit(model, shop, defense, max_epochs=2, batch_size=128, progress=False)
        return model, history

    plain, _ = train(None)
    idle, history = train(Idle())
    assert all(torch.equal(a, b) for a, b in zip(plain.parameters(), idle.parameters(), strict=True))
    assert history.records[1]["seen"] > history.records[0]["seen"] > 0
    frozen, _ = train(Freeze())
    fresh = VBPR.from_data(shop, embedding_dim=4, reg=0.0)
    assert torch.equal(frozen.item_id, fresh.item_id)
    assert torch.equal(frozen.projection["visual"], fresh.projection["visual"])
    assert not torch.equal(frozen.user, fresh.user)
    assert Idle().describe() == {"name": "Idle"}


@pytest.mark.parametrize(
    "defense", [mr.defenses.FreeAdversarialTraining(replays=2), mr.defenses.MirrorGradient(every=1)], ids=repr
)
def test_no_step_is_taken_with_a_gradient_that_is_not_finite(shop, defense):
    model = VBPR.from_data(shop, embedding_dim=4)
    before = model.user.detach().clone()
    model.projection["visual"].register_hook(lambda gradient: gradient * float("nan"))
    with pytest.raises(NonFiniteError, match=r"'projection\.visual' is not finite in step 0"):
        mr.fit(model, shop, defense, max_epochs=1, batch_size=128, progress=False)
    assert torch.equal(model.user, before)


@pytest.mark.parametrize(
    "name",
    [
        "AdversarialTraining", "ListwiseAdversarialTraining", "FreeAdversarialTraining", "FeatureNoise",
        "GradientPenalty", "ModalityDropout", "ProjectionDecay",
    ],
)  # fmt: skip
@pytest.mark.parametrize("names", ["visual", [], ["visual", "visual"]], ids=repr)
def test_modalities_are_a_list_of_different_names(name, names):
    with pytest.raises(ConfigError, match=f"'{name}' expects modalities to be a list of different names"):
        getattr(mr.defenses, name)(modalities=names)


@pytest.mark.parametrize(
    "defense",
    [mr.defenses.ListwiseAdversarialTraining(), mr.defenses.ModalityBalancing("visual", warmup=5)],
    ids=lambda d: type(d).__name__,
)
def test_what_features_do_not_reach_is_refused_before_the_first_step(shop, defense):
    for model in (FREEDOM.from_data(shop, knn_k=3), LATTICE.from_data(shop, knn_k=3)):
        with pytest.raises(ConfigError, match="do not reach"):
            defense.setup(model, shop, model.graph(shop))
    model = LATTICE.from_data(shop, knn_k=3, refresh_every=1)
    defense.setup(model, shop, model.graph(shop))
