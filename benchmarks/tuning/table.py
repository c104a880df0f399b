"""``python -m benchmarks.tuning.table STUDY.toml STORAGE``: a study as a page with pictures, and what it chose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import optuna
import typer

from benchmarks import options
from mmgraph_robust.reporting import to_markdown
from mmgraph_robust.tuning import StudyConfig, open_study, read_study
from mmgraph_robust.tuning.page import draw, trial_table
from mmgraph_robust.tuning.selection import export, label_of, values_of
from mmgraph_robust.utils import atomic_write, write_text

RESULTS = options.RESULTS / "tuning"
_KINDS = ("clean", "attacked")
_SHOWN = ("History", "Front", "Importance")


def main(
    path: Annotated[Path, typer.Argument(help="The study's file.")],
    storage: Annotated[str, typer.Argument(help="Where its trials are.")],
    overrides: Annotated[list[str] | None, typer.Option("--set", help="Override a key, as for the study.")] = None,
    out: options.Out = RESULTS,
) -> None:
    """Writes a study's table, pictures and chosen configurations where they can be committed."""
    config = read_study(path, overrides or [])
    study = open_study(config, storage, create=False)
    target = out / config.name
    parts = [f"# The study {config.name}", _told(path, config.objectives)]
    if "test" in study.user_attrs:
        parts += ["## Test", _tested(config, study)]
    parts += ["## Trials", to_markdown(trial_table(config, study)), "## Pictures"]
    counts: dict[str, int] = {}
    for section, caption, figure in draw(config, study):
        if section in _SHOWN:
            counts[section] = counts.get(section, 0) + 1
            name = f"{section.lower()}-{counts[section]}.png"
            with atomic_write(target / name) as file:
                figure.savefig(file, format="png", dpi=100, bbox_inches="tight")
            parts.append(f"![{caption}]({name})")
    export(config, study, target, count=max(1, config.settings.test_trials))
    write_text(target / "README.md", "\n\n".join(parts) + "\n")
    print(f"written to {target}")


def _told(path: Path, objectives: tuple[str, ...]) -> str:
    return (
        f"Searched for: {' and '.join(objectives)} on the validation split, by "
        f"`mmgraph tune configs/study/{path.name}`. The chosen "
        "configurations stand beside this page. Made by `python -m benchmarks.tuning.table`."
    )


def _tested(config: StudyConfig, study: optuna.Study) -> str:
    """What the one reading of the test split showed, and what the search gained over the defaults."""
    test, metric = study.user_attrs["test"], config.metric
    times = "once" if test["times"] == 1 else f"{test['times']} times"
    if test["state"] != "done":
        return "The test was begun and is not finished."
    lines = [
        f"Read {times}, with the fresh seeds {', '.join(map(str, test['seeds']))}; means of {metric}, *attacked* under "
        "the attack that hurts most in each seed. The defaults are the file's values, with the model and the defense "
        "of the first trial below, trained and tested alike.",
        "",
        "| | model | defense | clean | attacked | clean, beside the defaults | attacked, beside the defaults |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    trials = {label_of(trial): trial for trial in study.get_trials(deepcopy=False)}
    first = next(label for label in test["results"] if label in trials)
    base = test["results"]["defaults"]
    for label, found in test["results"].items():
        values = values_of(config, trials[label if label in trials else first])
        row = [label, str(values["model"]), str(values["defense"])]
        row += [f"{found[kind]:.4f}" if kind in found else "" for kind in _KINDS]
        row += [f"{100 * (found[kind] / base[kind] - 1):+.1f} %" if base.get(kind) else "" for kind in _KINDS]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    typer.run(main)
