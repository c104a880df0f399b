"""``python -m benchmarks.tuning.table STUDY.toml STORAGE``: a study as a page with pictures, and what it chose."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from benchmarks import options
from mmgraph_robust.reporting import to_markdown
from mmgraph_robust.tuning import open_study, read_study
from mmgraph_robust.tuning.page import draw, trial_table
from mmgraph_robust.tuning.selection import export
from mmgraph_robust.utils import atomic_write, write_text

RESULTS = options.RESULTS / "tuning"
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
        parts += ["## Test", _tested(study.user_attrs["test"], config.metric)]
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


def _tested(test: dict[str, Any], metric: str) -> str:
    """What the one reading of the test split showed, and what the search gained over the defaults."""
    times = "once" if test["times"] == 1 else f"{test['times']} times"
    if test["state"] != "done":
        return "The test was begun and is not finished."
    lines = [
        f"Read {times}, with the fresh seeds {', '.join(map(str, test['seeds']))}; means of {metric}, *attacked* under "
        "the attack that hurts most in each seed. The defaults are the file's values, trained and tested alike.",
        "",
        "| | clean | attacked | attacked, beside the defaults |",
        "|---|---:|---:|---:|",
    ]
    base = test["results"]["defaults"]
    for label, found in test["results"].items():
        gain = found["attacked"] / base["attacked"] - 1
        lines.append(f"| {label} | {found['clean']:.4f} | {found['attacked']:.4f} | {100 * gain:+.1f} % |")
    return "\n".join(lines)


if __name__ == "__main__":
    typer.run(main)
