"""What every model of this folder has to keep beyond its own equations; a test class inherits it and names its model."""

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.data import Batch, Graph
from mmgraph_robust.testing import check_model

BATCH = Batch(torch.tensor([1, 2, 3, 4]), torch.tensor([1, 3, 5, 3]), torch.tensor([2, 6, 1, 4]))


def dense_scores(embeddings):
    # Autocast leaves matrices of several types.
    kind = torch.promote_types(embeddings.item[embeddings.channels[0]].dtype, torch.float32)
    return sum(embeddings.user[c].to(kind) @ embeddings.item[c].to(kind).t() for c in embeddings.channels)


def relabelled(data, user, item):
    edge = data["user", "interacts", "item"]
    label = (edge.val_mask * 1 + edge.test_mask * 2).long()
    edge_index = torch.stack([user[edge.edge_index[0]], item[edge.edge_index[1]]])
    features = {m: x[item.argsort()] for m, x in mr.data.features(data).items()}
    return mr.data.build(edge_index, label, features, num_users=user.numel(), num_items=item.numel())


class Contract:
    """The tiny data set has ten users and eight items: no other dimension of a model may be eight or ten here."""

    kind: type[mr.Recommender]
    arguments: dict[str, object] = {"embedding_dim": 4}

    def make(self, data, **others):
        return self.kind.from_data(data, **(self.arguments | others))

    @pytest.mark.parametrize("modalities", [["textual"], ["visual", "textual"]])
    def test_keeps_the_contract(self, shop, modalities):
        check_model(self.make(shop, modalities=modalities), shop)

    def test_scores_are_those_of_the_channels(self, tiny):
        model = self.make(tiny)
        embeddings = model(model.features(tiny), model.graph(tiny))
        user, item = embeddings.concatenated()
        assert torch.allclose(user @ item.t(), dense_scores(embeddings), atol=1e-6)
        assert {"visual", "textual", "acoustic"} <= set(embeddings.channels) <= {"id", *model.modalities}

    def test_gradients_are_those_of_finite_differences(self, tiny):
        """Along a random direction of every parameter and of every modality, on a training step's graph."""
        model = self.make(tiny).double()
        graph = model.graph(tiny)
        features = {m: x.double().requires_grad_() for m, x in model.features(tiny).items()}
        graph = model.training_graph(graph, None, features, 0, torch.Generator().manual_seed(0))

        def loss():
            embeddings = model(features, graph)
            return model.loss(embeddings, BATCH, features) + dense_scores(embeddings).square().sum()

        leaves = {**dict(model.named_parameters()), **features}
        gradients = torch.autograd.grad(loss(), list(leaves.values()), allow_unused=True)
        generator = torch.Generator().manual_seed(1)
        for (name, leaf), gradient in zip(leaves.items(), gradients, strict=True):
            assert gradient is not None, name
            direction = torch.randn(leaf.shape, generator=generator, dtype=torch.float64)
            step = 1e-6 * direction / direction.norm()
            with torch.no_grad():
                leaf += step
                above = loss()
                leaf -= 2 * step
                below = loss()
                leaf += step
            expected = float((gradient * direction).sum() / direction.norm())
            assert float(above - below) / 2e-6 == pytest.approx(expected, rel=1e-4, abs=1e-6), name

    def test_isolated_nodes_and_empty_features_stay_finite(self, tiny):
        edge = tiny["user", "interacts", "item"]
        keep = (edge.edge_index[0] != 0) & (edge.edge_index[1] != 0)
        label = (edge.val_mask * 1 + edge.test_mask * 2).long()[keep]
        features = {m: x.clone() for m, x in mr.data.features(tiny).items()}
        features["visual"][2] = 0
        data = mr.data.build(edge.edge_index[:, keep], label, features, num_users=10, num_items=8)
        model = self.make(data)
        features = {m: x.requires_grad_() for m, x in model.features(data).items()}
        embeddings = model(features, model.graph(data)).check_finite()
        batch = Batch(torch.tensor([0, 1]), torch.tensor([0, 2]), torch.tensor([2, 3]))
        (model.loss(embeddings, batch, features) + dense_scores(embeddings).sum()).backward()
        leaves = [*model.parameters(), *features.values()]
        assert all(torch.isfinite(x.grad).all() for x in leaves if x.grad is not None)

    def test_relabelling_relabels_the_scores(self, tiny):
        generator = torch.Generator().manual_seed(0)
        user, item = torch.randperm(10, generator=generator), torch.randperm(8, generator=generator)
        model, other = self.make(tiny), relabelled(tiny, user, item)
        twin = self.make(other, seed=1)
        rows = {10: user.argsort(), 8: item.argsort()}
        state = {n: x[rows[len(x)]] if x.dim() == 2 and len(x) in rows else x for n, x in model.state_dict().items()}
        twin.load_state_dict(state)
        one, two = (m(m.features(d), m.graph(d)) for m, d in ((model, tiny), (twin, other)))
        assert torch.allclose(dense_scores(one), dense_scores(two)[user][:, item], atol=1e-5)
        moved = Batch(user[BATCH.user], item[BATCH.positive], item[BATCH.negative])
        loss = model.loss(one, BATCH, model.features(tiny))
        assert torch.allclose(loss, twin.loss(two, moved, twin.features(other)), atol=1e-5)

    def test_half_precision_runs_and_is_near(self, shop):
        model = self.make(shop)
        graph, features = model.graph(shop), model.features(shop)
        exact = dense_scores(model(features, graph)).detach()
        with torch.autocast("cpu", torch.bfloat16):
            embeddings = model(features, graph)
            loss = model.loss(embeddings, BATCH, features)
        loss.backward()
        rounded = dense_scores(embeddings).detach()
        assert float((rounded - exact).norm() / exact.norm()) < 0.05
        assert all(torch.isfinite(p.grad).all() for p in model.parameters() if p.grad is not None)

    @pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
    def test_gpu_equals_cpu(self, shop):
        model = self.make(shop)
        results = []
        for device in ("cpu", "cuda"):
            model = model.to(device)
            features = model.features(shop)
            graph = model.training_graph(model.graph(shop), None, features, 0, torch.Generator().manual_seed(0))
            embeddings = model(features, graph)
            batch = Batch(*(ids.to(device) for ids in BATCH.ids))
            results.append((dense_scores(embeddings).cpu(), model.loss(embeddings, batch, features).cpu()))
        assert all(torch.allclose(one, two, atol=1e-4) for one, two in zip(*results, strict=True))

    def test_saved_models_come_back(self, tiny, tmp_path):
        model = self.make(tiny, seed=5)
        mr.save_model(model, tmp_path / "m.safetensors")
        twin = mr.load_model(tmp_path / "m.safetensors")
        assert type(twin) is self.kind
        assert twin.config == model.config
        one, two = (dense_scores(m(m.features(tiny), m.graph(tiny))) for m in (model, twin))
        assert torch.equal(one, two)

    def test_trainable_features_are_added_to_those_given(self, tiny):
        model, plain = self.make(tiny, trainable_features=True), self.make(tiny)
        graph, features = model.graph(tiny), model.features(tiny)
        start = dense_scores(model(features, graph))
        assert torch.equal(start, dense_scores(plain(features, graph)))
        shift = torch.randn(8, 5, generator=torch.Generator().manual_seed(0))
        with torch.no_grad():
            model.residual["textual"].copy_(shift)
        moved = dense_scores(model(features, graph))
        expected = dense_scores(plain(features | {"textual": features["textual"] + shift}, graph))
        assert torch.allclose(moved, expected, atol=1e-5)
        assert not torch.allclose(moved, start, atol=1e-3)

    def test_training_repeats_resumes_and_evaluates_without_chance(self, tiny, tmp_path):
        def train(epochs, **options):
            model = self.make(tiny)
            history = mr.fit(model, tiny, seed=3, max_epochs=epochs, batch_size=8, progress=False, **options)
            return model, [record["loss"] for record in history.records]

        (once, losses), (again, repeated) = train(4), train(4)
        train(2, checkpoint=tmp_path / "c", checkpoint_every=1)
        resumed, continued = train(4, checkpoint=tmp_path / "c", checkpoint_every=1)
        assert losses == repeated == continued
        graph, features = once.graph(tiny), once.features(tiny)
        scores = [dense_scores(m.eval()(features, graph)) for m in (once, again, resumed, once)]
        assert all(torch.equal(scores[0], other) for other in scores[1:])
        assert graph.seed is None
