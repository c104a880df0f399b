"""One step, and whole trainings, of a defense."""

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.data import Batch, TripleLoader
from mmgraph_robust.defenses import Step
from mmgraph_robust.utils import child_generator

# Validated at the end only, so that the last epoch's weights stay.
FAST = {"batch_size": 16, "learning_rate": 0.01, "eval_every": 99, "progress": False}


@pytest.fixture
def batch():
    return Batch(torch.arange(7), torch.arange(7), torch.tensor([3, 7, 5, 6, 0, 1, 2]))


@pytest.fixture
def step_of(batch):
    """The step of a model and a defense, as `fit` makes it."""

    def make(model, data, defense, index=0):
        graph, generator = mr.Graph.from_data(data), torch.Generator().manual_seed(0)
        defense.setup(model, data, graph)
        features = defense.features(model.features(data), generator)
        embeddings = model(features, graph)
        loss = model.loss(embeddings, batch, features)
        return Step(model, graph, features, batch, embeddings, loss, generator, index)

    return make


@pytest.fixture
def train():
    """The parameters after some epochs of `fit`, by name."""

    def run(kind, data, defense, epochs=2, **kwargs):
        model = kind.from_data(data, embedding_dim=4)
        mr.fit(model, data, defense, max_epochs=epochs, **FAST, **kwargs)
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    return run


@pytest.fixture
def resumed(train, tmp_path):
    """The same for a training that is killed after its first epoch and goes on."""

    class KilledError(Exception):
        pass

    def kill(history):
        raise KilledError

    def run(kind, data, make, epochs=2):
        path = tmp_path / "state.pt"
        with pytest.raises(KilledError):
            train(kind, data, make(), epochs, checkpoint=path, checkpoint_every=1, on_epoch=kill)
        return train(kind, data, make(), epochs, checkpoint=path, checkpoint_every=1)

    return run


@pytest.fixture
def by_hand():
    """The same training in a plain loop: `step(model, loss_of, optimizer, index)` does what a batch is for."""

    def run(kind, data, step, epochs=2):
        model = kind.from_data(data, embedding_dim=4)
        graph, optimizer = model.graph(data), torch.optim.Adam(model.parameters(), lr=FAST["learning_rate"])
        loader, features, index = TripleLoader(graph, FAST["batch_size"]), model.features(data), 0
        for epoch in range(epochs):
            for triples in loader.epoch(child_generator(0, "sampling", epoch)):

                def loss_of(x, triples=triples):
                    return model.loss(model(x, graph), triples, x)

                step(model, features, loss_of, optimizer, index)
                index += 1
        return {name: p.detach().clone() for name, p in model.named_parameters()}

    return run


def same(first, second):
    return first.keys() == second.keys() and all(torch.equal(x, second[name]) for name, x in first.items())


def near(first, second, atol=1e-5):
    return first.keys() == second.keys() and all(torch.allclose(x, second[n], atol=atol) for n, x in first.items())
