import math

import optuna
import pytest
import torch
from optuna.trial import TrialState

import mmgraph_robust as mr
from mmgraph_robust.errors import ConfigError, NonFiniteError
from mmgraph_robust.evaluation import robustness
from mmgraph_robust.tuning import Objective, Workbench
from mmgraph_robust.tuning import objective as room
from mmgraph_robust.tuning.objective import FAILURES, find_reference


def run(begin, count=1, reference=None, data=None, catch=(), **sections):
    config, study = begin(**sections)
    bench = Workbench(config.run.build_data() if data is None else data)
    if reference is None and config.needs_reference:
        reference = find_reference(config, bench)
    study.optimize(Objective(config, bench, reference), n_trials=count, catch=catch)
    return config, study


def by_hand(config, trial, seed):
    """What a trial must have measured, from the parts that it is made of."""
    data = config.run.build_data()
    wanted = config.run_config(config.suggest(optuna.trial.FixedTrial(trial.params)))
    component = wanted.models[0]
    model = getattr(mr.models, component.name).from_data(data, **component.arguments, seed=seed)
    history = mr.fit(model, data, seed=seed, progress=False, **wanted.training)
    attacks = wanted.build_attacks(data)
    measured = robustness(model, data, attacks, split="val", k=[20], seed=seed, progress=False)
    worst = min((a["metrics"]["recall@20"] for a in measured["attacks"]), default=None)
    return measured["clean"]["metrics"]["recall@20"], worst, history


@pytest.mark.parametrize("model", ["VBPR", "FREEDOM", "LATTICE"])
def test_both_values_are_those_of_the_parts(begin, model):
    config, study = run(
        begin, count=2, models=[{"name": model, "embedding_dim": 8}], study={"objective": "pareto"},
        attacks=[{"name": "PGD", "steps": 2, "budgets": [0.1]}, {"name": "Noise"}],
    )  # fmt: skip
    for trial in study.trials:
        clean, attacked, history = by_hand(config, trial, seed=0)
        assert trial.values == [clean, attacked]
        assert trial.user_attrs["clean"] == clean
        assert trial.user_attrs["attacked"] == attacked
        assert trial.user_attrs["best_epoch"] == history.best_epoch
        assert trial.user_attrs["epochs"] == history.epochs
        assert trial.user_attrs["seconds"] > 0


def test_the_clean_metric_alone_attacks_nothing(begin):
    config, study = run(begin)
    assert study.trials[0].value == by_hand(config, study.trials[0], 0)[0]
    assert "attacked" not in study.trials[0].user_attrs


def test_the_median_over_seeds(begin):
    config, study = run(begin, seeds=[0, 1, 2], study={"objective": "attacked"})
    each = [by_hand(config, study.trials[0], seed) for seed in (0, 1, 2)]
    assert study.trials[0].value == sorted(e[1] for e in each)[1]
    assert study.trials[0].user_attrs["clean"] == sorted(e[0] for e in each)[1]
    assert [s["attacked"] for s in study.trials[0].user_attrs["seeds"]] == [e[1] for e in each]
    assert study.trials[0].user_attrs["epochs"] == sum(e[2].epochs for e in each)


def test_the_test_split_plays_no_part(begin, toy):
    data = toy().run.build_data()
    _, study = run(begin, data=data, study={"objective": "pareto"})
    other = data.clone()
    edges = other["user", "interacts", "item"]
    taken = {tuple(pair) for pair in edges.edge_index.t().tolist()}
    for place in edges.test_mask.nonzero().flatten().tolist():
        user = int(edges.edge_index[0, place])
        item = next(i for i in range(40) if (user, i) not in taken)
        taken.add((user, item))
        edges.edge_index[1, place] = item
    assert not torch.equal(edges.edge_index, data["user", "interacts", "item"].edge_index)
    _, again = run(begin, data=other, study={"objective": "pareto"})
    assert again.trials[0].values == study.trials[0].values


def test_an_early_stopped_trial_returns_its_best_epoch(begin):
    config, study = run(begin, training={"max_epochs": 40, "patience": 2, "learning_rate": 0.05})
    (entry,) = study.trials[0].user_attrs["seeds"]
    assert entry["stopped_early"]
    assert entry["epochs"] == entry["best_epoch"] + 3
    assert study.trials[0].value == by_hand(config, study.trials[0], 0)[2].best


def test_the_curve_is_the_best_so_far(begin):
    pruner = {"name": "median", "startup_trials": 9}
    config, study = run(begin, training={"max_epochs": 5, "eval_every": 2}, study={"pruner": pruner})
    records = by_hand(config, study.trials[0], 0)[2].records
    seen = {r["epoch"] + 1: r["recall@20"] for r in records if "recall@20" in r}
    assert list(seen) == [2, 4, 5]
    best = {step: max(v for s, v in seen.items() if s <= step) for step in seen}
    assert study.trials[0].intermediate_values == best


def test_a_pruned_trial_ends_and_says_what_it_cost(begin):
    pruner = {"name": "median", "startup_trials": 0, "warmup_epochs": 1}
    config, study = begin(training={"max_epochs": 6}, study={"pruner": pruner})
    ahead = optuna.trial.create_trial(value=2.0, intermediate_values=dict.fromkeys(range(7), 2.0))
    study.add_trial(ahead)
    study.optimize(Objective(config, Workbench(config.run.build_data())), n_trials=1)
    assert study.trials[0].state == TrialState.PRUNED
    assert study.trials[0].user_attrs["epochs"] == 2


def test_wilcoxon_compares_seed_by_seed(begin):
    _, study = run(begin, seeds=list(range(6)), training={"max_epochs": 1}, study={"pruner": {"name": "wilcoxon"}})
    assert list(study.trials[0].intermediate_values) == list(range(6))
    config, better = begin(seeds=list(range(6)), training={"max_epochs": 1}, study={"pruner": {"name": "wilcoxon"}})
    better.add_trial(optuna.trial.create_trial(value=2.0, intermediate_values={i: 2.0 + i / 100 for i in range(6)}))
    better.optimize(Objective(config, Workbench(config.run.build_data())), n_trials=1)
    assert better.trials[0].state == TrialState.PRUNED
    # The earliest that the test can be sure to 0.1: after four seeds.
    assert len(better.trials[0].intermediate_values) == 4


def test_the_constraint_is_the_loss_against_the_reference(begin):
    _, study = run(begin, study={"objective": "constrained", "reference": 0.5, "max_clean_loss": 0.1})
    (trial,) = study.trials
    assert trial.constraints == {"clean loss": pytest.approx(0.45 - trial.user_attrs["clean"])}
    assert trial.value == trial.user_attrs["attacked"]


def test_the_reference_is_the_undefended_model(begin, toy):
    sections = {
        "seeds": [0, 1, 2], "study": {"objective": "constrained"},
        "training": {"max_epochs": 12, "learning_rate": 0.01},
        "defenses": [{"name": "ModalityBalancing", "sensitive": "auto"}],
    }  # fmt: skip
    config = toy(**sections)
    reference = find_reference(config, Workbench(config.run.build_data()))
    undefended = toy(**sections | {"defenses": [{"name": "none"}]})
    trial = optuna.trial.create_trial(value=0.0, params=undefended.first(), distributions=_distributions(undefended))
    each = [by_hand(undefended, trial, seed)[0] for seed in (0, 1, 2)]
    assert reference["VBPR"]["clean"] == sorted(each)[1]
    assert reference["VBPR"]["sensitive"] in ("visual", "textual")
    _, study = run(begin, reference=reference, **sections)
    clean = study.trials[0].user_attrs["clean"]
    assert study.trials[0].constraints["clean loss"] == pytest.approx(0.98 * reference["VBPR"]["clean"] - clean)


def _distributions(config):
    return {p.name: p.distribution for p in config.parameters}


def test_no_sensitive_modality_is_said(toy, monkeypatch):
    config = toy(defenses=[{"name": "ModalityBalancing", "sensitive": "auto"}])
    monkeypatch.setattr(room, "find_sensitive", lambda *args, **kwargs: None)
    with pytest.raises(ConfigError, match="no sensitive modality was found for 'VBPR'"):
        find_reference(config, Workbench(config.run.build_data()))


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_what_is_not_finite_is_no_result(begin, monkeypatch, value):
    monkeypatch.setattr(room, "_measure", lambda *args, **kwargs: {"clean": value, "attacked": value})
    with pytest.raises(NonFiniteError):
        run(begin)
    _, study = run(begin, catch=FAILURES)
    assert [t.state for t in study.trials] == [TrialState.FAIL]
    assert "not finite" in study.trials[0].user_attrs["error"]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("all gone"), torch.cuda.OutOfMemoryError("CUDA out of memory"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:1] . DefaultCPUAllocator: can't allocate memory: you tried"),
    ],
)  # fmt: skip
def test_too_little_memory_fails_the_trial(begin, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error

    monkeypatch.setattr(room, "fit", fail)
    _, study = run(begin, count=2, catch=FAILURES)
    assert [t.state for t in study.trials] == [TrialState.FAIL] * 2
    assert study.trials[0].user_attrs["error"]


def test_memory_really_runs_out(begin, monkeypatch):
    monkeypatch.setattr(room, "fit", lambda *args, **kwargs: torch.empty(1 << 60))
    _, study = run(begin, catch=FAILURES)
    assert study.trials[0].state == TrialState.FAIL
    assert "out of memory" in study.trials[0].user_attrs["error"]


def test_a_bug_is_no_failure(begin, monkeypatch):
    def fail(*args, **kwargs):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(room, "fit", fail)
    with pytest.raises(RuntimeError, match="shapes"):
        run(begin, catch=FAILURES)


def test_a_graph_is_compiled_once(toy, monkeypatch):
    config = toy(models=[{"name": "FREEDOM", "embedding_dim": 8, "knn_k": 4}])
    made = []
    build = mr.models.FREEDOM.graph
    monkeypatch.setattr(mr.models.FREEDOM, "graph", lambda self, data: made.append(data) or build(self, data))
    bench = Workbench(config.run.build_data())
    first = bench.train(config.run, 0, None)
    second = bench.train(config.run, 0, None)
    assert len(made) == 1
    assert first[2] is second[2]
    assert first[1].best == second[1].best


def test_what_a_class_of_ones_own_searches_in_its_graphs_makes_graphs_of_its_own():
    class Choosy(mr.models.FREEDOM):
        """Reads the neighbours of some columns only."""

        def __init__(self, num_users, num_items, feature_dims, *, columns=3, knn_k=4, seed=0):
            super().__init__(num_users, num_items, feature_dims, embedding_dim=4, knn_k=knn_k, seed=seed)
            self.columns = columns

        def item_graphs(self, features, graph):
            return super().item_graphs({m: x[:, : self.columns] for m, x in features.items()}, graph)

    bench = Workbench(mr.synthetic(num_users=40, num_items=30))
    made = [bench._compiled(Choosy.from_data(bench.data, columns=n, seed=s))[1] for n, s in ((3, 0), (3, 1), (5, 0))]
    assert made[0] is made[1]
    assert not torch.equal(made[0].item_graphs["visual"].values(), made[2].item_graphs["visual"].values())
