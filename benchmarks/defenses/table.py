"""``python -m benchmarks.defenses.table``: the results as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from benchmarks.costs import sections
from benchmarks.defenses.overview import draw
from benchmarks.defenses.search import (
    METRIC,
    RESULTS,
    attacks_key,
    backbones_for,
    candidates,
    carried,
    hearing,
    keeping,
    spaces,
)
from mmgraph_robust.utils import read_json, write_text

Result = dict[str, Any]
Run = dict[str, Any]

_BEFORE = (
    "Judged by attacks of before, none of which aimed at the recall itself (`docs/robustness.md`), or it is not known "
    "by which. What they left is an upper bound, and not to be compared with rows of today's:"
)


def left(run: Run, attack: str, modalities: Sequence[str], budget: float) -> float | None:
    """The recall that an attack leaves; None where it was not run."""
    for found in run["test"]["attacks"]:
        if (found["attack"], found["modalities"], found["budget"]) == (attack, list(modalities), budget):
            return float(found[METRIC])
    return None


def clean(run: Run) -> float:
    """The clean recall on test."""
    return float(run["test"]["clean"][METRIC])


def everything(run: Run) -> list[str]:
    """All modalities that the model reads."""
    return max((a["modalities"] for a in run["test"]["attacks"]), key=len, default=[])


def carries(run: Run, modality: str) -> float | None:
    """How much clean recall on test is lost when every item has the modality's mean features."""
    share = run["test"]["carries"].get(modality)
    return None if share is None else carried(share)


def table(results: Sequence[Result]) -> str:
    """One row per defense, the most robust first."""
    names = max((everything(r["runs"][0]) for r in results), key=len)
    budgets = spaces()["test"]["budgets"]
    head = ["defense", "candidates", "seeds", "clean"]
    attacks = [a["attack"] for result in results for a in result["runs"][0]["test"]["attacks"]]
    single = next((attack for attack in attacks if attack != "suite"), "")
    head += [f"{single}, {m}, {100 * b:g} %" for b in budgets for m in names]
    head += [f"suite, all, {100 * b:g} %" for b in budgets] + [f"{m} carries" for m in names]
    head += ["decline", "chosen"]
    lines = ["| " + " | ".join(head) + " |", "|---|" + "---:|" * (len(head) - 2) + "---|"]

    def order(result: Result) -> float:
        found = _values(result, lambda run: left(run, "suite", everything(run), budgets[0]))
        return -statistics.mean(found) if found else -statistics.mean(map(clean, result["runs"]))

    undefended = next((r for r in results if r["defense"] == "none"), None)
    for result in sorted(results, key=order):
        read = [m for m in names if m in everything(result["runs"][0])]
        picked = " (picked)" if spaces()["defenses"].get(result["defense"], {}).get("picked") else ""
        row = [result["defense"], f"{len(result['candidates'])}{picked}", str(len(result["runs"]))]
        row.append(_cell(result, clean))
        for budget in budgets:
            row += _worst_in_bold(result, [partial(left, attack=single, modalities=[m], budget=budget) for m in names])
        row += [
            _cell(result, lambda run, b=b: left(run, "suite", everything(run), b))  # type: ignore[misc]
            for b in budgets
        ]
        row += [_cell(result, lambda run, m=m: carries(run, m)) if m in read else "" for m in names]  # type: ignore[misc]
        row += [_decline(result, budgets[0], undefended), _arguments(result["chosen"])]
        lines.append("| " + " | ".join(row) + " |")
    return "\n".join(lines)


def cost_table(cost: dict[str, Any]) -> str:
    """An epoch of each defense as a multiple of a plain one."""
    runs = cost["models"].values()
    labels = dict.fromkeys(label for run in runs for label in run["measured"])
    fewer = [
        f"`{label}` is trained for {factor:g} times the epochs, which is what its price is to be multiplied with."
        for label in labels
        if (factor := spaces()["defenses"].get(label, {}).get("training", {}).get("max_epochs", 1)) != 1
    ]
    where = [f"{m}, {run['dataset']}, {run['threads']} threads" for m, run in cost["models"].items()]
    lines = [
        " ".join(
            [
                "An epoch, with no other job of ours beside it, as a multiple of the plain one timed in turn with it. "
                "The first row holds the plain one's seconds: they are more than one where rows were timed in several "
                "hours, in which the same machine is not equally fast; compare rows of one column with that in mind. "
                "Each defense has its first candidate's arguments. "
                "What is done once before the first step (CKD's teachers: an own training for every modality; the "
                "trained model that AMR and APR begin with) comes on top.",
                *fewer,
            ]
        ),
        "",
        f"| defense | {' | '.join(where)} |",
        f"|---|{'---:|' * len(where)}",
        f"| none | {' | '.join(_plain(run) for run in runs)} |",
    ]
    for label in labels:
        found = [run["measured"].get(label) for run in runs]
        cells = ["" if one is None else f"{one['seconds'] / one['plain']:.2f}" for one in found]
        lines.append(f"| {label} | {' | '.join(cells)} |")
    return "\n".join(lines)


def flags(results: Sequence[Result]) -> list[str]:
    """What the suite says against its own figures."""
    found: dict[str, set[str]] = {}
    for result in results:
        for run in result["runs"]:
            for attack in run["test"]["attacks"]:
                for flag, reason in attack.get("flags", {}).items():
                    found.setdefault(f"{result['defense']}, `{flag}`: {reason}", set()).add(f"{attack['budget']:g}")
    return [f"- {text} (at {', '.join(sorted(budgets))})" for text, budgets in sorted(found.items())]


def elsewhere(results: Sequence[Result]) -> str:
    """What was not computed on a CPU, as most was: candidates, and seeds in training or test."""
    found, names = [], set()
    for result in results:
        candidates = [_other_device(record.get("provenance", {})) for record in result["candidates"]]
        runs = {
            run["seed"]: _other_device(run.get("provenance", {})) or _other_device(run["test"].get("provenance", {}))
            for run in result["runs"]
        }
        parts = ["candidates"] * any(candidates)
        if seeds := [str(seed) for seed, device in runs.items() if device]:
            parts.append(f"seed {', '.join(seeds)}")
        if parts:
            found.append(f"`{result['defense']}` ({'; '.join(parts)})")
            names.update(device for device in (*candidates, *runs.values()) if device)
    return f"- Computed on {', '.join(sorted(names))}, all else on a CPU: {', '.join(sorted(found))}" if found else ""


def by_attacks(results: Sequence[Result]) -> tuple[list[Result], list[Result]]:
    """The rows that today's attacks judged, and those that some others did; what reads no features is with the first,
    or where there is none, with the others."""
    keys = {attacks_key(item_graph, "test") for item_graph in (False, True)}
    today: list[Result] = []
    before: list[Result] = []
    unread: list[Result] = []
    for result in results:
        attacked = [run["test"] for run in result["runs"] if run["test"]["attacks"]]
        same = all(test.get("attacks_key") in keys for test in attacked)
        (unread if not attacked else today if same else before).append(result)
    (today or before).extend(unread)
    return today, before


def beyond(results: Sequence[Result]) -> str:
    """Which rows' candidates, of several, all lose more clean recall than the search allows."""
    undefended = [r["candidates"][0] for r in results if r["defense"] == "none"]
    found = [
        f"`{r['defense']}`"
        for r in results
        if undefended and len(r["candidates"]) > 1 and not keeping(r["candidates"], undefended[0])
    ]
    return f"- No candidate keeps the clean recall on validation: {', '.join(sorted(found))}" if found else ""


def unheard(results: Sequence[Result]) -> str:
    """What was passed over for a modality that carries too little, and where it is not known what modalities carry."""
    undefended = next((r["candidates"][0] for r in results if r["defense"] == "none"), None)
    searched = [r for r in results if len(r["candidates"]) > 1]
    if undefended is None or not searched:
        return ""
    if "validation_carries" not in undefended:
        return "- What modalities carry on validation is not known here: nothing was passed over for it"
    passed, none, unknown = [], [], []
    for result in searched:
        name, kept = f"`{result['defense']}`", keeping(result["candidates"], undefended)
        heard = hearing(kept, undefended)
        if kept and not heard:
            none.append(name)
        if any(r["arguments"] == result["chosen"] and "validation_carries" not in r for r in kept):
            unknown.append(name)
        most = max((record.get("validation_attacked") or 0.0 for record in heard), default=math.inf)
        passed += [
            f"{name} ({_arguments(record['arguments'])})"
            for record in kept
            if record not in heard and (record.get("validation_attacked") or 0.0) > most
        ]
    told = {
        "Passed over on validation, though more robust, for a modality that carries too little": passed,
        "No candidate that keeps the clean recall keeps what every modality carries": none,
        "It is not known what modalities carry on validation in what was chosen of": unknown,
    }
    return "\n".join(f"- {what}: {', '.join(sorted(names))}" for what, names in told.items() if names)


def shortfall(folder: Path) -> str:
    """How much less than the suite the attack does that is run on each modality alone, where both are run."""
    found = []
    for path in sorted(folder.glob("*/*.json")):
        for run in read_json(path).get("runs", ()):
            names = everything(run)
            for one in run["test"]["attacks"]:
                ensemble = left(run, "suite", names, one["budget"])
                if one["attack"] != "suite" and one["modalities"] == names and ensemble is not None:
                    found.append(one[METRIC] - ensemble)
    if not found:
        return ""
    return (
        f"Modalities alone are attacked without the rest of the suite: on all of them at once it leaves "
        f"{statistics.median(found):.4f} more than the suite in the median and {max(found):.4f} at most. "
    )


def refusals(results: Sequence[Result]) -> str:
    """Which defenses have nothing to act on, by reason."""
    reasons: dict[str, list[str]] = {}
    for result in results:
        reasons.setdefault(result["refused"], []).append(f"`{result['defense']}`")
    return "\n".join(f"- Refused: {', '.join(sorted(labels))}: {reason}" for reason, labels in reasons.items())


def page(folder: Path) -> str:
    """The whole page."""
    search = spaces()["search"]
    count = max(len(candidates(label)) for label in spaces()["defenses"])
    budget, most = f"{100 * search['budget']:g} %", f"{100 * search['max_clean_loss']:g} %"
    share = f"{100 * search['min_carried']:g} %"
    parts = [
        "# What defenses are worth",
        f"Recall@20 on test, mean ± sample standard deviation over seeds. Every defense got {count} candidates, more "
        "where the strongest of them was chosen, none kept the clean recall or the most robust did not keep what a "
        "modality carries (then the list goes on, though not in every such row yet; VBPR scaled has VBPR's lists), and "
        "one where there is nothing to search or it was *picked* by hand; trained with seed 0 "
        "and judged on the validation split, clean and under PGD (where features act only through an item graph: "
        "GraphRelaxation of 25 steps, which rebuilds it) on all modalities "
        f"at {budget}: of those that lose at most {most} of the undefended model's clean recall, and in which every "
        f"modality still carries {share} of what it carries in that model, on validation (if that is more than {most} "
        "of the recall), the most robust was taken; where none keeps both, of those that keep the recall; where none "
        "does, the one that loses least (of equals the more robust). Only then was the test split read. PGD: 20 "
        "steps on a smooth recall or a smooth NDCG, whichever leaves less, on validation the latter; "
        'suite: `suite("standard")`; budgets per item, relative to the item\'s own features; white box, test positives '
        f"known to the attacker. {shortfall(folder)}"
        "**Bold**: the modality whose attack alone does most harm. *Carries*: clean recall that "
        "is lost when every item has the modality's mean features. "
        f"*Decline*: what the suite takes at {budget}, and in brackets that as a part of what it takes of the "
        "undefended model, with the same seeds. All are trained from the start but for AMR and APR, which go on from "
        "the undefended model of their seed, as in their papers, and `Smoothed`, which is put around it. What the "
        "candidates are, and the form of `ListwiseAdversarialTraining` itself, was "
        "settled in an exploration of one seed on hm that read the test split (`docs/defense_studies.md`): on hm its "
        "rows are not quite blind. Made by "
        "`python -m benchmarks.defenses DATA MODEL`, `python -m benchmarks.defenses.ablation DATA MODEL DEFENSE` and "
        "`python -m benchmarks.defenses.table`.",
    ]
    for name in spaces()["data"]:
        results = [read_json(path) for path in sorted((folder / name).glob("*.json"))]
        if compared(results):
            parts += [
                f"![What each defense leaves on {name}](overview-{name}.png)",
                f"{name} at a glance; controls are grey. What the dotted line cuts off loses more than {most} of the "
                "undefended model's clean recall.",
            ]
        for model in backbones_for(name):
            own = [r for r in results if r["model"] == model and "refused" not in r]
            refused = [r for r in results if r["model"] == model and "refused" in r]
            if own or refused:
                today, before = by_attacks(own)
                parts += [f"## {name}, {model}", _scaled(model), table(today) if today else ""]
                parts += [_BEFORE, table(before)] if before else []
                parts += ["\n".join(flags(own)), beyond(own), unheard(own), elsewhere(own), refusals(refused)]
    for title, measured in sections(folder, "Cost"):
        parts += [title, cost_table(measured)]
    for path in sorted(folder.glob("ablation-*.json")):
        found = read_json(path)
        base = _arguments(found["base"])
        parts += [
            f"## Ablation: {found['defense']} on {found['model']}, {found['dataset']}",
            f"One argument at a time, the others at {base} (their values are grey); validation, seed 0.",
            f"![Clean and attacked recall against each argument]({path.with_suffix('.png').name})",
        ]
    return "\n\n".join(part for part in parts if part) + "\n"


def compared(results: Sequence[Result]) -> dict[str, list[Result]]:
    """The results of every backbone with something to compare, judged by the same attacks: what the picture shows."""
    found = {}
    for model in spaces()["models"]:
        today, before = by_attacks([r for r in results if r["model"] == model and "runs" in r])
        if len(today) > 1:
            found[model] = today
        elif len(before) > 1:
            found[f"{model}, attacks of before"] = before
    return found


def write(folder: Path) -> None:
    """Writes the page and its pictures of the results in a folder."""
    for name in spaces()["data"]:
        panels = compared([read_json(path) for path in sorted((folder / name).glob("*.json"))])
        if panels:
            draw(panels, clean, lambda run, b: left(run, "suite", everything(run), b), folder / f"overview-{name}.png")
    write_text(folder / "README.md", page(folder))


def _scaled(model: str) -> str:
    """What a backbone's features are multiplied with, where it is a form of another."""
    entry = spaces()["models"][model]
    scale = ", ".join(f"{m} by {factor:g}" for m, factor in entry["arguments"].get("feature_scale", {}).items())
    return f"As {entry['name']}, with features multiplied: {scale}." if scale else ""


def _other_device(origin: dict[str, str]) -> str:
    """A device that is no CPU, by its own name where a provenance holds it; nothing for a CPU."""
    device = origin.get("device", "cpu")
    return "" if device == "cpu" else origin.get("machine", device).split(", ")[-1]


def _values(result: Result, of: Callable[[Run], float | None]) -> list[float]:
    return [x for x in map(of, result["runs"]) if x is not None]


def _cell(result: Result, of: Callable[[Run], float | None]) -> str:
    values = _values(result, of)
    if not values:
        return ""
    spread = f" ± {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    return f"{statistics.mean(values):.4f}{spread}"


def _worst_in_bold(result: Result, columns: Sequence[Callable[[Run], float | None]]) -> list[str]:
    """The cells of several columns, the one of the lowest mean in bold where there are others."""
    values = [_values(result, of) for of in columns]
    means = [statistics.mean(found) for found in values if found]
    cells = [_cell(result, of) for of in columns]
    if len(means) < 2:
        return cells
    return [
        f"**{cell}**" if found and statistics.mean(found) == min(means) else cell
        for cell, found in zip(cells, values, strict=True)
    ]


def _plain(run: dict[str, Any]) -> str:
    """The seconds of plain epochs, from the fastest hour's to the slowest's."""
    found = [f"{one['plain']:.2f}" for one in sorted(run["measured"].values(), key=lambda one: float(one["plain"]))]
    return f"{found[0]} s" if found[0] == found[-1] else f"{found[0]} to {found[-1]} s"


def _decline(result: Result, budget: float, undefended: Result | None) -> str:
    own = _lost(result, budget)
    if own is None:
        return "reads no features"
    both = {run["seed"] for run in result["runs"]} & {run["seed"] for run in (undefended or {"runs": []})["runs"]}
    same, reference = (_lost(r, budget, both) if r and both else None for r in (result, undefended))
    return f"\N{MINUS SIGN}{100 * own:.0f} %" + (f" ({same / reference:.2f})" if same is not None and reference else "")


def _lost(result: Result, budget: float, seeds: set[int] | None = None) -> float | None:
    """The share of the clean recall that the suite takes; of the runs with those seeds, where some are named."""
    runs = [run for run in result["runs"] if seeds is None or run["seed"] in seeds]
    found = _values({"runs": runs}, lambda run: left(run, "suite", everything(run), budget))
    return 1 - statistics.mean(found) / statistics.mean(map(clean, runs)) if found else None


def _arguments(arguments: dict[str, Any]) -> str:
    return ", ".join(
        f"{name} {value:g}" if isinstance(value, float) else f"{name} {value}" for name, value in arguments.items()
    )


if __name__ == "__main__":
    write(RESULTS)
    print(f"written to {RESULTS / 'README.md'}")
