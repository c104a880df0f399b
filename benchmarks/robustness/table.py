"""``python -m benchmarks.robustness.table``: the entries as tables and pictures, one page for all data sets."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import typer
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks import options
from benchmarks.costs import sections
from mmgraph_robust.attacks.checks import EXPLANATIONS
from mmgraph_robust.experiment.report import without_users
from mmgraph_robust.reporting import full, read_entries, read_source, to_markdown
from mmgraph_robust.reporting.settings import format_budget
from mmgraph_robust.utils import atomic_write, write_json, write_text

RESULTS = options.RESULTS / "robustness"
METRIC = "recall@20"
BUDGET = 0.05
_ATTACKS = {"Noise": "noise", "SingleStep": "single step", "PGD": "PGD", "Suite": "suite"}
_STYLES = {
    "Noise": ("#555555", ":"),
    "SingleStep": ("#E69F00", "-"),
    "PGD": ("#0072B2", "-"),
    "Suite": ("#D55E00", "-"),
}

Entry = dict[str, Any]


def pick(entry: Entry, attack: str, modalities: Sequence[str], budget: float, graph: str = "rebuilt") -> Entry | None:
    """One untargeted attack of an entry; None where it was not run."""
    for found in entry["attacks"]:
        same = (found["attack"], found["budget"], found["graph"]) == (attack, budget, graph)
        if same and found["goal"]["name"] == "Untargeted" and found["modalities"] == list(modalities):
            return dict(found)
    return None


def everything(entry: Entry) -> list[str]:
    """All modalities, in the order of the data."""
    return max((a["modalities"] for a in entry["attacks"]), key=len, default=[])


def joint_table(entries: Sequence[Entry]) -> str:
    """What each attack leaves at one budget, all modalities jointly, and how much of the loss a single step shows."""
    lines = [
        "| backbone | clean | noise | single step | PGD | suite | each user's worst | change | by one step |",
        "|---|---:|---:|---:|---:|---:|---:|---:|---:|",
    ]
    for entry in entries:
        clean = entry["clean"]["metrics"][METRIC]
        if entry["feature_path"] == "none":
            lines.append(f"| {entry['model']} | {clean:.4f} | reads no features |" + " |" * 6)
            continue
        found = {a: pick(entry, a, everything(entry), BUDGET) for a in _ATTACKS}
        left = {a: _left(x) for a, x in found.items()}
        cells = [_number(x) for x in left.values()]
        worst = found["Suite"]["details"]["worst_per_user"][METRIC] if found["Suite"] else None
        lost = None if left["Suite"] is None else clean - left["Suite"]
        by_step = None if not lost or left["SingleStep"] is None else (clean - left["SingleStep"]) / lost
        lines.append(
            f"| {entry['model']} | {clean:.4f} | {' | '.join(cells)} | {_number(worst)} "
            f"| {_change(clean, left['Suite'])} | {'' if by_step is None else f'{100 * by_step:.0f} %'} |"
        )
    return "\n".join(lines)


def budget_table(entries: Sequence[Entry], attack: str) -> str:
    """What one attack leaves at every budget, all modalities jointly."""
    budgets = sorted({a["budget"] for e in entries for a in e["attacks"] if _plain(a) and a["attack"] == attack})
    lines = [
        f"| backbone | clean | {' | '.join(format_budget(b) for b in budgets)} |",
        f"|---|---:|{'---:|' * len(budgets)}",
    ]
    for entry in _attackable(entries):
        clean = entry["clean"]["metrics"][METRIC]
        left = [_left(pick(entry, attack, everything(entry), b)) for b in budgets]
        lines.append(f"| {entry['model']} | {clean:.4f} | {' | '.join(_with_change(clean, x) for x in left)} |")
    return "\n".join(lines)


def modality_table(entries: Sequence[Entry]) -> str:
    """What PGD and the suite leave of each modality alone."""
    names = max((everything(entry) for entry in entries), key=len, default=[])
    head = [f"{_ATTACKS[a]} on {m}" for a in ("PGD", "Suite") for m in names]
    lines = [f"| backbone | clean | {' | '.join(head)} | worst |", f"|---|---:|{'---:|' * len(head)}---|"]
    for entry in _attackable(entries):
        clean = entry["clean"]["metrics"][METRIC]
        left = {(a, m): _left(pick(entry, a, [m], BUDGET)) for a in ("PGD", "Suite") for m in names}
        own = {m: x for (a, m), x in left.items() if a == "Suite" and x is not None}
        worst = min(own, key=own.__getitem__) if own else ""
        cells = [_with_change(clean, x) for x in left.values()]
        lines.append(f"| {entry['model']} | {clean:.4f} | {' | '.join(cells)} | {worst} |")
    return "\n".join(lines)


def graph_table(entries: Sequence[Entry]) -> str:
    """Frozen against rebuilt item graphs, all modalities jointly; only for backbones where they differ."""
    attacks = ("SingleStep", "PGD", "Suite")
    lines = [
        f"| backbone | clean | {' | '.join(f'{_ATTACKS[a]}, {g}' for a in attacks for g in ('frozen', 'rebuilt'))} |",
        f"|---|---:|{'---:|' * 2 * len(attacks)}",
    ]
    for entry in _attackable(entries):
        left = [_left(pick(entry, a, everything(entry), BUDGET, g)) for a in attacks for g in ("frozen", "rebuilt")]
        if all(x == y for x, y in zip(left[::2], left[1::2], strict=True)):
            continue
        clean = entry["clean"]["metrics"][METRIC]
        lines.append(f"| {entry['model']} | {clean:.4f} | {' | '.join(_with_change(clean, x) for x in left)} |")
    return "\n".join(lines)


def promotion_table(entries: Sequence[Entry]) -> str:
    """The exposure of an attacker's own items before and after."""
    lines = ["| backbone | items | budget | exposure@20 before | after | times |", "|---|---|---:|---:|---:|---:|"]
    for entry in _attackable(entries):
        for found in entry["attacks"]:
            if found["goal"]["name"] != "Promote":
                continue
            ((_, value),) = found["measure"].items()
            before, after = value["clean"], value["attacked"]
            times = f"{after / before:.1f}" if before > 0 else ""
            lines.append(
                f"| {entry['model']} | {len(found['items'])} | {format_budget(found['budget'])} | {100 * before:.3f} % "
                f"| {100 * after:.3f} % | {times} |"
            )
    return "\n".join(lines)


def doubts(entries: Sequence[Entry]) -> str:
    """What the evaluation says about itself: every flag that is a reason not to believe a number."""
    lines = []
    for entry in entries:
        raised: dict[tuple[str, str], list[str]] = {}
        for found in entry["attacks"]:
            for name, text in found["flags"].items():
                if name not in EXPLANATIONS:
                    where = f"{_ATTACKS[found['attack']]} on {'+'.join(found['modalities'])} at "
                    where += f"{format_budget(found['budget'])}, {found['graph']}"
                    raised.setdefault((name, text), []).append(where)
        for (name, text), places in raised.items():
            first = "; ".join(places[:3]) + (f"; and {len(places) - 3} more" if len(places) > 3 else "")
            lines.append(f"- {entry['model']}, `{name}` ({first}): {text}")
    return "\n".join(lines) if lines else "No figure is flagged as doubtful."


def picture(entries: Sequence[Entry], path: Path) -> None:
    """Budget curves: a panel per backbone, a line per attack, all modalities jointly."""
    shown = _attackable(entries)
    if not shown:
        return
    columns = min(4, len(shown))
    rows = -(-len(shown) // columns)
    with mpl.rc_context({"font.size": 8, "axes.grid": True, "grid.alpha": 0.3}):
        figure = Figure(figsize=(2.6 * columns, 2.2 * rows + 0.4), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False).flatten()
        floor = [e["clean"]["metrics"][METRIC] for e in entries if e["model"] == "LightGCN"]
        for ax, entry in zip(axes, shown, strict=False):
            for attack, (colour, line) in _STYLES.items():
                points = sorted(
                    (100 * a["budget"], a["metrics"][METRIC])
                    for a in entry["attacks"]
                    if _plain(a) and a["attack"] == attack and a["modalities"] == everything(entry)
                )
                ax.plot(
                    [0.5, *(x for x, _ in points)], [entry["clean"]["metrics"][METRIC], *(y for _, y in points)],
                    line, color=colour, marker="o", markersize=2.5, linewidth=1.2, label=_ATTACKS[attack],
                )  # fmt: skip
            for value in floor:
                ax.axhline(value, color="#009E73", linewidth=0.8, linestyle="--", label="LightGCN")
            ax.set_title(entry["model"], fontsize=9)
            ax.set_xscale("log")
            ax.set_xticks([0.5, 1, 5, 10, 20, 50], ["0", "1", "5", "10", "20", "50"])
            ax.minorticks_off()
            ax.set_ylim(bottom=0)
        for index in range(len(shown), len(axes)):
            axes[index].set_visible(False)
            # Shared axes are labelled in the last row only.
            axes[index - columns].tick_params(labelbottom=True)
        figure.supxlabel("budget per item, % of the features' norm, all modalities jointly", fontsize=8)
        figure.supylabel("Recall@20", fontsize=8)
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside upper center", ncols=len(labels), frameon=False)
        with atomic_write(path) as file:
            figure.savefig(file, format="png", dpi=150)


def page(folder: Path) -> str:
    """The whole page; writes the pictures and the full tables beside it."""
    parts = [
        "# The backbones under attack",
        "Recall@20 on test, one seed each: small differences may be chance. Every backbone in the setting that an "
        "equal search on validation chose (`benchmarks/results/quality`), undefended. Budgets are per item, L2, "
        "relative to the item's clean features; white box; the attacker knows the test positives (the literature's "
        "upper bound); the item graph is rebuilt from his features unless it says frozen. *suite*: "
        '`suite("standard")`, the part with the lowest mean; *each user\'s worst*: the mean over users of the worst '
        "that any part did to each; *by one step*: the share of the suite's loss that the single step finds. Made by "
        "`mmgraph bench full` with `--set seeds=[0]` and `--set 'defenses=[{name=\"none\"}]'`, and "
        "`python -m benchmarks.robustness.table runs/full`. Figures were taken while the attacks grew; what has "
        "changed since the oldest of them (promotions rank the catalogue in every step, and the clean point competes) "
        "was tried again on hm's VBPR, LGMRec, SLMRec, DualGNN and FREEDOM, with the same models: exposures agree to "
        "within 2e-5. None of these attacks aimed at the recall itself, as today's suite does (`docs/robustness.md`): "
        "what they left is an upper bound.",
    ]
    for own in sorted(path for path in folder.iterdir() if path.is_dir()):
        entries = sorted(read_entries(own), key=lambda e: -e["clean"]["metrics"][METRIC])
        if not entries:
            continue
        name = own.name
        picture(entries, folder / f"{name}.png")
        write_text(own / "full.md", to_markdown(full(entries, METRIC)) + "\n")
        parts += [
            f"## {name}",
            f"![Recall@20 against the budget]({name}.png)",
            f"All modalities jointly, {format_budget(BUDGET)}:",
            joint_table(entries),
            "The suite, all modalities jointly, at every budget:",
            budget_table(entries, "Suite"),
            "The single step of the literature at the same budgets:",
            budget_table(entries, "SingleStep"),
            f"Each modality alone, {format_budget(BUDGET)}:",
            modality_table(entries),
            f"Item graph frozen or rebuilt, all modalities jointly, {format_budget(BUDGET)}:",
            graph_table(entries),
            "Promotion of the attacker's own cold items by the suite, all modalities jointly:",
            promotion_table(entries),
            "What the evaluation says against itself:",
            doubts(entries),
            f"All attacks, budgets, modalities and policies: [{name}/full.md]({name}/full.md).",
        ]
    for title, measured in sections(folder, "What it costs"):
        parts += [title, cost_table(measured)]
    return "\n\n".join(parts) + "\n"


def cost_table(cost: dict[str, Any]) -> str:
    """Seconds of an attack's step beside those of a training step, and of the whole suite."""
    lines = [
        f"On {cost['dataset']}, {cost['threads']} threads, medians of {cost['repeats']}; the suite once. A "
        "training step is forward, loss and backward, 2,048 triples, without the optimiser; an attack's step is what "
        "each of 40 steps more adds to PGD, all known positives ranked from time to time included. Where no item "
        "graph is read (VBPR, MMGCN), frozen and rebuilt are the same work, and differ by what the "
        "measurement is uncertain.",
        "",
        "| backbone | training step, ms | attack's step, frozen, ms | ratio | rebuilt, ms | ratio | suite, s |",
        "|---|---:|---:|---:|---:|---:|---:|",
    ]
    for name, own in cost["models"].items():
        train, frozen, rebuilt = own["training_step"], own["attack_step"]["frozen"], own["attack_step"]["rebuilt"]
        lines.append(
            f"| {name} | {1e3 * train:.1f} | {1e3 * frozen:.1f} | {frozen / train:.2f} | {1e3 * rebuilt:.1f} "
            f"| {rebuilt / train:.2f} | {own['suite']:.0f} |"
        )
    return "\n".join(lines)


def _attackable(entries: Iterable[Entry]) -> list[Entry]:
    return [entry for entry in entries if entry["feature_path"] != "none"]


def _plain(attack: Entry) -> bool:
    return attack["goal"]["name"] == "Untargeted" and attack["graph"] == "rebuilt"


def _left(attack: Entry | None) -> float | None:
    return None if attack is None else float(attack["metrics"][METRIC])


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"


def _change(clean: float, value: float | None) -> str:
    return "" if value is None else f"{100 * (value / clean - 1):+.0f} %".replace("-", "\N{MINUS SIGN}")


def _with_change(clean: float, value: float | None) -> str:
    return "" if value is None else f"{value:.4f} ({_change(clean, value)})"


def keep(run: Path, folder: Path = RESULTS) -> list[Path]:
    """Writes what a run folder holds of undefended models, seed 0, into the results: a file for each, with all attacks.

    Args:
        run: The run folder.
        folder: The results, a folder for each data set.
    """
    written = []
    for entry in read_source(run):
        # The page has a row for each backbone.
        if entry["defense"] != "none" or entry["seed"] != 0:
            continue
        path = folder / entry["dataset"] / f"{entry['model']}-{entry['defense']}-seed{entry['seed']}.json"
        write_json(path, without_users(entry))
        written.append(path)
    return written


def main(
    runs: Annotated[list[Path] | None, typer.Argument(help="Run folders whose entries are added.")] = None,
) -> None:
    """Writes the page of the results anew."""
    for run in runs or []:
        for path in keep(run):
            print(f"added {path}")
    write_text(RESULTS / "README.md", page(RESULTS))
    print(f"written to {RESULTS / 'README.md'}")


if __name__ == "__main__":
    typer.run(main)
