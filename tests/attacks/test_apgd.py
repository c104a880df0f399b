import pytest
import torch
from tqdm.auto import tqdm

from mmgraph_robust.attacks import APGD, PGD, SPSA, Problem, Promote, SingleStep, ThreatModel, Universal, pick_items
from mmgraph_robust.attacks.apgd import _checkpoints
from mmgraph_robust.attacks.victim import frozen
from mmgraph_robust.errors import ConfigError


@pytest.fixture(scope="module")
def threat():
    return ThreatModel(["visual"], 0.05)


def test_apgd_does_no_less_than_pgd_with_a_poor_step(shop, trained, threat):
    poor = PGD(steps=20, step_size=0.01)(trained, shop, threat)
    found = APGD(steps=20)(trained, shop, threat)
    assert found.objective > poor.objective
    assert found.objective >= PGD(steps=20)(trained, shop, threat).objective - 0.02 * abs(found.clean_objective)
    assert (
        APGD(steps=10, restarts=2)(trained, shop, threat).objective >= APGD(steps=10)(trained, shop, threat).objective
    )
    with pytest.raises(ConfigError, match="steps >= 1"):
        APGD(steps=0)


def test_checkpoints_of_apgd_are_those_of_the_paper():
    assert sorted(_checkpoints(100)) == [22, 41, 57, 70, 80, 87, 93, 99]


def by_hand(problem, steps, marks):
    """The algorithm of the paper, written down once more."""
    value, gradient = problem.value_and_gradient(problem.zero())
    points, values, gradients = [problem.zero()], [value], [gradient]
    size, best, rises, since, size_then, best_then = 2.0, 0, 0, 0, 2.0, value
    x, before, slope, last = problem.zero(), problem.zero(), gradient, value
    halved = 0
    for k in range(1, steps + 1):
        step = problem.steepest(slope)
        z = problem.project({m: x[m] + size * step[m] for m in x})
        if k > 1:
            z = problem.project({m: x[m] + 0.75 * (z[m] - x[m]) + 0.25 * (x[m] - before[m]) for m in x})
        value, gradient = problem.value_and_gradient(z)
        points.append(z)
        values.append(value)
        gradients.append(gradient)
        rises, since = rises + (value > last), since + 1
        best = k if value > values[best] else best
        before, x, slope, last = x, z, gradient, value
        if k in marks:
            few = rises < 0.75 * since
            stuck = size == size_then and values[best] == best_then
            size_then = size
            if few or stuck:
                size, halved = size / 2, halved + 1
                x = before = points[best]
                slope, last = gradients[best], values[best]
            best_then, rises, since = values[best], 0, 0
    return points[best], values[best], halved


def test_apgd_is_the_papers_algorithm_step_by_step(shop, trained):
    for budget in (0.05, 1.0):
        threat = ThreatModel(["visual", "textual"], budget)
        with frozen(trained):
            problem = Problem.from_data(trained, shop, threat, "margin")
            found = APGD(40, objective="margin").run(problem, torch.Generator(), False)
            expected, value, halved = by_hand(problem, 40, {9, 16, 23, 28, 32, 35, 37, 40})
            assert halved > 0
            assert problem.value(found) == pytest.approx(value, rel=1e-6)
            assert all(torch.allclose(found[m], x, atol=1e-6) for m, x in expected.items())


def test_promotions_are_not_misled_by_lists_of_before(shop, trained):
    own = pick_items(shop, 2, "cold")
    threat = ThreatModel(["visual"], 0.3, goal=Promote(own, k=3))
    single = SingleStep("ndcg")(trained, shop, threat)
    for attack in (APGD(20), APGD(40, objective="boundary"), PGD(20)):
        found = attack(trained, shop, threat)
        assert found.objective > found.clean_objective
        assert found.after["exposure@3"] > single.after["exposure@3"]


@pytest.mark.parametrize(
    "attack", [APGD(5, objective="boundary"), PGD(5, objective="boundary"), Universal(5), SPSA(20)], ids=repr
)
def test_whoever_finds_nothing_better_does_nothing(shop, trained, attack):
    own = pick_items(shop, 2, "cold")
    for k, budget in ((1, 2.0), (1, 0.3), (3, 2.0), (5, 0.02)):
        found = attack(trained, shop, ThreatModel(["visual"], budget, goal=Promote(own, k=k)))
        assert found.objective >= found.clean_objective - 1e-6


def test_a_start_does_not_depend_on_those_before_it(shop, trained):
    threat = ThreatModel(["visual"], 0.1)
    with frozen(trained):
        problem = Problem.from_data(trained, shop, threat, "boundary")
        start = problem.project(problem.random(torch.Generator().manual_seed(1)))
        attack, bar = PGD(12, objective="boundary"), tqdm(disable=True)
        problem.objective.forget()
        alone = attack._ascend(problem, start, 0.2, bar)
        attack._ascend(problem, problem.zero(), 0.2, bar)
        problem.objective.forget()
        again = attack._ascend(problem, start, 0.2, bar)
    assert torch.equal(alone["visual"], again["visual"])
