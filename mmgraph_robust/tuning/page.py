"""What a person sees of a study: a table, Optuna's own pictures, one page."""

from __future__ import annotations

import base64
import io
import json
import logging
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import optuna
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib import pyplot as plt
from matplotlib.figure import Figure
from optuna.trial import FrozenTrial, TrialState
from optuna.visualization import matplotlib as plots

from mmgraph_robust.reporting import Table, to_html
from mmgraph_robust.reporting.cells import MISSING, Cell, Column, metric_label
from mmgraph_robust.tuning.config import StudyConfig
from mmgraph_robust.tuning.selection import choose
from mmgraph_robust.tuning.study import is_feasible, results
from mmgraph_robust.tuning.worker import best_so_far
from mmgraph_robust.utils import chunks, write_text

_SLICES = 4

Picture = tuple[str, str, Figure]
"""Section, caption and figure."""


def trial_table(config: StudyConfig, study: optuna.Study, count: int | None = None, parameters: bool = True) -> Table:
    """The trials of a study, the best first.

    Args:
        config: The study's configuration.
        study: The study.
        count: How many at most (default: all).
        parameters: Whether the parameters are shown as well.
    """
    trials = study.get_trials(deepcopy=False)
    best = choose(config, study, len(trials))
    ordered = best + [t for t in trials if t not in best]
    names = sorted({name for t in trials for name in t.params}) if parameters else []
    columns = [
        Column("Trial", kind="value"), Column("State"), Column("Clean", kind="value"), Column("Attacked", kind="value"),
        Column("Epochs", kind="value"), Column("Best epoch", kind="value"), Column("Seconds", kind="value"),
        *(Column(name) for name in names),
    ]  # fmt: skip
    rows = [_row(t, names) for t in ordered[:count]]
    notes = [f"{_counts(trials)}; {best_so_far(study)}."]
    if not all(map(is_feasible, trials)):
        notes.append(f"Infeasible: loses more than {100 * config.settings.max_clean_loss:g} % of the clean quality.")
    if len(ordered) > len(rows):
        notes.append(f"{len(ordered) - len(rows)} further trials are not shown.")
    return Table.from_cells(
        f"{config.name}: {metric_label(config.metric)} on the validation split", columns, rows, notes
    )


def draw(config: StudyConfig, study: optuna.Study) -> Iterator[Picture]:
    """The pictures of a study for which there are trials enough; a figure is closed once the next is asked for."""
    done = results(study)
    with mpl.rc_context(), warnings.catch_warnings():
        # Optuna's plots are marked experimental; a parameter with one value has an axis without width.
        warnings.simplefilter("ignore", UserWarning)
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        # It tells of every axis with numbers among its categories.
        logging.getLogger("matplotlib.category").setLevel(logging.WARNING)
        for section, caption, drawn in _drawings(config, study, len(done)):
            figure = _figure(drawn())
            yield section, caption, figure
            plt.close(figure)


def write_study_page(config: StudyConfig, study: optuna.Study, path: str | Path) -> None:
    """Writes a study as one HTML file that needs no network.

    Args:
        config: The study's configuration.
        study: The study.
        path: The file.
    """
    loaders = [PackageLoader("mmgraph_robust.tuning"), PackageLoader("mmgraph_robust.reporting")]
    environment = Environment(
        loader=ChoiceLoader(loaders), autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    sections: dict[str, list[dict[str, Any]]] = {}
    for section, caption, figure in draw(config, study):
        sections.setdefault(section, []).append({"alt": caption, "png": _png(figure)})
    attributes = study.user_attrs
    page = environment.get_template("study.html.j2").render(
        title=f"Study: {config.name}",
        lead=[
            f"Searched for: {' and '.join(config.objectives)} on the validation split.",
            f"So far: {best_so_far(study)}.",
            _test_sentence(attributes.get("test"), metric_label(config.metric)),
        ],
        # Safe to pass on: to_html has escaped every text of the table.
        table=Markup(to_html(trial_table(config, study))),
        sections=sections,
        made=[
            (name, json.dumps(attributes[key], indent=1, ensure_ascii=False))
            for name, key in (("Configuration", "config"), ("Provenance", "provenance"), ("Reference", "reference"),
                              ("Test", "test"))
            if key in attributes
        ],
    )  # fmt: skip
    write_text(path, page)


def _drawings(config: StudyConfig, study: optuna.Study, done: int) -> Iterator[tuple[str, str, Callable[[], Any]]]:
    if done == 0:
        return
    targets: Sequence[tuple[str, Callable[[FrozenTrial], float] | None]] = [(config.objectives[0], None)]
    if len(config.objectives) > 1:
        targets = [(name, _value(i)) for i, name in enumerate(config.objectives)]
    for name, target in targets:
        yield (
            "History", f"{name} by trial",
            partial(plots.plot_optimization_history, study, target=target, target_name=name),
        )  # fmt: skip
    if all({"clean", "attacked"} <= set(t.user_attrs) for t in results(study)):
        names = [f"clean {config.metric}", f"attacked {config.metric}"]

        def both(trial: FrozenTrial) -> tuple[float, float]:
            return trial.user_attrs["clean"], trial.user_attrs["attacked"]

        yield (
            "Front", "Clean against attacked quality, with the trials that no other surpasses in both",
            partial(_front, study, both, names),
        )  # fmt: skip
    if done > 1:
        for name, target in targets:
            yield (
                "Importance", f"Importance of each parameter for {name}",
                partial(plots.plot_param_importances, study, target=target, target_name=name),
            )  # fmt: skip
        names = sorted({name for t in results(study) for name in t.params})
        for name, target in targets:
            for start, stop in chunks(len(names), _SLICES):
                some = names[start:stop]
                yield (
                    "Slices", f"{name} by {', '.join(some)}",
                    partial(plots.plot_slice, study, some, target=target, target_name=name),
                )  # fmt: skip
    if any(t.intermediate_values for t in study.get_trials(deepcopy=False)):
        yield "Validation curves", "Curves that pruning looks at", partial(plots.plot_intermediate_values, study)
    yield "Time", "When each trial ran", partial(plots.plot_timeline, study)


def _front(study: optuna.Study, both: Callable[[FrozenTrial], tuple[float, float]], names: list[str]) -> Any:
    # Drawn from a study of both numbers: Optuna draws no front of a study that returns one.
    pair = optuna.create_study(directions=["maximize", "maximize"])
    for trial in results(study):
        pair.add_trial(
            optuna.trial.create_trial(
                values=list(both(trial)),
                params=trial.params,
                distributions=trial.distributions,
                system_attrs={k: v for k, v in trial.system_attrs.items() if k.startswith("constraints")},
            )
        )
    return plots.plot_pareto_front(pair, target_names=names)


def _value(index: int) -> Callable[[FrozenTrial], float]:
    return lambda trial: float(trial.values[index])


def _figure(drawn: Any) -> Figure:
    figure: Figure = np.atleast_1d(drawn).flat[0].figure
    if np.size(drawn) > 1:
        # Slices stand side by side and would be squeezed into one width.
        figure.set_size_inches(4.0 * np.size(drawn), 4.5)
    return figure


def _png(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return base64.b64encode(buffer.getvalue()).decode()


def _row(trial: FrozenTrial, names: Sequence[str]) -> list[Cell]:
    attributes = trial.user_attrs
    state = trial.state.name.lower()
    if trial.state == TrialState.COMPLETE and not is_feasible(trial):
        state = "infeasible"
    elif trial.state == TrialState.FAIL and "error" in attributes:
        state = f"failed: {attributes['error']}"
    return [
        _number(trial.number, 0), (state, None, None),
        _number(attributes.get("clean"), 4), _number(attributes.get("attacked"), 4),
        _number(attributes.get("epochs"), 0), _number(attributes.get("best_epoch"), 0),
        _number(attributes.get("seconds"), 0),
        *((_shown(trial.params.get(name, MISSING)), None, None) for name in names),
    ]  # fmt: skip


def _number(value: float | None, digits: int) -> Cell:
    return (MISSING, None, None) if value is None else (f"{value:.{digits}f}", float(value), None)


def _shown(value: Any) -> str:
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _counts(trials: Sequence[FrozenTrial]) -> str:
    states = [t.state.name.lower() for t in trials]
    return ", ".join(f"{states.count(s)} {s}" for s in dict.fromkeys(states)) or "no trials"


def _test_sentence(test: dict[str, Any] | None, metric: str) -> str:
    if test is None:
        return "The test split has not been read."
    if test["state"] != "done":
        return f"A test of trials {test['trials']} was begun on {test['begun']} and is not finished."
    times = "once" if test["times"] == 1 else f"{test['times']} times"
    each = "; ".join(
        f"{label}: " + ", ".join(f"{kind} {metric} {value:.4f}" for kind, value in result.items())
        for label, result in test["results"].items()
    )
    return f"The test split was read {times}, with seeds {test['seeds']}: {each} (means)."
