import pytest

import mmgraph_robust as mr
from mmgraph_robust.attacks import Hide, Promote, Suite
from mmgraph_robust.errors import ConfigError
from mmgraph_robust.experiment import RunConfig
from mmgraph_robust.experiment.cell import units
from mmgraph_robust.experiment.plans import read_goal

BASE = {"name": "t", "data": {"format": "synthetic"}, "models": [{"name": "VBPR"}]}


@pytest.fixture(scope="module")
def small():
    return mr.synthetic(num_users=30, num_items=20)


def plan(**values):
    return RunConfig(BASE | {"attacks": [{"name": "PGD", **values}]})


def test_every_combination(small):
    config = plan(
        budgets=[0.1, 0.2], norm="l1", graphs=["frozen", "rebuilt"], modalities=["all"], box="clean",
        goals=[{}, {"name": "Promote", "count": 3}, {"name": "Hide", "items": [1, 2], "own": False, "k": 5}],
    )  # fmt: skip
    threats = [threat for _, threat in config.build_attacks(small)]
    assert len(threats) == 2 * 2 * 3
    assert {(t.norm, t.box) for t in threats} == {("l1", "clean")}
    assert {t.graph for t in threats} == {"frozen", "rebuilt"}
    promote = next(t for t in threats if isinstance(t.goal, Promote))
    assert promote.items == promote.goal.items
    assert len(promote.items) == 3
    hide = next(t for t in threats if type(t.goal) is Hide)
    assert hide.items is None
    assert hide.goal.items == (1, 2)
    assert RunConfig(config.describe()).describe() == config.describe()


def test_modalities_by_name(small):
    config = plan(modalities=["all", "visual", ["textual", "visual"]], budgets=[0.1])
    assert [t.modalities for _, t in config.build_attacks(small)] == [("visual",), ("visual", "textual")]
    assert RunConfig(config.describe()).describe() == config.describe()
    # One threat has one key, however it is asked for.
    assert names(plan(modalities=["visual", "textual", "all"]), small) == names(plan(), small)
    assert set(names(plan(modalities=["visual"]), small)) < set(names(plan(), small))


def names(config, data):
    return [cell.file for unit in units(config, data) for cell in unit.cells]


def test_given_items_win_over_the_targets(small):
    goals = [{"name": "Promote", "items": [7]}, {"name": "Hide", "items": [3], "own": False}]
    assert {t.items for _, t in plan(items=[1, 2], goals=goals).build_attacks(small)} == {(1, 2)}
    assert {t.items for _, t in plan(goals=goals).build_attacks(small)} == {(7,), None}


@pytest.mark.parametrize("knowledge", ["white", "scores", "ranks"])
def test_the_number_of_queries_reaches_the_attack(small, knowledge):
    one = {"name": "Square", "queries": 1000, "knowledge": knowledge, "modalities": ["all"]}
    config = RunConfig(BASE | {"attacks": [one]})
    ((attack, threat),) = config.build_attacks(small)
    assert attack.queries == 1000
    assert threat.queries == (None if knowledge == "white" else 1000)
    assert RunConfig(config.describe()).describe() == config.describe()


def test_the_suite_is_the_default(small):
    attacks = RunConfig(BASE).build_attacks(small)
    assert [type(attack) for attack, _ in attacks] == [Suite] * 3
    assert RunConfig(BASE | {"attacks": []}).build_attacks(small) == []


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"norm": "l3"}, "attacks.PGD.norm"),
        ({"graphs": ["melted"]}, "attacks.PGD.graphs"),
        ({"goals": [{"name": "Promte"}]}, "attacks.PGD.goals"),
        ({"goals": [{"cout": 3}]}, "did you mean 'count'"),
        ({"goals": [{"items": [1, 2]}]}, "attacks.PGD: the goal 'Untargeted' has no targets .got items.: use 'Hide'"),
        ({"goals": [{"own": False, "among": "all"}]}, "no targets .got among, own"),
        ({"goals": [{"name": "Promote", "items": []}]}, r"attacks.PGD.goals.0.items: .*at least 1 item.*got \[\]"),
        ({"goals": [{"users": []}]}, "attacks.PGD.goals.0.users: .*at least 1 item"),
        *(
            ({key: []}, f"attacks.PGD.{key}: .*at least 1 item")
            for key in ("budgets", "modalities", "scopes", "graphs", "goals", "items")
        ),
        ({"knowledge": "scores"}, "less than it needs"),
        ({"modalities": "visual"}, "attacks.PGD.modalities: .*valid list .got 'visual'"),
        ({"modalities": [[]]}, "attacks.PGD: a set of modalities expects different names, at least one"),
        ({"modalities": [["visual", "visual"]]}, "attacks.PGD: a set of modalities expects different names"),
        ({"modalities": [5]}, "attacks.PGD.modalities.0.*got 5"),
        ({"queries": 5}, "'queries' bounds knowledge"),
        ({"box": {"any": [1.0, 0.0]}}, "low <= high"),
        ({"budget": 0.1}, "attacks.PGD: unknown key 'budget'; did you mean 'budgets'.*'steps'"),
    ],
)
def test_bad_plans_are_refused_before_training(values, message):
    with pytest.raises(ConfigError, match=message):
        plan(**values)


def test_what_does_not_fit_the_data_is_refused(small):
    with pytest.raises(ConfigError, match="did you mean 'visual'"):
        plan(box={"visul": [0.0, 1.0]}).build_attacks(small)
    for named in ("visul", ["textual", "visul"]):
        with pytest.raises(ConfigError, match="attacks.PGD: unknown modality 'visul'; did you mean 'visual'"):
            plan(modalities=["all", named]).build_data()
    with pytest.raises(ConfigError, match="1 to 20"):
        plan(goals=[{"name": "Promote", "count": 21}]).build_attacks(small)
    assert plan(box={"visual": [-99.0, 99.0]}, modalities=["each"]).build_attacks(small)[1][1].box is None


def test_goals_from_plain_values(small):
    goal, own = read_goal({"name": "Promote", "count": 2, "among": "all"}, small, 0)
    assert list(own) == list(goal.items)
    with pytest.raises(ConfigError, match="the goal 'Untargeted' has no targets"):
        read_goal({"count": 2}, small, 0)
    with pytest.raises(ConfigError, match="threat.goal: expects a table of keys .got 5"):
        read_goal(5, small, 0)
    with pytest.raises(ConfigError, match="threat.goal: unknown key"):
        read_goal({"nam": "Hide"}, small, 0)
