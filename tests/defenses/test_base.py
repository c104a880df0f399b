import torch

import mmgraph_robust as mr
from mmgraph_robust.defenses import Defense
from mmgraph_robust.models import VBPR


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
