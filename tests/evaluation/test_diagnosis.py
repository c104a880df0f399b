import itertools
import json
import math

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import PGD, MinimalBudget, SingleStep, ThreatModel
from mmgraph_robust.data import with_features
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.evaluation import (
    Evaluator,
    diagnose,
    embed,
    find_sensitive,
    flip_rate,
    gradient_health,
    hit_groups,
    modality_shares,
    summarize_budgets,
)
from mmgraph_robust.models import FREEDOM, VBPR, Embeddings, LightGCN


@pytest.fixture(scope="module")
def attacked(shop, trained):
    data = PGD(steps=10)(trained, shop, ThreatModel(["visual"], 0.05)).data
    return embed(trained, shop).detach(), embed(trained, data).detach()


def test_the_whole_diagnosis_names_the_planted_modality(shop, trained):
    found = diagnose(trained, shop, attack=PGD(steps=10), minimal=MinimalBudget(4, 4, 2), split="val")
    json.dumps(found, allow_nan=False)
    assert [entry["modalities"] for entry in found["attacks"]] == [["visual"], ["textual"], ["visual", "textual"]]
    assert found["sensitive"] == find_sensitive(trained, shop, attack=PGD(steps=10))
    assert found["sensitive"]["by_metric"] == "visual"
    assert found["clean"]["recall"] == mr.evaluate(trained, shop, "val")["recall@20"]
    visual, textual, joint = (entry["recall"] for entry in found["attacks"])
    assert joint <= visual < textual
    median = [entry["minimal_budgets"]["quantiles"]["0.5"] for entry in found["attacks"]]
    assert median[2] <= 1.2 * median[0]
    assert median[0] < (median[1] or math.inf)
    assert 0 < found["attacks"][0]["flip_rate"] < 1
    assert set(found["carries"]) == set(found["gradients"]) == {"visual", "textual"}
    single = diagnose(trained, shop, attack=SingleStep(), split="val")
    assert single["attacks"][0]["recall"] > visual
    immune = diagnose(LightGCN.from_data(shop, embedding_dim=4), shop)
    assert (immune["attacks"], immune["sensitive"], immune["gradients"], immune["carries"]) == ([], None, {}, {})


@pytest.mark.parametrize("groups", [1, 4, 50])
def test_groups_partition_users_and_items(shop, attacked, groups):
    clean, after = attacked
    evaluator = Evaluator(shop, "test", [20], ["recall"])
    users, items = hit_groups(shop, clean, after, groups=groups)
    for entries, total in ((users, evaluator.users.numel()), (items, evaluator.pairs.size(1))):
        assert 1 <= len(entries) <= groups
        assert sum(entry["size"] for entry in entries) == total
        assert all(a["to"] < b["from"] for a, b in itertools.pairwise(entries))
    for name, embeddings in (("clean", clean), ("attacked", after)):
        mean = sum(entry[name] * entry["size"] for entry in users) / evaluator.users.numel()
        assert mean == pytest.approx(evaluator(embeddings)["recall@20"])
        share = sum(entry[name] * entry["size"] for entry in items) / evaluator.pairs.size(1)
        assert share == pytest.approx(float(evaluator.found(evaluator.lists(embeddings)).double().mean()))
    with pytest.raises(ConfigError, match="groups"):
        hit_groups(shop, clean, after, groups=0)


def test_only_the_users_that_are_hit_are_shown_to_be(shop, attacked):
    clean, _ = attacked
    degree = Evaluator(shop, "test").seen.degree()
    idle = degree <= degree.double().quantile(0.3)
    user = {c: torch.where(idle[:, None], -x, x) for c, x in clean.user.items()}
    users, _ = hit_groups(shop, clean, Embeddings(user, clean.item), groups=4)
    assert users[0]["attacked"] < users[0]["clean"]
    assert all(entry["attacked"] == entry["clean"] for entry in users[2:])


def test_flips(shop, attacked):
    clean, after = attacked
    assert flip_rate(shop, clean, clean) == 0.0
    turned = Embeddings({c: -x for c, x in clean.user.items()}, clean.item)
    assert flip_rate(shop, clean, turned) == 1.0
    assert 0 < flip_rate(shop, clean, after) < flip_rate(shop, clean, turned)
    assert flip_rate(shop, clean, after, seed=1) == flip_rate(shop, clean, after, seed=1)


def test_gradients_that_are_zero_or_small_are_seen(shop, trained):
    class Masked(VBPR):
        """The same score, its visual gradient hidden."""

        def forward(self, features, graph):
            x = features["visual"]
            small = x.detach() + 1e-8 * (x - x.detach())
            return super().forward(features | {"visual": small}, graph)

    clear = gradient_health(trained, shop)
    assert clear["visual"]["zero_share"] == clear["visual"]["zero_share_through_graph"] < 0.5
    hidden = Masked(**trained.config)
    hidden.load_state_dict(trained.state_dict())
    health = gradient_health(hidden, shop)
    assert health["visual"]["gain"] == pytest.approx(1e-8 * clear["visual"]["gain"], rel=1e-2)
    assert health["textual"] == clear["textual"]
    assert hidden.training
    graph = gradient_health(FREEDOM.from_data(shop, embedding_dim=4, knn_k=5), shop)
    assert graph["visual"]["zero_share"] == 1.0
    assert graph["visual"]["norm"] == 0.0
    assert graph["visual"]["zero_share_through_graph"] < 0.5


def test_what_a_modality_carries(shop, trained):
    shares = modality_shares(trained, shop)
    evaluator = Evaluator(shop, "test", [20], ["recall"])
    embeddings = embed(trained, shop)
    for name in ("visual", "textual"):
        rest = [c for c in embeddings.channels if c != name]
        assert shares[name]["without_channel"] == evaluator(embeddings.subset(rest))["recall@20"]
        assert shares[name]["only_channel"] == evaluator(embeddings.subset([name]))["recall@20"]
        # In a linear model the mean's part is the same for all items.
        assert shares[name]["mean_features"] == pytest.approx(shares[name]["without_channel"], abs=0.01)
        assert shares[name]["mean_features"] < shares[name]["clean"]
        assert shares[name]["permuted_features"] < shares[name]["clean"]
    assert modality_shares(trained, shop) == shares
    # Items that are all alike lose nothing when they are dealt out anew.
    alike = with_features(shop, {"visual": shop["item"].x_visual[:1].expand(80, -1).contiguous()})
    same = modality_shares(trained, alike)["visual"]
    assert same["permuted_features"] == same["mean_features"] == same["clean"]
    graph = modality_shares(FREEDOM.from_data(shop, embedding_dim=4, knn_k=5), shop)
    assert graph["visual"]["mean_features"] != graph["visual"]["clean"]


def test_minimal_budgets_are_summarised_with_those_that_never_break():
    found = summarize_budgets(torch.tensor([0.4, math.inf, 0.1, 0.2, 0.3]))
    assert found["count"] == 5
    assert found["unbroken"] == pytest.approx(0.2)
    assert found["quantiles"] == {
        "0.1": pytest.approx(0.1),
        "0.25": pytest.approx(0.2),
        "0.5": pytest.approx(0.3),
        "0.75": pytest.approx(0.4),
        "0.9": None,
    }
    for bad in (torch.tensor([]), torch.tensor([math.nan]), torch.tensor([-1.0])):
        with pytest.raises(DataError, match="'budgets'"):
            summarize_budgets(bad)


def test_the_attack_means_the_lists_that_are_judged(shop, trained):
    """An attack at the boundary of twenty is not the strongest on lists of three."""
    seen = []

    class Watched(PGD):
        def run(self, problem, generator, progress):
            seen.append(problem.threat.goal.k)
            return super().run(problem, generator, progress)

    diagnose(trained, shop, attack=Watched(2), k=3, split="val")
    find_sensitive(trained, shop, attack=Watched(2), metric="recall@5")
    assert seen == [3, 3, 3, 5, 5]
    assert gradient_health(trained, shop, k=3) != gradient_health(trained, shop)


def test_flips_are_counted_among_what_the_user_did_not_like():
    # The only items that others bought and the first user did not buy for training: one that she liked later, and one
    # that she never did.
    pairs = torch.tensor([[0, 1, 1, 0, 0, 1], [0, 1, 2, 3, 1, 3]])
    data = mr.data.build(pairs, torch.tensor([0, 0, 0, 2, 1, 1]), {"visual": torch.eye(4)}, num_items=4)
    user, item = torch.tensor([[1.0], [0.0]]), torch.tensor([[0.0], [3.0], [1.0], [2.0]])
    clean = Embeddings({"id": user}, {"id": item})
    for after, flips in (
        (torch.tensor([[0.0], [0.0], [1.0], [2.0]]), 0.0),
        (torch.tensor([[0.0], [0.0], [3.0], [2.0]]), 1.0),
    ):
        assert flip_rate(data, clean, Embeddings({"id": user}, {"id": after}), negatives=50) == flips
