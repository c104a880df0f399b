import copy
import importlib
from functools import partial

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.defenses import AdversarialTraining, ModalityBalancing, TrustedItemGraph
from mmgraph_robust.errors import CheckpointError, ConfigError, DataError, NonFiniteError
from mmgraph_robust.models import (
    BM3,
    BPRMF,
    DRAGON,
    FREEDOM,
    GRCN,
    LATTICE,
    MGCN,
    MMGCN,
    MMSSL,
    VBPR,
    DualGNN,
    LGMRec,
    LightGCN,
    SLMRec,
)
from mmgraph_robust.training import data_hash

FAST = {"batch_size": 256, "learning_rate": 0.01, "progress": False}


def popularity(data):
    degree = mr.Graph.from_data(data).item_degree.float()
    scores = mr.Embeddings({"id": torch.ones(data["user"].num_nodes, 1)}, {"id": degree[:, None]})
    return mr.evaluation.Evaluator(data)(scores)["recall@20"]


@pytest.mark.parametrize(
    "kind",
    [BPRMF, LightGCN, VBPR, MMGCN, GRCN, LATTICE, FREEDOM, BM3, MGCN, SLMRec, DualGNN, DRAGON, LGMRec, MMSSL],
)
def test_loss_falls_and_the_planted_signal_is_found(shop, kind):
    model = kind.from_data(shop, embedding_dim=16)
    history = mr.fit(model, shop, max_epochs=40, **FAST)
    losses = [record["loss"] for record in history.records]
    assert losses[-1] < 0.8 * losses[0]
    assert mr.evaluate(model, shop)["recall@20"] > 1.15 * popularity(shop)


@pytest.mark.parametrize("defense", [None, ModalityBalancing("visual"), AdversarialTraining()], ids=repr)
def test_same_seed_same_bits_and_resume_after_a_kill(shop, tmp_path, defense):
    def train(epochs, checkpoint=None, seed=0, model=None):
        model = model or GRCN.from_data(shop, embedding_dim=4)
        return model, mr.fit(
            model, shop, defense, max_epochs=epochs, seed=seed, checkpoint=checkpoint, checkpoint_every=2, **FAST
        )

    def same(a, b):
        return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))

    whole, history = train(6)
    assert same(whole, train(6)[0])
    assert not same(whole, train(6, seed=1)[0])
    path = tmp_path / "state.pt"

    class KilledError(Exception):
        pass

    class Fragile(GRCN):
        calls = 0

        def loss(self, *args):
            type(self).calls += 1
            if type(self).calls > (10 if defense is None else 16):
                raise KilledError
            return super().loss(*args)

    Fragile.__name__ = "GRCN"
    with pytest.raises(KilledError):
        train(6, path, model=Fragile.from_data(shop, embedding_dim=4))
    assert path.exists()
    resumed, again = train(6, path)
    assert same(whole, resumed)
    assert [r["loss"] for r in again.records] == [r["loss"] for r in history.records]
    # Finished: nothing is trained again.
    done, _ = train(6, path)
    assert same(whole, done)


@pytest.mark.parametrize("stored", [False, True])
@pytest.mark.parametrize(
    ("kind", "arguments"),
    [(LATTICE, {"refresh_every": 2}), (FREEDOM, {}), (MGCN, {}), (BM3, {}), (DRAGON, {}), (LGMRec, {}), (MMSSL, {})],
    ids=str,
)
def test_graphs_and_seeds_of_steps_resume_to_the_same_bits(shop, tmp_path, kind, arguments, stored):
    data = mr.data.add_item_graphs(shop, 5) if stored else shop
    near = {} if kind in (BM3, LGMRec, MMSSL) else {"knn_k": 5}

    def train(epochs, checkpoint=None, seed=0):
        model = kind.from_data(data, embedding_dim=4, **near, **arguments)
        return model, mr.fit(model, data, max_epochs=epochs, seed=seed, checkpoint=checkpoint, patience=9, **FAST)

    whole, history = train(4)
    path = tmp_path / "state.pt"
    train(2, path)
    resumed, again = train(4, path)
    assert [r["loss"] for r in again.records] == [r["loss"] for r in history.records]
    assert all(torch.equal(x, y) for x, y in zip(whole.parameters(), resumed.parameters(), strict=True))
    other, _ = train(4, seed=1)
    assert not all(torch.equal(x, y) for x, y in zip(whole.parameters(), other.parameters(), strict=True))
    # The stored graph is part of what a checkpoint belongs to.
    model = kind.from_data(data, embedding_dim=4, **near, **arguments)
    changed = mr.data.add_item_graphs(mr.data.with_features(shop, {"visual": shop["item"].x_visual.flip(0)}), 5)
    changed = mr.data.with_features(changed, {"visual": shop["item"].x_visual})
    with pytest.raises(CheckpointError, match="or data"):
        mr.fit(model, changed, checkpoint=path, **FAST)


def test_a_checkpoint_that_cannot_be_written_is_told_before_training(shop, unwritable, monkeypatch):
    def never(*_, **__):
        raise AssertionError("too late")

    model = VBPR.from_data(shop, embedding_dim=4)
    monkeypatch.setattr(VBPR, "loss", never)
    with pytest.raises(ConfigError, match="c.pt' cannot be made: .* may not be written to"):
        mr.fit(model, shop, max_epochs=1, checkpoint=unwritable / "c.pt", **FAST)


def test_a_finished_checkpoint_is_only_read(shop, tmp_path, monkeypatch):
    """So it may lie where nothing can be written."""
    path, tried = tmp_path / "state.pt", []
    train = partial(mr.fit, data=shop, checkpoint=path, **FAST)
    done = train(VBPR.from_data(shop, embedding_dim=4), max_epochs=1)
    room = importlib.import_module("mmgraph_robust.training.fit")
    monkeypatch.setattr(room, "check_out", lambda out, kind: tried.append((out, kind)))
    assert train(VBPR.from_data(shop, embedding_dim=4), max_epochs=1).records == done.records
    assert tried == []
    train(VBPR.from_data(shop, embedding_dim=4), max_epochs=2)
    assert tried == [(path, "file")]


def test_a_checkpoint_of_other_settings_is_refused(shop, tmp_path):
    path = tmp_path / "state.pt"
    model = LightGCN.from_data(shop, embedding_dim=4)
    mr.fit(model, shop, max_epochs=1, checkpoint=path, **FAST)
    with pytest.raises(CheckpointError, match="other settings"):
        mr.fit(model, shop, max_epochs=1, checkpoint=path, seed=1, **FAST)
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(CheckpointError, match="damaged"):
        mr.fit(model, shop, max_epochs=1, checkpoint=path, **FAST)


def test_best_weights_are_restored_and_patience_stops(shop):
    model = VBPR.from_data(shop, embedding_dim=8)
    history = mr.fit(model, shop, max_epochs=200, patience=3, **FAST)
    assert history.stopped_early
    assert history.epochs == history.best_epoch + 4
    assert mr.evaluate(model, shop, split="val", k=[20])["recall@20"] == pytest.approx(history.best)
    assert history.best == max(r["recall@20"] for r in history.records)


def test_no_epoch_before_the_least_is_chosen_or_counts_to_patience(shop, tmp_path):
    settings = {"max_epochs": 30, "progress": False, "learning_rate": 0.05}
    free = mr.fit(VBPR.from_data(shop, embedding_dim=8), shop, patience=30, **settings)
    least = free.best_epoch + 2  # counted from 1: the epoch after the best
    settings["patience"] = 3
    model = VBPR.from_data(shop, embedding_dim=8)
    history = mr.fit(model, shop, min_epochs=least, **settings)
    chosen = history.records[least - 1 :]
    assert history.best_epoch >= least - 1
    assert history.best == max(r["recall@20"] for r in chosen) < free.best
    assert history.epochs == min(history.best_epoch + 4, 30) > least
    assert mr.evaluate(model, shop, split="val", k=[20])["recall@20"] == pytest.approx(history.best)
    path, killed = tmp_path / "state.pt", VBPR.from_data(shop, embedding_dim=8)
    mr.fit(killed, shop, min_epochs=least, checkpoint=path, **settings | {"max_epochs": least})
    resumed = mr.fit(killed, shop, min_epochs=least, checkpoint=path, **settings)
    assert resumed.best == history.best
    assert all(torch.equal(a, b) for a, b in zip(killed.parameters(), model.parameters(), strict=True))


@pytest.mark.parametrize("kind", [VBPR, GRCN, LATTICE])
def test_attacks_between_epochs_change_no_bit_of_training(shop, kind):
    def train(attacked):
        model = kind.from_data(shop, embedding_dim=4)

        def attack(history):
            assert mr.attacks.PGD(steps=2)(model, shop, mr.attacks.ThreatModel(["visual"])).delta["visual"].any()

        history = mr.fit(model, shop, max_epochs=3, on_epoch=attack if attacked else None, **FAST)
        return model.state_dict(), [{k: v for k, v in r.items() if k != "seconds"} for r in history.records]

    (plain, records), (watched, again) = train(False), train(True)
    assert all(torch.equal(x, watched[name]) for name, x in plain.items())
    assert again == records


def test_how_often_is_validated_changes_no_loss(shop):
    histories = [
        mr.fit(VBPR.from_data(shop, embedding_dim=4), shop, max_epochs=3, eval_every=e, **FAST) for e in (1, 3)
    ]
    assert [r["loss"] for r in histories[0].records] == [r["loss"] for r in histories[1].records]


def test_non_finite_numbers_stop_with_their_name(shop):
    class Exploding(VBPR):
        def loss(self, embeddings, batch, features):
            return super().loss(embeddings, batch, features) * float("nan")

    with pytest.raises(NonFiniteError, match="the loss became nan in epoch 0, batch 0"):
        mr.fit(Exploding.from_data(shop), shop, max_epochs=1, **FAST)

    class Hidden(VBPR):
        def loss(self, embeddings, batch, features):
            # The square root is 0, its slope infinite.
            return super().loss(embeddings, batch, features) + (self.item_id * 0).sum().sqrt()

    with pytest.raises(NonFiniteError, match="gradient of 'item_id' is not finite in epoch 0, batch 0"):
        mr.fit(Hidden.from_data(shop), shop, max_epochs=1, **FAST)


def test_bad_arguments_and_data(shop):
    model = LightGCN.from_data(shop, embedding_dim=4)
    for bad in ({"max_epochs": 0}, {"batch_size": 0}, {"learning_rate": float("nan")}, {"patience": 0},
                {"eval_every": 0}, {"checkpoint_every": 0}):  # fmt: skip
        with pytest.raises(ConfigError, match=next(iter(bad))):
            mr.fit(model, shop, **bad)
    with pytest.raises(ConfigError, match="did you mean 'recall'"):
        mr.fit(model, shop, monitor="recal@20")
    with pytest.raises(ConfigError, match="recall@20"):
        mr.fit(model, shop, monitor="recall")
    without = copy.copy(shop)
    store = without["user", "interacts", "item"]
    store.train_mask, store.val_mask = store.train_mask | store.val_mask, torch.zeros_like(store.val_mask)
    with pytest.raises(DataError, match="val split is empty"):
        mr.fit(model, without)
    broken = mr.data.with_features(shop, {"visual": shop["item"].x_visual.clone()})
    broken["item"].x_visual[3] = float("nan")
    with pytest.raises(DataError, match="NaN"):
        mr.fit(model, broken)


def test_history_reads_well(shop):
    history = mr.fit(LightGCN.from_data(shop, embedding_dim=4), shop, max_epochs=2, **FAST)
    assert isinstance(history, mr.training.History)
    assert repr(history).startswith("History(epochs=2, best_epoch=")
    assert history.seconds > 0


def test_settings_are_checked_alone():
    good = {"max_epochs": 1, "batch_size": 1, "learning_rate": 0.1, "weight_decay": 0.0, "patience": 1, "eval_every": 1}
    assert mr.training.check_settings(**good, monitor="ndcg@5") == 5
    for change in (
        {"patience": 0},
        {"min_epochs": 0},
        {"min_epochs": 2},
        {"learning_rate": float("nan")},
        {"weight_decay": -1.0},
    ):
        with pytest.raises(mr.errors.ConfigError, match=next(iter(change))):
            mr.training.check_settings(**good | change, monitor="ndcg@5")


def test_the_learning_rate_decays_per_epoch_and_over_a_resumption(shop, tmp_path):
    def train(epochs, checkpoint=None, **settings):
        model = LightGCN.from_data(shop, embedding_dim=4)
        mr.fit(model, shop, max_epochs=epochs, checkpoint=checkpoint, **FAST, **settings)
        return model.user_id.detach()

    start = LightGCN.from_data(shop, embedding_dim=4).user_id.detach()
    constant, decaying = train(4), train(4, learning_rate_decay=0.5)
    assert torch.equal(train(1), train(1, learning_rate_decay=0.5))
    assert (decaying - start).norm() < (constant - start).norm()
    path = tmp_path / "state.pt"
    train(2, path, learning_rate_decay=0.5)
    assert torch.equal(train(4, path, learning_rate_decay=0.5), decaying)
    with pytest.raises(ConfigError, match="learning_rate_decay"):
        train(1, learning_rate_decay=0.0)


def test_a_callback_sees_every_epoch_and_may_end_it(tiny):
    seen = []

    def watch(history):
        seen.append((history.epochs, history.best))
        if history.epochs == 3:
            raise KeyboardInterrupt

    model = mr.models.VBPR.from_data(tiny, embedding_dim=4)
    with pytest.raises(KeyboardInterrupt):
        mr.fit(model, tiny, max_epochs=9, progress=False, on_epoch=watch)
    assert [epochs for epochs, _ in seen] == [1, 2, 3]
    assert seen[0][1] > float("-inf")


def test_a_compiled_graph_changes_nothing(tiny):
    results = []
    for given in (False, True):
        model = mr.models.GRCN.from_data(tiny, embedding_dim=4)
        graph = model.graph(tiny) if given else None
        mr.fit(model, tiny, max_epochs=2, progress=False, graph=graph)
        results.append(model.state_dict())
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])


@pytest.mark.parametrize("defense", ["FeatureNoise", mr.defenses.FeatureNoise])
def test_a_defense_that_is_none_is_refused(shop, defense):
    with pytest.raises(ConfigError, match="'defense' expects an object"):
        mr.fit(mr.models.VBPR.from_data(shop, embedding_dim=4), shop, defense, max_epochs=1, progress=False)


def test_a_checkpoint_of_another_model_in_the_wrapper_is_refused(tiny, tmp_path):
    def train(**arguments):
        model = TrustedItemGraph(FREEDOM.from_data(tiny, embedding_dim=4, knn_k=3, **arguments), tiny)
        mr.fit(model, tiny, max_epochs=1, checkpoint=tmp_path / "c.pt", **FAST)

    train(dropout=0.1)
    train(dropout=0.1)
    with pytest.raises(CheckpointError, match="other settings"):
        train(dropout=0.5)


def test_users_and_items_that_nothing_shows_are_other_data(tiny):
    def with_more(kind):
        more = copy.copy(tiny)
        more[kind].num_nodes = int(tiny[kind].num_nodes) + 3
        return more

    plain = mr.data.build(*_edges_and_splits(tiny), {}, num_users=10, num_items=8)
    hashes = {data_hash(tiny), data_hash(with_more("user")), data_hash(plain)}
    hashes.add(data_hash(mr.data.build(*_edges_and_splits(tiny), {}, num_users=10, num_items=9)))
    assert len(hashes) == 4


def _edges_and_splits(data):
    parts = [mr.data.interactions(data, split) for split in ("train", "val", "test")]
    split = torch.cat([torch.full((part.size(1),), float(k)) for k, part in enumerate(parts)])
    return torch.cat(parts, dim=1), split


def test_a_checkpoint_that_went_further_is_refused(shop, tmp_path):
    def train(model, epochs):
        return mr.fit(model, shop, max_epochs=epochs, checkpoint=tmp_path / "c.pt", **FAST)

    train(VBPR.from_data(shop, embedding_dim=4), 3)
    fresh = VBPR.from_data(shop, embedding_dim=4)
    before = copy.deepcopy(fresh.state_dict())
    with pytest.raises(CheckpointError, match="holds 3 epochs, more than max_epochs=2"):
        train(fresh, 2)
    assert all(torch.equal(x, before[name]) for name, x in fresh.state_dict().items())
    assert train(fresh, 4).epochs == 4


class KilledError(Exception):
    pass


def test_a_training_that_ends_where_it_was_killed_is_validated_there(shop, tmp_path):
    def train(model, epochs, **more):
        return mr.fit(model, shop, max_epochs=epochs, eval_every=5, **FAST, **more)

    def kill(history):
        if history.epochs == 2:
            raise KilledError

    whole = VBPR.from_data(shop, embedding_dim=4)
    expected = train(whole, 2)
    model = VBPR.from_data(shop, embedding_dim=4)
    with pytest.raises(KilledError):
        train(model, 10, checkpoint=tmp_path / "c.pt", checkpoint_every=1, on_epoch=kill)
    model = VBPR.from_data(shop, embedding_dim=4)
    found = train(model, 2, checkpoint=tmp_path / "c.pt")
    assert (found.best_epoch, found.best) == (expected.best_epoch, expected.best) == (1, found.records[-1]["recall@20"])
    assert all(torch.equal(x, y) for x, y in zip(model.parameters(), whole.parameters(), strict=True))


def test_a_checkpoint_says_so_when_it_replaces_other_weights(shop, tmp_path, recwarn):
    def train(model, epochs):
        return mr.fit(model, shop, max_epochs=epochs, checkpoint=tmp_path / "c.pt", **FAST)

    model = VBPR.from_data(shop, embedding_dim=4)
    train(model, 2)
    train(model, 3)  # with what came out
    train(VBPR.from_data(shop, embedding_dim=4), 4)  # as it began
    assert not [w for w in recwarn if "other weights" in str(w.message)]
    other = VBPR.from_data(shop, embedding_dim=4)
    with torch.no_grad():
        other.item_id.mul_(5)
    with pytest.warns(UserWarning, match="began with other weights than the model has"):
        train(other, 4)


def test_the_mode_of_a_model_is_kept(shop):
    for training in (False, True):
        model = VBPR.from_data(shop, embedding_dim=4).train(training)
        mr.fit(model, shop, max_epochs=1, **FAST)
        assert model.training is training


def test_what_goes_around_a_trained_model_is_not_trained(shop):
    model = mr.defenses.Smoothed(VBPR.from_data(shop, embedding_dim=4), shop)
    with pytest.raises(ConfigError, match="'Smoothed' goes around a model that is trained already"):
        mr.fit(model, shop, max_epochs=1, **FAST)
