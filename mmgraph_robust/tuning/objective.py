"""What a trial does: train, attack on the validation split, return what is to be large."""

from __future__ import annotations

import math
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import optuna
import torch
from optuna.trial import Trial
from torch_geometric.data import HeteroData

from mmgraph_robust.data import Graph
from mmgraph_robust.data.item_graphs import with_item_graphs
from mmgraph_robust.defenses import WrappedModel
from mmgraph_robust.errors import ConfigError, NonFiniteError
from mmgraph_robust.evaluation import find_sensitive, robustness
from mmgraph_robust.experiment.build import build, finish
from mmgraph_robust.experiment.config import RunConfig
from mmgraph_robust.metrics import cutoff_of
from mmgraph_robust.models import Recommender
from mmgraph_robust.training import History, fit
from mmgraph_robust.tuning.config import StudyConfig
from mmgraph_robust.tuning.settings import Hyperband, Median, Wilcoxon
from mmgraph_robust.utils import hash_json

FAILURES = (NonFiniteError, MemoryError)
"""What fails a trial and not its study."""

OnEpoch = Callable[[History], None]
_KEPT_GRAPHS = 4


class Workbench:
    """One data set, loaded once, and its compiled graphs, each made once.

    Args:
        data: The data set.
        device: Where to compute.
    """

    def __init__(self, data: HeteroData, device: str = "cpu") -> None:
        self.data = data
        self.device = device
        self._graphs: OrderedDict[tuple[Any, ...], tuple[HeteroData, Graph]] = OrderedDict()

    def train(self, run: RunConfig, seed: int, on_epoch: OnEpoch | None) -> tuple[Recommender, History, HeteroData]:
        """Trains the one model of a run with its one defense.

        Returns:
            The model, what happened, and the data with the item graphs that the model reads.
        """
        component, plugged = run.models[0], run.defenses[0]
        model, defense = build(component, plugged, self.data, seed)
        model = model.to(self.device)
        # The item graphs of a model with another around it are not those of the model alone.
        data, graph = (self.data, None) if isinstance(model, WrappedModel) else self._compiled(model)
        settings = run.training | component.training | plugged.training
        history = fit(model, data, defense, seed=seed, progress=False, graph=graph, on_epoch=on_epoch, **settings)
        return finish(model, plugged, self.data, seed), history, data

    def _compiled(self, model: Recommender) -> tuple[HeteroData, Graph]:
        # Item graphs differ by their number of neighbours; the user-item graph is the same for all models. What a class
        # of somebody's makes of it may differ by any argument.
        kind = type(model)
        key: tuple[Any, ...] = () if model.knn_k is None else (model.knn_k, model.modalities)
        if kind.graph is not Recommender.graph or kind.item_graphs is not Recommender.item_graphs:
            key = (kind, hash_json({k: v for k, v in model.config.items() if k != "seed"}))
        if key not in self._graphs:
            graph = model.graph(self.data)
            data = self.data
            if graph.item_graphs:
                data = with_item_graphs(data, {m: a.to("cpu") for m, a in graph.item_graphs.items()})
            self._graphs[key] = data, graph
            while len(self._graphs) > _KEPT_GRAPHS:
                self._graphs.popitem(last=False)
        self._graphs.move_to_end(key)
        return self._graphs[key]


def find_reference(config: StudyConfig, bench: Workbench, on_epoch: OnEpoch | None = None) -> dict[str, Any]:
    """What undefended models with default values reach on the validation split, and their sensitive modality.

    Args:
        config: The study.
        bench: The data.
        on_epoch: Called after every epoch.

    Returns:
        By model: ``clean``, the median of the metric over the seeds, and ``sensitive``, found with the first seed.

    Raises:
        ConfigError: If a defense asks for the sensitive modality and none is found.
    """
    result = {}
    wanted = any(d.arguments.get("sensitive") == "auto" for d in config.run.defenses)
    for component in config.run.models:
        run = config.undefended(component.label)
        clean, sensitive = [], None
        for seed in run.seeds:
            model, _, data = bench.train(run, seed, on_epoch)
            clean.append(_measure(model, data, run, seed, attacked=False)["clean"])
            if wanted and sensitive is None:
                found = find_sensitive(model, data, metric=config.metric, seed=seed)
                if found is None:
                    raise ConfigError(
                        f"no sensitive modality was found for '{component.label}': name it as the defense's 'sensitive'"
                    )
                sensitive = found["by_metric"]
        result[component.label] = {"clean": median(clean), "sensitive": sensitive}
    return result


class Objective:
    """Trains the model of a trial with every seed, and returns the medians of what is searched for.

    Only the validation split is read. The attacker knows its positives at most.

    Args:
        config: The study.
        bench: The data.
        reference: What :func:`find_reference` returned, where the study needs it.
        on_epoch: Called after every epoch, for signs of life.
    """

    def __init__(
        self,
        config: StudyConfig,
        bench: Workbench,
        reference: Mapping[str, Any] | None = None,
        on_epoch: Callable[[], None] | None = None,
    ) -> None:
        self._config = config
        self._bench = bench
        self._reference = reference or {}
        self._sensitive = {label: r["sensitive"] for label, r in self._reference.items()}
        self._on_epoch = on_epoch

    def __call__(self, trial: Trial) -> float | tuple[float, ...]:
        """The values of one trial.

        Raises:
            TrialPruned: If the pruner ends it.
            NonFiniteError: If training or a value became NaN or infinite.
            MemoryError: If there was too little memory, on the CPU or on the device.
        """
        started = time.perf_counter()
        spent: list[History] = []
        try:
            return self._measured(trial, spent)
        except FAILURES as error:
            trial.set_user_attr("error", f"{type(error).__name__}: {error}")
            raise
        except RuntimeError as error:
            if not _is_out_of_memory(error):
                raise
            trial.set_user_attr("error", f"out of memory: {str(error).strip().partition(chr(10))[0]}")
            # Without the traceback, whose frames hold what filled the memory.
            raise MemoryError(str(error)) from None
        finally:
            trial.set_user_attr("epochs", sum(history.epochs for history in spent))
            trial.set_user_attr("seconds", round(time.perf_counter() - started, 3))
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def _measured(self, trial: Trial, spent: list[History]) -> float | tuple[float, ...]:
        config = self._config
        values = config.suggest(trial)
        run = config.run_config(values, self._sensitive)
        floor = self._floor(values["model"])
        seeds: list[dict[str, Any]] = []
        for index, seed in enumerate(run.seeds):
            on_epoch = self._watch(trial, spent, floor, curve=index == 0)
            model, history, data = self._bench.train(run, seed, on_epoch)
            result = _measure(model, data, run, seed, attacked=config.settings.objective != "clean")
            seeds.append(
                {"seed": seed, "best_epoch": history.best_epoch, "epochs": history.epochs,
                 "stopped_early": history.stopped_early, **result}
            )  # fmt: skip
            if isinstance(config.pruner, Wilcoxon):
                trial.report(self._values(result)[0], index)
                if index + 1 < len(run.seeds) and trial.should_prune():
                    self._constrain(trial, floor, median(r["clean"] for r in seeds))
                    raise optuna.TrialPruned
        medians = {key: median(r[key] for r in seeds) for key in ("clean", "attacked") if seeds[0][key] is not None}
        self._constrain(trial, floor, medians["clean"])
        for key, value in medians.items():
            trial.set_user_attr(key, value)
        trial.set_user_attr("best_epoch", median(r["best_epoch"] for r in seeds))
        trial.set_user_attr("seeds", seeds)
        chosen = self._values(medians)
        return chosen if len(chosen) > 1 else chosen[0]

    def _watch(self, trial: Trial, spent: list[History], floor: float | None, curve: bool) -> OnEpoch:
        # One curve can be compared with those of other trials: that of the first seed.
        reports = curve and isinstance(self._config.pruner, Median | Hyperband)

        def on_epoch(history: History) -> None:
            if not any(known is history for known in spent):
                spent.append(history)
            if self._on_epoch is not None:
                self._on_epoch()
            if not reports or history.monitor not in history.records[-1]:
                return
            # The best so far, which is what a training that stops early returns.
            trial.report(history.best, history.epochs)
            if trial.should_prune():
                self._constrain(trial, floor, history.best)
                raise optuna.TrialPruned

        return on_epoch

    def _values(self, result: Mapping[str, float]) -> tuple[float, ...]:
        values = tuple(result[name.split(" ", 1)[0]] for name in self._config.objectives)
        if not all(math.isfinite(value) for value in values):
            raise NonFiniteError(f"a trial's result is not finite: {dict(result)}")
        return values

    def _floor(self, model: str) -> float | None:
        settings = self._config.settings
        if settings.objective != "constrained":
            return None
        clean = settings.reference
        if clean == "undefended":
            clean = self._reference[model]["clean"]
        return (1 - settings.max_clean_loss) * float(clean)

    @staticmethod
    def _constrain(trial: Trial, floor: float | None, clean: float) -> None:
        if floor is not None:
            trial.set_constraint("clean loss", floor - clean)


def _measure(model: Recommender, data: HeteroData, run: RunConfig, seed: int, attacked: bool) -> dict[str, Any]:
    """The metric on the validation split, clean and under the attack that hurts most."""
    metric = run.evaluation.metric
    attacks = run.build_attacks(data) if attacked else []
    result = robustness(model, data, attacks, split="val", k=[cutoff_of(metric)], seed=seed, progress=False)
    worst = min((entry["metrics"][metric] for entry in result["attacks"]), default=None)
    return {"clean": result["clean"]["metrics"][metric], "attacked": worst}


def _is_out_of_memory(error: RuntimeError) -> bool:
    # The CPU's allocator has no error class of its own.
    return isinstance(error, torch.cuda.OutOfMemoryError) or "DefaultCPUAllocator" in str(error)
