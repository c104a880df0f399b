"""``python -m benchmarks.defenses.ablation hm VBPR ModalityBalancing``: one argument at a time, as a picture."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import matplotlib as mpl
import typer
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from benchmarks import options
from benchmarks.costs import device_of
from benchmarks.defenses.search import RESULTS, Trainer, check_backbone, pick, read_data, spaces, told_by
from mmgraph_robust import defenses
from mmgraph_robust.data import modalities
from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.experiment.build import check_device
from mmgraph_robust.utils import atomic_write, device_name, read_json, write_json

_COLUMNS = 4
_CLEAN, _ATTACKED = "#0072B2", "#D55E00"


def ablate(
    trainer: Trainer, model: str, defense: str, only: Sequence[str] = (), known: dict[str, Any] | None = None
) -> dict[str, Any]:
    """Every value of every argument, the others at their base; what was trained before is not trained again.

    Args:
        trainer: What trains and judges.
        model: The backbone.
        defense: The defense.
        only: Arguments that are looked at (default: all).
        known: An earlier result, whose other panels are kept.

    Raises:
        ConfigError: If an argument is not ablated, or the earlier result's undefended figures are others than today's.
    """
    plan = pick("ablations", defense)
    # With every default, so that the picture can show it.
    whole = getattr(defenses, defense)(**plan["base"]).describe()
    for argument in only:
        if argument not in plan or argument == "base":
            raise ConfigError(unknown_name("argument that is ablated", argument, [a for a in plan if a != "base"]))
    seed = spaces()["search"]["seeds"][0]
    for argument, values in plan.items():
        for value in values if argument != "base" else ():
            getattr(defenses, defense)(**plan["base"] | {argument: _bound(value)})
    none = trainer(model, "none", {}, seed)
    undefended = {"clean": none["validation"], "attacked": none["validation_attacked"]}
    if known is not None and known["undefended"] != undefended:
        raise ConfigError(f"the earlier result's undefended figures are {known['undefended']}, today's {undefended}")
    panels: dict[str, list[dict[str, Any]]] = {}
    for argument, values in plan.items():
        if argument == "base":
            continue
        if only and argument not in only:
            if known is not None and argument in known["panels"]:
                panels[argument] = known["panels"][argument]
            continue
        panels[argument] = []
        for value in map(_bound, values):
            # What names a modality names one of another data set.
            if argument == "sensitive" and value not in ("all", *modalities(trainer.data)):
                continue
            record = trainer(model, defense, plan["base"] | {argument: value}, seed)
            panels[argument].append(
                {"value": value, "clean": record["validation"], "attacked": record["validation_attacked"]}
            )
    return {
        "schema": 1,
        "model": model,
        "defense": defense,
        "base": plan["base"] | {argument: whole[argument] for argument in panels},
        "undefended": undefended,
        "panels": panels,
    }


def draw(result: dict[str, Any], path: Path) -> None:
    """One panel per argument: clean and attacked recall, the undefended model as lines across."""
    panels = result["panels"]
    columns = min(_COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    with mpl.rc_context({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False}):
        figure = Figure(
            figsize=(2.4 * columns + 2.4 * (columns == 1), 1.9 * rows + 0.7 + 0.2 * (columns < _COLUMNS)),
            layout="constrained",
        )
        FigureCanvasAgg(figure)
        axes = figure.subplots(rows, columns, sharey=True, squeeze=False).flatten()
        for axis, (argument, points) in zip(axes, panels.items(), strict=False):
            _panel(axis, argument, points, result)
        # Once all is drawn: the axes share it, and a limit that is set stays.
        axes[0].set_ylim(bottom=0)
        for axis in axes[len(panels) :]:
            axis.set_axis_off()
        for row in range(rows):
            axes[row * columns].set_ylabel("Recall@20 (validation)")
        handles, labels = axes[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=4 if columns == _COLUMNS else 2, frameon=False)
        figure.suptitle(f"{result['defense']} on {result['model']}, {result['dataset']}; grey: the base")
        with atomic_write(path) as file:
            figure.savefig(file, format="png", dpi=130)


def _panel(axis: Axes, argument: str, points: list[dict[str, Any]], result: dict[str, Any]) -> None:
    base = result["base"].get(argument)
    if all(point["value"] != base for point in points):
        # The base is a value of every panel's; another one has measured it.
        points = points + [point | {"value": base} for point in _base_point(result)]
    places = range(len(points))
    for key, color, marker in (("clean", _CLEAN, "o"), ("attacked", _ATTACKED, "s")):
        values = [point[key] for point in points]
        label = key if key == "clean" else "attacked, 5 %, all modalities"
        axis.plot(places, values, color=color, marker=marker, markersize=4, label=label)
        axis.axhline(result["undefended"][key], color=color, linestyle=":", linewidth=1, label=f"undefended, {key}")
    axis.set_xticks(list(places), [_name(argument, point["value"]) for point in points])
    axis.set_title(argument)
    axis.set_xlim(-0.5, len(points) - 0.5)
    for place, point in zip(places, points, strict=True):
        if point["value"] == base:
            axis.axvspan(place - 0.2, place + 0.2, color="0.9", zorder=0)


def _base_point(result: dict[str, Any]) -> list[dict[str, Any]]:
    found = [p for name, points in result["panels"].items() for p in points if p["value"] == result["base"][name]]
    return found[:1]


def _bound(value: object) -> object:
    """A value as the defense takes it: no bound is :obj:`None`, which TOML does not have."""
    return None if value == math.inf else value


def _name(argument: str, value: object) -> str:
    if value is None:
        return "\N{INFINITY}" if argument == "eps" else "all"
    if isinstance(value, bool):
        return "on" if value else "off"
    return f"{value:g}" if isinstance(value, int | float) else str(value)


def main(
    name: options.Data,
    model: options.Model,
    defense: Annotated[str, typer.Argument(help="The defense, as the ablations in spaces.toml name it.")],
    threads: options.Threads = 0,
    device: options.Device = "cpu",
    folder: options.Folder = options.DATA,
    work: options.Work = Path("runs/defenses"),
    out: options.Out = RESULTS,
    only: Annotated[str, typer.Option(help="Arguments, separated by commas; of others, earlier panels are kept.")] = "",
    progress: options.Progress = True,
) -> None:
    """Ablates a defense on one backbone; goes on where it was killed."""
    check_device(device)
    check_backbone(name, model)
    pick("ablations", defense)
    stem = options.file_name("ablation", name, model, defense)
    path = out / f"{stem}.json"
    known = read_json(path) if only and path.exists() else None
    place = device_name(device)
    if known is not None and device_of(known) != place:
        raise ConfigError(f"{path} holds panels of {device_of(known)}: name another folder by --out")
    with options.measuring(threads):
        trainer = Trainer(read_data(name, folder), work / name, progress, told_by(out / name), device)
        about = {"dataset": name, "device": place}
        result = about | ablate(trainer, model, defense, options.listed(only), known)
    write_json(path, result)
    draw(result, out / f"{stem}.png")
    print(f"written to {out / stem}.png")


if __name__ == "__main__":
    typer.run(main)
