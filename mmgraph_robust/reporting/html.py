"""One self-contained page."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

from mmgraph_robust.reporting.board import ALL, Board, Line, flag_texts, make_board
from mmgraph_robust.reporting.cards import Card, make_cards
from mmgraph_robust.reporting.cells import DOUBTFUL, MISSING, NOT_APPLICABLE, format_change, metric_label, number_cell
from mmgraph_robust.reporting.changes import later_attacks
from mmgraph_robust.reporting.comparisons import comparison_table, comparisons
from mmgraph_robust.reporting.entries import Entry
from mmgraph_robust.reporting.findings import sentences
from mmgraph_robust.reporting.forms import to_html
from mmgraph_robust.reporting.goals import goal_table
from mmgraph_robust.reporting.overview import overview, scope
from mmgraph_robust.reporting.pairing import Comparison
from mmgraph_robust.reporting.plots import plot_budget_curve, plot_margins, plot_training
from mmgraph_robust.reporting.ranks import rank_table
from mmgraph_robust.reporting.scatter import COLOURS, charts, readers, shape_path
from mmgraph_robust.reporting.summary import Row, choose_settings, summarize
from mmgraph_robust.reporting.tables import full, headline, sensitive_table, training_table
from mmgraph_robust.reporting.unwelcome import unwelcome
from mmgraph_robust.utils import write_text

# Tables up to this length are open from the beginning, pages up to this many rows show every metric of each.
_SHORT = 16
_FEW = 1000


def write_page(
    entries: Sequence[Entry],
    path: str | Path,
    title: str = "Robustness report",
    metric: str = "recall@20",
    *,
    about: Mapping[str, str] | None = None,
    compared: Sequence[Comparison] | None = None,
) -> None:
    """Writes the report of some result entries as one HTML file that needs no network.

    Its leaderboard can be sorted and filtered; without JavaScript it is a table that stands.

    Args:
        entries: Result entries.
        path: The file.
        title: Its title.
        metric: The metric of the leaderboard and of the pictures.
        about: What a reader has to know about how the numbers came to be, such as equal budgets of tuning: terms and
            texts, shown near the top.
        compared: What :func:`comparisons` returned for these entries and this metric (default: it is called).

    Raises:
        CheckpointError: If an entry is incomplete or occurs twice.
        ConfigError: If no entry has the metric.
        DataError: If there are no entries.
    """
    rows = summarize(entries)
    board, cards = make_board(rows, metric), make_cards(entries, metric)
    sensitive, goals = sensitive_table(entries), goal_table(entries)
    headlines = [(own[0].dataset, headline(own, metric)) for own in _by_dataset(rows)]
    clean = [row for row in rows if row.attack is None]
    joint = [row for row in rows if row.modalities == board.modalities.get(row.dataset)]
    alone = [row for row in rows if row.attack is not None and row.modalities != board.modalities.get(row.dataset)]
    curves = _pictures(plot_budget_curve([*clean, *joint], metric))
    more_curves = _pictures(plot_budget_curve([*clean, *alone], metric))
    defended = [row for row in rows if not row.undefended]
    chosen = choose_settings(rows, metric)
    if compared is None:
        compared = comparisons(entries, metric, settings=chosen)
    compared = [one for one in compared if one.setting is None or one.setting in chosen]
    several = len({row.line[1:] for row in rows}) > 1
    page = _environment().get_template("report.html.j2").render(
        title=title,
        metric=metric_label(metric),
        about=about or {},
        scope=scope(board),
        overview=overview(board),
        sentences=sentences(rows, metric),
        unwelcome=unwelcome(rows, metric),
        board=board,
        board_notes=_board_notes(board, entries),
        compared=comparison_table(compared, metric) if compared else None,
        ranks=rank_table(rows, metric) if several else None,
        lines=_board_lines(board, cards),
        data=board.describe(),
        charts=charts(board),
        readers=readers(board),
        colours=COLOURS,
        shapes=[shape_path(k) for k in range(len(board.names("defense")))],
        curves=curves or more_curves,
        more_curves=more_curves if curves else [],
        sensitive=sensitive if sensitive.rows else None,
        headlines=[(name, table, len(table.rows) <= _SHORT) for name, table in headlines],
        margins=_pictures(plot_margins([row for row in rows if row.undefended], metric)),
        more_margins=_pictures(plot_margins(defended, metric)),
        goals=goals if goals.rows else None,
        cards=cards,
        only=len(rows) > _FEW,
        full=full(rows if len(rows) <= _FEW else [_only(row, metric) for row in rows], metric),
        training=_pictures(plot_training(entries)),
        training_table=training_table(entries),
        made=_made(entries),
    )  # fmt: skip
    write_text(path, page)


def _environment() -> Environment:
    loader = PackageLoader("mmgraph_robust.reporting")
    environment = Environment(
        loader=loader,
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.policies["json.dumps_kwargs"] = {"separators": (",", ":"), "allow_nan": False}
    # Our own texts, and no others, run and give style: the page names their hashes to the browser.
    own = {"script": ("board.js",), "style": ("style.css", "board.css")}
    for name, files in own.items():
        text = "\n".join(loader.get_source(environment, file)[0] for file in files)
        environment.globals[name] = Markup(text)
        digest = hashlib.sha256(text.encode()).digest()
        environment.globals[f"{name}_hash"] = f"sha256-{base64.b64encode(digest).decode()}"
    # Safe to pass on: to_html has escaped every text of the table.
    environment.filters["table"] = lambda table: Markup(to_html(table))
    return environment


def _by_dataset(rows: Sequence[Row]) -> list[list[Row]]:
    return [[row for row in rows if row.dataset == name] for name in sorted({row.dataset for row in rows})]


def _only(row: Row, metric: str) -> Row:
    return replace(row, mean={metric: row.mean[metric]} if metric in row.mean else {})


# --- the leaderboard before its script comes to it; board.js writes the same ------------------------------------------


def _board_lines(board: Board, cards: Sequence[Card]) -> list[dict[str, Any]]:
    return [_board_line(line, board, [card for card in cards if card.line == line.clean.line]) for line in board.lines]


def _board_line(line: Line, board: Board, cards: Sequence[Card]) -> dict[str, Any]:
    metric, row, clean = board.metric, board.shown(line), line.clean
    found: dict[str, Any] = {
        "dataset": clean.dataset, "model": clean.model, "defense": clean.defense, "cards": cards,
        "clean": _value(clean, metric), "left": "not run", "change": MISSING, "kind": "unknown", "kept": 0.0,
        "doubts": [], "remarks": [], "notes": [], "others": line.doubtful,
    }  # fmt: skip
    if not line.reads:
        return found | {"left": NOT_APPLICABLE, "notes": ["reads no features"], "others": 0}
    if row is None:
        return found
    change = row.decline[metric]
    if change is not None:
        found["change"] = _unbroken(format_change(change, row.decline_std[metric]))
        found["kind"] = "loss" if change < -0.05 else "gain" if change > 0.05 else ""
        found["kept"] = round(max(0.0, min(100.0, 100 * row.mean[metric] / clean.mean[metric])), 1)
    notes = [f"{row.seeds} of {clean.seeds} seeds"] if row.seeds < clean.seeds else []
    if below := line.below(row, metric):
        notes.append(below)
    left = _value(row, metric) + (f" {DOUBTFUL}" if row.doubts else "")
    found |= {"left": left, "doubts": flag_texts(row.doubts), "remarks": flag_texts(row.remarks), "notes": notes}
    return found | {"others": 0} if row.doubts else found


def _value(row: Row, metric: str) -> str:
    return _unbroken(number_cell(row.mean[metric], row.std[metric])[0])


def _unbroken(number: str) -> str:
    # On narrow screens the line may break before the spread and nowhere else.
    return number.replace("± ", "±\N{NO-BREAK SPACE}").replace(" %", "\N{NO-BREAK SPACE}%")


def _board_notes(board: Board, entries: Sequence[Entry]) -> list[str]:
    meant = "; ".join(f"{' + '.join(found)} on {name}" for name, found in board.modalities.items())
    notes = [f"{ALL.capitalize()}: {meant}."] if meant else []
    notes += board.terms
    if any(line.clean.seeds > 1 for line in board.lines):
        notes.append("Mean ± sample standard deviation over seeds.")
    if any(line.clean.seeds == 1 for line in board.lines):
        notes.append("Where there is one seed, there is no ±, and small differences may be chance.")
    if any(line.doubtful for line in board.lines):
        notes.append(f"{DOUBTFUL} A check contradicts the number; open the mark for the reason.")
    later = later_attacks(entries)
    return [*notes, f"{later}."] if later else notes


# --- pictures and words -----------------------------------------------------------------------------------------------


def _pictures(figures: Sequence[tuple[str, Figure]]) -> list[dict[str, Any]]:
    found = []
    for _, figure in figures:
        width, height = (round(100 * inches) for inches in figure.get_size_inches())
        found.append({"alt": _alt(figure), "width": width, "height": height, "data": _webp(figure)})
    return found


def _alt(figure: Figure) -> str:
    panels = [ax.get_title().replace("\n", ", ") for ax in figure.axes if ax.axison]
    text = f"{figure.get_suptitle()}. Panels: {'; '.join(panels)}. The numbers are in the tables."
    return text.replace(r"\$", "$")


def _webp(figure: Figure) -> str:
    buffer = io.BytesIO()
    # Twice the width at which the page shows it, for screens of high density; without loss a third of a PNG's size.
    figure.savefig(buffer, format="webp", dpi=200, pil_kwargs={"lossless": True})
    return base64.b64encode(buffer.getvalue()).decode()


def _made(entries: Sequence[Entry]) -> str:
    made = [entry["provenance"] for entry in entries]
    days = sorted({str(one["created"])[:10] for one in made if one.get("created")})
    versions = sorted({str(one["version"]) for one in made if one.get("version")})
    text = f"{len(entries)} trainings"
    if days:
        text += f", made on {days[0]}" if len(days) == 1 else f", made from {days[0]} to {days[-1]}"
    return f"{text}, with mmgraph_robust {', '.join(versions)}." if versions else f"{text}."
