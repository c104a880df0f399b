import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.defenses import ModalityDropout
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import FREEDOM, GRCN, LATTICE, VBPR, LightGCN

from .conftest import near, same


def test_rows_are_missing_at_the_rate_and_independently():
    data = mr.synthetic(num_users=60, num_items=50, modalities={"visual": 3, "textual": 4}, seed=0)
    model, defense = VBPR.from_data(data, embedding_dim=4), ModalityDropout(rate=0.3)
    clean = model.features(data)
    defense.setup(model, data, mr.Graph.from_data(data))
    generator, gone = torch.Generator().manual_seed(0), {m: [] for m in clean}
    for _ in range(200):
        changed = defense.features(clean, generator)
        for m, x in changed.items():
            missing = (x == 0).all(dim=1)
            assert torch.equal(x[~missing], clean[m][~missing])
            gone[m].append(missing)
    shares = {m: torch.cat(rows).double() for m, rows in gone.items()}
    assert all(float(s.mean()) == pytest.approx(0.3, abs=0.02) for s in shares.values())
    assert float((shares["visual"] * shares["textual"]).mean()) == pytest.approx(0.09, abs=0.02)


def test_training_equals_a_plain_loop_on_the_same_rows(tiny, train, by_hand):
    seen = []

    class Watched(ModalityDropout):
        def features(self, features, generator):
            seen.append(super().features(features, generator))
            return seen[-1]

    mine = train(GRCN, tiny, Watched(modalities=["visual"], rate=0.5))

    def step(model, clean, loss_of, optimizer, index):
        assert seen[index]["textual"] is clean["textual"]
        optimizer.zero_grad()
        loss_of(seen[index]).backward()
        optimizer.step()

    assert near(mine, by_hand(GRCN, tiny, step))
    assert not near(mine, train(GRCN, tiny, None), atol=1e-3)


def test_at_rate_zero_it_is_plain_training(tiny, train):
    assert same(train(GRCN, tiny, ModalityDropout(rate=0.0)), train(GRCN, tiny, None))


def test_it_resumes_to_the_same_bits(tiny, train, resumed):
    assert same(resumed(VBPR, tiny, ModalityDropout), train(VBPR, tiny, ModalityDropout()))


def test_bad_arguments_and_models(tiny, shop, train):
    for rate in (-0.1, 1.1, float("nan")):
        with pytest.raises(ConfigError, match="rate"):
            ModalityDropout(rate=rate)
    with pytest.raises(ConfigError, match="nothing to defend"):
        train(LightGCN, tiny, ModalityDropout())
    with pytest.raises(ConfigError, match="unknown modality"):
        train(VBPR, tiny, ModalityDropout(modalities=["odour"]))
    with pytest.raises(ConfigError, match="refresh_every=1"):
        train(LATTICE, shop, ModalityDropout())
    # Without its loss on projected features, FREEDOM meets features through its frozen graph only.
    model = FREEDOM.from_data(shop, embedding_dim=4, reg=0.0)
    with pytest.raises(ConfigError, match="do not reach"):
        mr.fit(model, shop, ModalityDropout(), max_epochs=1, progress=False)
