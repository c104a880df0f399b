import optuna
import pytest
from optuna.trial import TrialState

from mmgraph_robust.tuning.samplers import TrialSampler, make_pruner


def ask(config, storage, count):
    """As a new process would go on with the study."""
    study = optuna.create_study(
        study_name="s", storage=storage, sampler=TrialSampler(config), load_if_exists=True,
        directions=["maximize"] * len(config.objectives),
    )  # fmt: skip
    for _ in range(count):
        trial = study.ask()
        value = config.suggest(trial)["models.VBPR.reg"]
        study.tell(trial, [value] * len(config.objectives))
    return [t.params for t in study.trials]


@pytest.mark.parametrize("sampler", ["tpe", "random", "nsga2"])
def test_a_study_that_goes_on_repeats_no_trial(toy, sampler):
    objective = "pareto" if sampler == "nsga2" else "clean"
    config = toy(study={"sampler": {"name": sampler}, "objective": objective})
    storage = optuna.storages.InMemoryStorage()
    ask(config, storage, 5)
    whole = ask(config, storage, 5)
    assert len({str(p) for p in whole}) == 10
    # In one go or in two: the same trials.
    assert ask(config, optuna.storages.InMemoryStorage(), 10) == whole
    other = toy(study={"sampler": {"name": sampler}, "objective": objective, "seed": 1})
    assert ask(other, optuna.storages.InMemoryStorage(), 1)[0] != whole[0]


def test_plain_optuna_repeats_them():
    """What the sampler is for; if this fails, it is no longer needed."""
    storage = optuna.storages.InMemoryStorage()
    for _ in range(2):
        study = optuna.create_study(
            study_name="s", storage=storage, sampler=optuna.samplers.TPESampler(seed=0), load_if_exists=True
        )
        for _ in range(3):
            study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    assert [t.params for t in study.trials[:3]] == [t.params for t in study.trials[3:]]


def test_the_estimator_learns(toy):
    config = toy(study={"trials": 60, "sampler": {"name": "tpe", "startup_trials": 10}})
    params = ask(config, optuna.storages.InMemoryStorage(), 60)
    found = [p["models.VBPR.reg"] for p in params]
    assert sum(found[40:]) / 20 > 2 * sum(found[:10]) / 10


def curves(config, *values):
    """Trials that report these curves, one after the other; how many reports each was allowed."""
    study = optuna.create_study(direction="maximize", pruner=make_pruner(config))
    lengths = []
    for curve in values:
        trial = study.ask()
        for step, value in enumerate(curve, 1):
            trial.report(value, step)
            if trial.should_prune():
                study.tell(trial, state=TrialState.PRUNED)
                break
        else:
            study.tell(trial, curve[-1])
        lengths.append(step)
    return lengths


def test_median(toy):
    config = toy(study={"pruner": {"name": "median", "startup_trials": 2, "warmup_epochs": 2}})
    good, bad = [0.5] * 6, [0.1] * 6
    assert curves(config, good, good, bad, good) == [6, 6, 3, 6]
    config = toy(study={"pruner": {"name": "median", "startup_trials": 2, "warmup_epochs": 2, "percentile": 75.0}})
    assert curves(config, good, [0.2] * 6, bad, [0.4] * 6, [0.15] * 6) == [6, 6, 3, 6, 3]


def test_hyperband(toy):
    pruner = {"name": "hyperband", "min_epochs": 1, "reduction": 2}
    config = toy(training={"max_epochs": 8}, study={"pruner": pruner})
    lengths = curves(config, *([[value / 10] * 8 for value in (9, 8, 7, 6, 5, 4, 3, 2, 1)] * 3))
    assert min(lengths) < 8
    assert max(lengths) == 8
    assert curves(toy(), [0.5], [0.1]) == [1, 1]


def test_wilcoxon(toy):
    config = toy(seeds=list(range(6)), study={"pruner": {"name": "wilcoxon", "p": 0.1}})
    good = [0.50, 0.52, 0.48, 0.51, 0.49, 0.50]
    assert curves(config, good, [v - 0.1 for v in good], [v + 0.1 for v in good]) == [6, 4, 6]
