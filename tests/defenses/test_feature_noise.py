import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.defenses import FeatureNoise
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.models import GRCN, VBPR, LightGCN

from .conftest import near, same


def test_the_noise_has_the_deviation_that_it_says(tiny):
    model, defense = VBPR.from_data(tiny, embedding_dim=4), FeatureNoise(sigma=0.5)
    clean = model.features(tiny)
    defense.setup(model, tiny, mr.Graph.from_data(tiny))
    generator = torch.Generator().manual_seed(0)
    drawn = [defense.features(clean, generator) for _ in range(500)]
    for m, x in clean.items():
        noise = torch.stack([d[m] - x for d in drawn])
        deviation = 0.5 * float(sum(v * v for v in x.flatten().tolist()) / x.numel()) ** 0.5
        assert float(noise.std()) == pytest.approx(deviation, rel=0.03)
        assert float(noise.mean()) == pytest.approx(0.0, abs=0.03 * deviation)
        assert float((noise[1:] * noise[:-1]).mean()) == pytest.approx(0.0, abs=0.03 * deviation**2)


def test_training_equals_a_plain_loop_on_the_same_noise(tiny, train, by_hand):
    seen = []

    class Watched(FeatureNoise):
        def features(self, features, generator):
            seen.append(super().features(features, generator))
            return seen[-1]

    mine = train(GRCN, tiny, Watched(modalities=["visual"], sigma=0.5))

    def step(model, clean, loss_of, optimizer, index):
        assert seen[index]["textual"] is clean["textual"]
        optimizer.zero_grad()
        loss_of(seen[index]).backward()
        optimizer.step()

    assert near(mine, by_hand(GRCN, tiny, step))
    assert not near(mine, train(GRCN, tiny, None), atol=1e-3)


def test_without_noise_it_is_plain_training(tiny, train):
    assert same(train(GRCN, tiny, FeatureNoise(sigma=0.0)), train(GRCN, tiny, None))


def test_it_resumes_to_the_same_bits(tiny, train, resumed):
    assert same(resumed(VBPR, tiny, FeatureNoise), train(VBPR, tiny, FeatureNoise()))


def test_bad_arguments_and_models(tiny, train):
    for sigma in (-0.1, float("inf")):
        with pytest.raises(ConfigError, match="sigma"):
            FeatureNoise(sigma=sigma)
    with pytest.raises(ConfigError, match="nothing to defend"):
        train(LightGCN, tiny, FeatureNoise())
    with pytest.raises(ConfigError, match="unknown modality"):
        train(VBPR, tiny, FeatureNoise(modalities=["odour"]))
