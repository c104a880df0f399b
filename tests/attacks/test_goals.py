import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import PGD, Goal, Hide, Promote, ThreatModel, Untargeted, pick_items
from mmgraph_robust.errors import ConfigError, DataError
from mmgraph_robust.metrics import exposure, rank_items


def shown(model, data, items, k=20):
    graph = model.graph(data)
    user, item = mr.evaluation.embed(model, data, graph).concatenated()
    lists = rank_items(user, item, torch.arange(graph.num_users), graph.interactions, k)
    return exposure(lists, torch.tensor(items))


def test_promotion_and_hiding_move_the_exposure_of_the_targets_only(shop, trained):
    cold = pick_items(shop, 3, "cold")
    threat = ThreatModel(["visual"], 0.3, items=cold, goal=Promote(cold))
    result = PGD(steps=15)(trained, shop, threat)
    assert result.before == {"exposure@20": float(shown(trained, shop, cold).mean())}
    assert result.after == {"exposure@20": float(shown(trained, result.data, cold).mean())}
    assert result.after["exposure@20"] > result.before["exposure@20"] + 0.1
    known = [i for i in range(80) if i not in cold]
    assert torch.equal(result.data["item"].x_visual[known], shop["item"].x_visual[known])
    popular = pick_items(shop, 3, "popular")
    hidden = PGD(steps=15)(trained, shop, ThreatModel(["visual"], 0.3, items=popular, goal=Hide(popular)))
    assert hidden.after["exposure@20"] < 0.8 * hidden.before["exposure@20"]


@pytest.mark.parametrize("objective", ["recall", "boundary", "margin", "bpr", "ndcg", "hook"])
def test_every_objective_promotes(shop, trained, objective):
    targets = pick_items(shop, 4, "unpopular")
    threat = ThreatModel(["visual", "textual"], 0.5, items=targets, goal=Promote(targets))
    result = PGD(steps=10, objective=objective)(trained, shop, threat)
    assert result.objective > result.clean_objective
    # The vector of a hook item is out of reach where ids have a part in it; to come nearer need not suffice.
    assert objective == "hook" or result.after["exposure@20"] > result.before["exposure@20"]


def test_a_segment_is_judged_alone(shop, trained):
    segment = list(range(0, 120, 3))
    result = PGD(steps=10)(trained, shop, ThreatModel(["visual"], 0.1, goal=Untargeted(users=segment)))
    evaluator = mr.evaluation.Evaluator(shop, "test", [20], ["recall"])
    values = evaluator.per_user(mr.evaluation.embed(trained, result.data))["recall@20"]
    inside = torch.isin(evaluator.users, torch.tensor(segment))
    assert result.after["recall@20"] == pytest.approx(float(values[inside].mean()))
    clean = evaluator.per_user(mr.evaluation.embed(trained, shop))["recall@20"]
    assert result.before["recall@20"] == pytest.approx(float(clean[inside].mean()))
    lost = clean - values
    assert float(lost[inside].mean()) > float(lost[~inside].mean())
    targets = pick_items(shop, 2)
    promoted = PGD(steps=10)(trained, shop, ThreatModel(["visual"], 0.3, goal=Promote(targets, users=segment)))
    assert promoted.after["exposure@20"] == pytest.approx(float(shown(trained, promoted.data, targets)[segment].mean()))


def test_pairs_leave_out_what_a_user_has_had(shop):
    graph = mr.Graph.from_data(shop)
    items = pick_items(shop, 5, "popular")
    pairs = Hide(items).pairs(torch.zeros(2, 0), graph.interactions, torch.Generator())
    got = set(map(tuple, pairs.t().tolist()))
    had = set(map(tuple, mr.data.interactions(shop, "train").t().tolist()))
    assert got == {(u, i) for u in range(120) for i in items} - had


def test_pick_items(shop):
    degree = torch.bincount(mr.data.interactions(shop, "train")[1], minlength=80)
    cold = pick_items(shop, 10, "cold")
    assert int(degree[cold].max()) <= int(degree[[i for i in range(80) if i not in cold]].min())
    assert pick_items(shop, 10, "all", seed=1) == pick_items(shop, 10, "all", seed=1) != pick_items(shop, 10, "all")
    assert float(degree[pick_items(shop, 20, "popular")].double().mean()) > float(degree.double().mean())
    with pytest.raises(ConfigError, match="1 to 80"):
        pick_items(shop, 81)
    with pytest.raises(ConfigError, match="'among'"):
        pick_items(shop, 3, "frozen")


def test_bad_goals(shop, trained):
    with pytest.raises(ConfigError, match="different items, at least one"):
        Promote([])
    with pytest.raises(ConfigError, match="different items"):
        Hide([1, 1])
    with pytest.raises(ConfigError, match="k >= 1"):
        Untargeted(k=0)
    with pytest.raises(ConfigError, match="'items' expects ids from 0 to 79"):
        PGD(steps=1)(trained, shop, ThreatModel(["visual"], goal=Promote([80])))
    with pytest.raises(ConfigError, match="'users' expects ids"):
        PGD(steps=1)(trained, shop, ThreatModel(["visual"], goal=Untargeted(users=[120])))
    nobody = [u for u in range(120) if u not in mr.data.interactions(shop, "test")[0].tolist()]
    if nobody:
        with pytest.raises(DataError, match="knows no positives"):
            PGD(steps=1)(trained, shop, ThreatModel(["visual"], goal=Untargeted(users=nobody)))
    for call in (lambda g: g.pairs(None, None, None), lambda g: g.per_user(None, None, None)):
        with pytest.raises(NotImplementedError):
            call(Goal())
    assert Promote([3, 4], k=5).describe() == {"name": "Promote", "users": None, "k": 5, "items": [3, 4]}
