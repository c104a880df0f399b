from dataclasses import replace

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import APGD, MIM, PGD, SPSA, Noise, SingleStep, Square, ThreatModel, Universal
from mmgraph_robust.attacks.checks import (
    EXPLANATIONS,
    Outcome,
    Snapshot,
    budget_overrun,
    compare,
    misses_planted_weakness,
)
from mmgraph_robust.data import with_features

BASE = Outcome("A", "iterated", "s", 0.1, 0.5, 0.2, "A", 10)


@pytest.mark.parametrize(
    ("other", "flag"),
    [
        ({"name": "B", "kind": "single", "family": "B"}, "weaker_than_single_step"),
        ({"name": "B", "kind": "control", "family": "B"}, "weaker_than_noise"),
        ({"name": "B", "kind": "black box", "family": "B"}, "black_box_stronger"),
        ({"name": "B", "kind": "transfer", "family": "B"}, "black_box_stronger"),
        ({"name": "A3", "steps": 3}, "fewer_steps_stronger"),
        ({"budget": 0.05}, "not_growing"),
    ],
)
def test_contradictions_are_named(other, flag):
    weaker = replace(BASE, gain=0.1)
    assert compare([weaker, replace(BASE, **other)])[0].keys() == {flag}
    assert compare([BASE, replace(weaker, **other)]) == [{}, {}]
    # Two per cent of the clean value say nothing, and other settings are no comparison.
    assert compare([replace(BASE, gain=0.195), replace(BASE, **other)]) == [{}, {}]
    assert compare([weaker, replace(BASE, setting="t", **other)]) == [{}, {}]


def test_a_single_step_below_noise_is_named_and_noise_itself_never():
    single, noise = replace(BASE, name="S", kind="single", gain=0.0), replace(BASE, name="N", kind="control")
    assert [set(f) for f in compare([single, noise])] == [{"weaker_than_noise"}, set()]
    assert compare([replace(noise, gain=0.0), single, replace(noise, budget=0.05, gain=0.2)])[0] == {}


def test_overruns_of_every_kind(shop):
    threat = ThreatModel(["visual"], 0.1, items=range(40), box="clean")
    result = Noise()(mr.models.VBPR.from_data(shop, embedding_dim=4), shop, threat)
    assert budget_overrun(result, shop, threat) is None
    x = result.data["item"].x_visual

    def changed(**features):
        return replace(result, data=with_features(result.data, features))

    far, foreign, out = x.clone(), x.clone(), x.clone()
    far[0] += 1.0
    foreign[60, 0] += 1e-3
    out[0, 0] = x.max() + 1e-3
    for bad in (far, foreign, out):
        assert "changes of visual" in budget_overrun(changed(visual=bad), shop, threat)
    assert "textual" in budget_overrun(changed(textual=2 * shop["item"].x_textual), shop, threat)


def test_side_effects_of_every_kind(shop):
    model = mr.models.VBPR.from_data(shop, embedding_dim=4)
    data = with_features(shop, {m: x.clone() for m, x in mr.data.features(shop).items()})
    before = Snapshot(model, data)
    assert before.side_effects(model, data) is None
    model.eval()
    assert "mode" in before.side_effects(model, data)
    model.train()
    model.user.requires_grad_(False)
    assert "requires_grad" in before.side_effects(model, data)
    model.user.requires_grad_(True)
    data["item"].x_visual[0, 0] += 1
    assert before.side_effects(model, data) == "the attack changed the data"
    with torch.no_grad():
        model.user.add_(1)
    assert "weights" in before.side_effects(model, data)


@pytest.mark.parametrize("attack", [PGD(), MIM(), APGD(), SingleStep()], ids=repr)
@pytest.mark.parametrize("norm", ["l1", "l2", "linf"])
@pytest.mark.parametrize("scope", ["item", "matrix"])
def test_attacks_with_gradients_find_the_planted_weakness(attack, norm, scope):
    assert misses_planted_weakness(attack, ThreatModel(["any"], norm=norm, scope=scope)) is None


def test_black_boxes_find_it_too_and_a_filter_over_all_pictures_does_not():
    threat = ThreatModel(["any"], norm="linf")
    assert misses_planted_weakness(SPSA(), threat) is None
    assert misses_planted_weakness(Square(), threat) is None
    assert "says little" in misses_planted_weakness(Universal(), threat)
    assert misses_planted_weakness(Noise(), threat) is None

    class Lazy(PGD):
        def run(self, problem, generator, progress):
            return problem.zero()

    assert "recall of 1.00 of 1.00" in misses_planted_weakness(Lazy(), threat)
    assert "no_feature_path" in EXPLANATIONS


def test_success_grows_with_the_budget_and_is_near_total_at_a_huge_one(shop, trained):
    left = [PGD(steps=15)(trained, shop, ThreatModel(["visual"], b)).after["recall@20"] for b in (0.02, 0.1, 0.5, 10.0)]
    assert left == sorted(left, reverse=True)
    assert left[-1] < 0.1 * mr.evaluate(trained, shop)["recall@20"]


def test_small_measures_have_slack_of_their_gains():
    promoted = Outcome("PGD", "iterated", "s", 0.1, 0.0, 0.4000, "PGD", 20)
    step = Outcome("step", "single", "s", 0.1, 0.0, 0.4001, "step")
    assert compare([promoted, step]) == [{}, {}]
    assert "weaker_than_single_step" in compare([promoted, replace(step, gain=0.5)])[0]
