import base64
import re
import warnings

import matplotlib as mpl
import optuna
import pytest
from matplotlib import pyplot as plt

from mmgraph_robust.tuning import trial_table, write_study_page
from mmgraph_robust.tuning.page import draw

SECTIONS = {"History", "Front", "Importance", "Slices", "Validation curves", "Time"}


def fill(begin, count=6, **sections):
    config, study = begin(
        models=[{"name": "VBPR"}, {"name": "GRCN"}],
        defenses=[{"name": "none"}, {"name": "AdversarialTraining"}],
        **sections,
    )

    def objective(trial):
        values = config.suggest(trial)
        rate = values["training.learning_rate"]
        trial.set_user_attr("clean", 1 - rate)
        trial.set_user_attr("attacked", rate)
        trial.set_user_attr("epochs", 3)
        if len(config.objectives) == 1:
            trial.report(rate, 1)
            trial.set_constraint("clean loss", rate - 5e-3)
        if trial.number == 1:
            raise MemoryError("<all gone>")
        return rate if len(config.objectives) == 1 else (1 - rate, rate)

    study.optimize(objective, n_trials=count, catch=MemoryError)
    return config, study


@pytest.mark.parametrize("objective", ["constrained", "pareto"])
def test_the_pictures(begin, objective):
    config, study = fill(begin, 8, study={"objective": objective})
    before = dict(mpl.rcParams)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = [(section, caption) for section, caption, _ in draw(config, study)]
    expected = SECTIONS - ({"Validation curves"} if objective == "pareto" else set())
    assert {section for section, _ in found} == expected
    # Every parameter has its slice.
    slices = " ".join(caption for section, caption in found if section == "Slices")
    assert all(name in slices for t in study.trials if t.values for name in t.params)
    assert dict(mpl.rcParams) == before
    assert plt.get_fignums() == []


def test_one_page_that_needs_no_network(begin, tmp_path):
    config, study = fill(begin, study={"objective": "constrained"})
    study.set_user_attr("test", {"state": "begun", "trials": [3], "begun": "today"})
    write_study_page(config, study, tmp_path / "study.html")
    page = (tmp_path / "study.html").read_text()
    assert not re.search(r"(src|href)=\"(?!data:|#)", page)
    assert "<all gone>" not in page
    pictures = re.findall(r"data:image/png;base64,([^\"]+)", page)
    assert len(pictures) >= 6
    assert all(base64.b64decode(p).startswith(b"\x89PNG") for p in pictures)
    assert "A test of trials [3] was begun on today" in page
    for link in re.findall(r'href="#([^"]+)"', page):
        assert f'id="{link}"' in page
    record = {"state": "done", "times": 2, "seeds": [7], "trials": [3], "results": {"trial3": {"clean": 0.25}}}
    study.set_user_attr("test", record)
    write_study_page(config, study, tmp_path / "study.html")
    assert (
        "The test split was read 2 times, with seeds [7]: trial3: clean Recall@20 0.2500"
        in (tmp_path / "study.html").read_text()
    )


@pytest.mark.parametrize("count", [0, 1])
def test_a_study_that_has_hardly_begun(begin, tmp_path, count):
    config, study = fill(begin, count)
    write_study_page(config, study, tmp_path / "study.html")
    assert "The test split has not been read." in (tmp_path / "study.html").read_text()


def test_the_table(begin):
    config, study = fill(begin, study={"objective": "constrained"})
    table = trial_table(config, study)
    numbers = [int(row[0]) for row in table.rows]
    feasible = [t for t in study.trials if t.values and t.constraints["clean loss"] <= 0]
    assert numbers[: len(feasible)] == [t.number for t in sorted(feasible, key=lambda t: -t.value)]
    assert sorted(numbers) == list(range(6))
    states = {int(row[0]): row[1] for row in table.rows}
    for trial in study.trials:
        if trial.values is None:
            assert states[trial.number] == "fail"
        else:
            assert states[trial.number] == ("complete" if trial in feasible else "infeasible")
    assert "5 complete" in table.notes[0]
    short = trial_table(config, study, 2, parameters=False)
    assert len(short.rows) == 2
    assert "4 further trials are not shown." in short.notes
    assert len(short.columns) == 7
    assert optuna.trial.TrialState.COMPLETE.name.lower() in {row[1] for row in table.rows}
