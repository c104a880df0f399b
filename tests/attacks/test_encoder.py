from dataclasses import replace

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import ContentPGD, ContentResult, ThreatModel
from mmgraph_robust.errors import ConfigError, DataError, NonFiniteError
from mmgraph_robust.models import FREEDOM, LightGCN

THREAT = ThreatModel(["visual"], 0.03, norm="linf", relative=False)


class Small(torch.nn.Module):
    """Counts the rows that it sees at a time."""

    def __init__(self, dim=12):
        super().__init__()
        generator = torch.Generator().manual_seed(0)
        self.weight = torch.nn.Parameter(torch.randn(3 * 4 * 4, dim, generator=generator))
        self.dropout = torch.nn.Dropout(0.5)
        self.most = 0

    def forward(self, images):
        self.most = max(self.most, images.size(0))
        return self.dropout(torch.tanh(images.flatten(1) @ self.weight))


@pytest.fixture(scope="module")
def trained_on_images(shop):
    """Images whose encoded features VBPR was trained on."""
    encoder = Small().eval()
    images = torch.rand(80, 3, 4, 4, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        data = mr.data.with_features(shop, {"visual": encoder(images)})
    model = mr.models.VBPR.from_data(data, embedding_dim=8, reg=0.1)
    mr.fit(model, data, max_epochs=20, batch_size=256, learning_rate=0.01, progress=False)
    return model, data, images


@pytest.fixture
def world(trained_on_images):
    return *trained_on_images, Small()


def recall(model, data):
    return mr.evaluate(model, data, metrics=["recall"])["recall@20"]


def test_the_budget_is_in_pixels_and_the_attack_beats_noise(world):
    model, data, images, encoder = world
    before = images.clone()
    boxed = replace(THREAT, box={"visual": (0.0, 1.0)})
    result = ContentPGD(encoder, steps=10, batch_size=16)(model, data, images, boxed)
    assert isinstance(result, ContentResult)
    assert encoder.most == 16
    assert encoder.training
    assert encoder.weight.requires_grad
    assert encoder.weight.grad is None
    assert torch.equal(images, before)
    change = result.content - images
    assert float(change.abs().max()) <= 0.03 + 1e-6
    assert float(change.abs().max()) > 0.029
    assert 0 <= float(result.content.min()) <= float(result.content.max()) <= 1
    with torch.no_grad():
        again = encoder.eval()(result.content)
        noisy = encoder((images + 0.03 * torch.randn(images.shape).sign()).clamp(0, 1))
    assert torch.allclose(result.data["item"].x_visual, again, atol=1e-6)
    assert result.flags == {}
    noise = recall(model, mr.data.with_features(data, {"visual": noisy}))
    assert recall(model, result.data) < min(noise, recall(model, data)) - 0.02


@pytest.mark.parametrize("batch_size", [7, 100])
def test_batches_and_chain_rule_give_the_gradient_of_the_whole(world, batch_size):
    model, data, images, encoder = world
    threat = ThreatModel(["visual"], 0.5, norm="l2", relative=False)
    result = ContentPGD(encoder, 1, 1.0, "margin", batch_size)(model, data, images, threat)
    encoder.eval()
    model.eval()
    leaf = images.clone().requires_grad_()
    pairs = mr.data.interactions(data, "test")
    features = {"visual": encoder(leaf), "textual": data["item"].x_textual}
    user, item = model(features, mr.Graph.from_data(data)).concatenated()
    (g,) = torch.autograd.grad(-(user[pairs[0]] * (item[pairs[1]] - item.mean(0))).sum(1).mean(), leaf)
    expected = images + 0.5 * g / g.flatten(1).norm(dim=1)[:, None, None, None]
    assert torch.allclose(result.content, expected, atol=1e-4)


def test_more_budget_and_steps_never_do_worse_and_nothing_does_nothing(world):
    model, data, images, encoder = world
    values = [ContentPGD(encoder, n, 0.3)(model, data, images, THREAT).objective for n in (1, 3, 9)]
    assert values == sorted(values)
    none = ContentPGD(encoder, 2)(model, data, images, ThreatModel(["visual"], 0.0, norm="linf", relative=False))
    assert torch.equal(none.content, images)
    assert none.objective == pytest.approx(none.clean_objective)
    own = ContentPGD(encoder, 2)(model, data, images, ThreatModel(["visual"], 0.1, items=[3, 70]))
    still = (own.content == images).flatten(1).all(1)
    assert still.sum() >= 78
    assert own.objective > own.clean_objective
    assert (
        float((own.content - images).flatten(1).norm(dim=1).max())
        <= 0.1001 * images[[3, 70]].flatten(1).norm(dim=1).max()
    )


def test_through_the_item_graph(world):
    _, data, images, encoder = world
    model = FREEDOM.from_data(data, embedding_dim=8, knn_k=4)
    rebuilt = ContentPGD(encoder, 5)(model, data, images, THREAT)
    assert rebuilt.objective > rebuilt.clean_objective
    frozen = ThreatModel(["visual"], 0.03, norm="linf", relative=False, graph="frozen")
    late = ContentPGD(encoder, 2)(model, data, images, frozen)
    assert late.objective == late.clean_objective
    assert "no_gradient" in late.flags
    assert recall(model, late.data) == recall(model, data)


def test_what_must_not_be_believed_is_flagged(world):
    model, data, images, encoder = world

    class Rounding(Small):
        def forward(self, images):
            return super().forward(images.round())

    class Noisy(Small):
        def forward(self, images):
            return super().forward(images) + 0.1 * torch.rand(images.size(0), 1)

    # The objective that reaches every item.
    flags = ContentPGD(Rounding(), 1, objective="ndcg")(model, data, images, THREAT).flags
    assert "no gradient on for 80 of 80 items" in flags["encoder_gradient"]
    assert "differ from the stored ones" in flags["other_features"]
    assert "stochastic_encoder" in ContentPGD(Noisy(), 1)(model, data, images, THREAT).flags

    class Random(mr.models.VBPR):
        def forward(self, features, graph):
            noise = 0.3 * torch.randn_like(features["visual"])
            return super().forward(features | {"visual": features["visual"] + noise}, graph)

    victim = Random.from_data(data, embedding_dim=8)
    assert "average over 8 draws" in ContentPGD(encoder, 1)(victim, data, images, THREAT).flags["stochastic"]
    assert "stochastic" not in flags
    immune = LightGCN.from_data(data, embedding_dim=4)
    with pytest.raises(ConfigError, match="no item feature reaches the score of 'LightGCN'"):
        ContentPGD(encoder, 1)(immune, data, images, THREAT)


def test_bad_encoders_and_content_are_named(world):
    model, data, images, encoder = world

    class Detached(Small):
        def forward(self, images):
            return super().forward(images).detach()

    class Broken(Small):
        def forward(self, images):
            return super().forward(images) / 0

    class Steep(Small):
        def forward(self, images):
            return super().forward(images) + (images - images).flatten(1).sum(1, keepdim=True).abs().sqrt()

    def attack(encoder=encoder, images=images, threat=THREAT):
        ContentPGD(encoder, 1)(model, data, images, threat)

    with pytest.raises(DataError, match=r"shape \[64, 12\], those of the data \(got \[64, 5\]\)"):
        attack(Small(5))
    with pytest.raises(ConfigError, match="without a gradient to its input"):
        attack(Detached())
    with pytest.raises(NonFiniteError, match="NaN or infinite features"):
        attack(Broken())
    with pytest.raises(NonFiniteError, match="gradient through 'Steep'"):
        attack(Steep())
    assert encoder.training
    with pytest.raises(DataError, match="each of the 80 items"):
        attack(images=images[1:])
    with pytest.raises(DataError, match="floating point"):
        attack(images=(images * 255).byte())
    with pytest.raises(NonFiniteError, match="'content'"):
        attack(images=images / 0)
    with pytest.raises(ConfigError, match=r"'box' of modality 'visual' is \[0.2, 1\]"):
        attack(threat=replace(THREAT, box={"visual": (0.2, 1.0)}))
    for threat in (ThreatModel(["visual", "textual"]), ThreatModel(["visual"], scope="matrix")):
        with pytest.raises(ConfigError, match="its one modality and scope='item'"):
            attack(threat=threat)
    with pytest.raises(ConfigError, match="did you mean 'visual'"):
        attack(threat=ThreatModel(["visul"]))
    for bad in ({"steps": 0}, {"batch_size": 0}, {"step_size": 0.0}, {"objective": "x"}):
        with pytest.raises(ConfigError, match=next(iter(bad))):
            ContentPGD(encoder, **bad)
