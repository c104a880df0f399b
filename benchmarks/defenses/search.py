"""One defense on one backbone: candidates on validation, clean and attacked; the chosen one on test with all seeds."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Literal

from torch_geometric.data import HeteroData

from benchmarks import options
from benchmarks.trained import train_once, waiting
from mmgraph_robust import data, defenses, evaluate, load_model, models, read_mmrec, save_model
from mmgraph_robust.attacks import PGD, Attack, GraphRelaxation, ThreatModel, modality_sets, suite
from mmgraph_robust.defenses import Defense, WrappedModel
from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.evaluation import modality_shares
from mmgraph_robust.experiment.build import check_device
from mmgraph_robust.experiment.files import read_values
from mmgraph_robust.experiment.provenance import provenance
from mmgraph_robust.models import Recommender
from mmgraph_robust.training import data_hash
from mmgraph_robust.training.checkpoint import describe_model
from mmgraph_robust.utils import hash_json, read_json, write_json
from mmgraph_robust.version import ATTACK_VERSION, TRAINING_VERSION

RESULTS = options.RESULTS / "defenses"
METRIC = "recall@20"
Split = Literal["validation", "test"]
# By whether features act through an item graph only; of several, what leaves less. Candidates were judged before there
# was an objective that aims at the recall itself, and still are: what is attacked harder is what the search has chosen.
JUDGES: dict[Split, dict[bool, tuple[Attack, ...]]] = {
    "validation": {False: (PGD(objective="ndcg"),), True: (GraphRelaxation(25, objective="ndcg"),)},
    "test": {
        False: (PGD(), PGD(objective="ndcg")),
        True: (GraphRelaxation(25), GraphRelaxation(25, objective="ndcg")),
    },
}
# The version of the attacks that these are of on validation. A later one has changed none of them, but for how
# TrustedItemGraph looks to them: its five candidates on hm's FREEDOM, judged again, differ by .0012 at most.
_JUDGED_BY = 5
_OWN_KEYS = (
    "control", "picked", "name", "fixed", "start", "training", "without", "model", "data", "models", "wrapper",
    "further",
)  # fmt: skip

Settings = dict[str, Any]
Record = dict[str, Any]
Told = dict[tuple[str, str], Record]


@cache
def spaces() -> dict[str, Any]:
    """What is searched, trained on and attacked with."""
    return read_values(Path(__file__).parent / "spaces.toml")


def pick(part: str, name: str) -> dict[str, Any]:
    """An entry of the spaces.

    Raises:
        ConfigError: If there is none of that name.
    """
    known = spaces()[part]
    if name not in known:
        raise ConfigError(unknown_name(part, name, known))
    found: dict[str, Any] = known[name]
    return found


def read_data(name: str, folder: Path) -> HeteroData:
    """A data set by the name that it has in the spaces."""
    entry = pick("data", name)
    return read_mmrec(folder / entry["folder"], features=entry["features"])


def candidates(label: str, name: str | None = None, model: str | None = None) -> list[Settings]:
    """The arguments that a defense is tried with; one set where nothing is searched.

    Args:
        label: The defense.
        name: The data set; on some, with some backbones, the lists go further.
        model: The backbone.
    """
    entry = pick("defenses", label)
    further = entry.get("further", {}).get(name, {}).get(model, {})
    searched = {key: [*values, *further.get(key, [])] for key, values in entry.items() if key not in _OWN_KEYS}
    fixed = entry.get("fixed", {})
    if not searched:
        return [fixed]
    return [fixed | dict(zip(searched, values, strict=True)) for values in zip(*searched.values(), strict=True)]


def backbones_for(name: str) -> list[str]:
    """The backbones that are searched on a data set: all that are not for others."""
    return [model for model, entry in spaces()["models"].items() if name in entry.get("data", [name])]


def check_backbone(name: str, model: str) -> None:
    """Sees that a backbone is searched on a data set.

    Raises:
        ConfigError: If there is none of that name, or it is for another data set.
    """
    entry = pick("models", model)
    if model not in backbones_for(name):
        raise ConfigError(f"'{model}' is searched on {', '.join(entry['data'])}, not on {name}")


def labels_for(name: str, model: str) -> list[str]:
    """The defenses that are tried on a data set and a backbone: all that are not for others."""
    return [
        label
        for label, entry in spaces()["defenses"].items()
        if name in entry.get("data", [name]) and model in entry.get("models", [model])
    ]


@dataclass(frozen=True)
class _Training:
    """What is to be trained, and the file that its model has by all that it is made of.

    Attributes:
        model: The backbone's label.
        label: The defense's.
        arguments: The defense's.
        seed: Of the parameters and of the training.
        begun: The training whose model it begins with, if it does.
        path: The file.
        item_graph: Whether features act through an item graph only.
    """

    model: str
    label: str
    arguments: Settings
    seed: int
    begun: _Training | None
    path: Path
    item_graph: bool


@dataclass(frozen=True)
class Trainer:
    """Trains each (backbone, defense, arguments, seed) once; `work` holds what was done, and a killed training goes on.

    Attributes:
        data: The data set.
        work: A folder for models, checkpoints and records.
        progress: Whether bars are shown.
        told: What earlier results tell (:func:`told_by`): it is not done again, whether or not the models are still in
            `work`.
        device: Where models are trained and attacked.
    """

    data: HeteroData
    work: Path
    progress: bool = True
    told: Told = field(default_factory=dict)
    device: str = "cpu"

    def __post_init__(self) -> None:
        check_device(self.device)

    def __call__(self, model: str, label: str, arguments: Settings, seed: int) -> Record:
        """How one training went, and what its model reaches on validation, clean and attacked."""
        training = self._planned(model, label, arguments, seed)
        return self._told(training, "validation") or self._validated(training)

    def anew(self, model: str, label: str, arguments: Settings, seed: int) -> Record:
        """The same, whatever earlier results tell."""
        return self._validated(self._planned(model, label, arguments, seed))

    def tested(self, model: str, label: str, arguments: Settings, seed: int) -> Record:
        """The same, and under ``test`` what the model reaches on the test split: clean, attacked, and what each
        modality carries.
        """
        training = self._planned(model, label, arguments, seed)
        record, test = self._told(training, "validation"), self._told(training, "test")
        # Only together: a model that is trained anew is that of before but for rounding, or a device.
        if record is None or test is None:
            record, test = self._validated(training), self._judged(training, "test", self._test)
        # What it carries on validation is a matter of candidates.
        return {name: value for name, value in record.items() if name != "validation_carries"} | {"test": test}

    def knows(self, model: str, label: str, arguments: Settings, seed: int) -> bool:
        """Whether earlier results tell what :meth:`tested` gives."""
        training = self._planned(model, label, arguments, seed)
        return all(self._told(training, split) for split in ("validation", "test"))

    def _told(self, training: _Training, split: Split) -> Record | None:
        return self.told.get((training.path.name, attacks_key(training.item_graph, split)))

    def _planned(self, model: str, label: str, arguments: Settings, seed: int) -> _Training:
        start = pick("defenses", label).get("start", "none" if _comes_late(label) else None)
        begun = None if start is None else self._planned(model, start, candidates(start)[0], seed)
        plain, training = self._model(model, label, seed)
        victim = wrapped(plain, self.data, label, arguments, seed)
        defense = plugged(label, arguments)
        told = None if defense is None else defense.describe()
        parts = [type(victim).__name__, describe_model(victim), told, TRAINING_VERSION, training, seed]
        key = hash_json([*parts, data_hash(self.data), *([] if begun is None else [begun.path.name])])
        path = self.work / f"{model}-{key[:16]}.safetensors"
        return _Training(model, label, arguments, seed, begun, path, victim.feature_path == "graph")

    def _trained(self, planned: _Training) -> Record:
        """The record of a training whose model then lies in `work`."""
        path, label = planned.path, planned.label
        victim, training = self._model(planned.model, label, planned.seed)
        begun = None if planned.begun is None else self._trained(planned.begun)
        if planned.begun is not None:
            victim.load_state_dict(load_model(planned.begun.path).state_dict())
        victim = wrapped(victim, self.data, label, planned.arguments, planned.seed)
        victim = victim.to(self.device)
        if begun is not None and _comes_late(label):
            if not path.exists():
                save_model(victim, path, self.data)
            return begun | {"file": path.name}
        record = train_once(
            path, victim, self.data, plugged(label, planned.arguments), planned.seed,
            checkpoint=path.with_suffix(".pt"), progress=self.progress, **training,
        )  # fmt: skip
        path.with_suffix(".pt").unlink(missing_ok=True)
        return record

    def _validated(self, planned: _Training) -> Record:
        return self._trained(planned) | self._judged(planned, "validation", self._validate)

    def carrying(self, record: Record) -> Record:
        """A record with what each modality carries on validation, too; as it is where the model that it tells of does
        not lie in `work`.
        """
        path = self.work / record["file"]
        if "validation_carries" in record or not path.exists():
            return record
        kept = path.with_suffix(".carries.json")
        shares = self._once(kept, lambda: modality_shares(load_model(path).to(self.device), self.data, split="val"))
        # A model that was trained anew, elsewhere, is not the one of the record.
        same = all(share["clean"] == record["validation"] for share in shares.values())
        return record | {"validation_carries": shares} if same else record

    def _once(self, kept: Path, make: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What a file holds, made first where it is not there."""
        with waiting(kept.with_suffix(".lock")):
            if not kept.exists():
                write_json(kept, make())
        found: dict[str, Any] = read_json(kept)
        return found

    def refusal(self, model: str, label: str, name: str | None = None) -> str | None:
        """Why a defense has nothing to act on in that backbone, if so.

        What would be trained (on the data set `name`) is built for it: a mistake is raised before hours of work.

        Raises:
            ConfigError: If a defense cannot be built, or only some of its candidates have something to act on.
        """
        reasons, tried = [], candidates(label, name, model)
        for arguments in tried:
            plain, _ = self._model(model, label, 0)
            defense = plugged(label, arguments)
            # What goes around the model besides is no defense that could refuse it.
            victim = plain if defense is None else wrapped(plain, self.data, label, arguments, 0)
            try:
                if defense is None:
                    wrapped(plain, self.data, label, arguments, 0)
                else:
                    defense.setup(victim, self.data, victim.graph(self.data))
            except ConfigError as error:
                reasons.append(str(error))
        # What some candidates can do is not refused: those that cannot are wrong.
        if reasons and len(reasons) < len(tried):
            raise ConfigError(f"'{label}' on {model}, candidate by candidate: {reasons[0]}")
        return reasons[0] if reasons else None

    def _judged(
        self, training: _Training, split: Split, judge: Callable[[Recommender, Path], dict[str, Any]]
    ) -> dict[str, Any]:
        """What `judge` says of a trained model, done once for the same attacks and budgets."""
        path, key = training.path, attacks_key(training.item_graph, split)
        kept = path.with_suffix(f".{split}-{key[:8]}.json")
        return self._once(kept, lambda: judge(load_model(path).to(self.device), path)) | {"attacks_key": key}

    def _validate(self, model: Recommender, _: Path) -> dict[str, Any]:
        budget = spaces()["search"]["budget"]
        return {
            "validation": evaluate(model, self.data, split="val", k=(20,))[METRIC],
            "validation_attacked": self.attacked(model, model.modalities, budget, "validation"),
        }

    def _model(self, model: str, label: str, seed: int) -> tuple[Recommender, Settings]:
        entry, chosen = pick("defenses", label), pick("models", model)
        training = spaces()["training"] | chosen.get("training", {})
        for key, factor in entry.get("training", {}).items():
            whole = "max_epochs" if key == "min_epochs" else key
            training[key] = max(1, int(training[whole] * factor))
        if "model" in entry:
            # Another backbone, in its own settings.
            name = entry["model"][model]
            own = spaces()["ids"][name]
            other: Recommender = getattr(models, name).from_data(self.data, **own["arguments"], seed=seed)
            return other, spaces()["training"] | own["training"]
        names = [m for m in data.modalities(self.data) if m != entry.get("without")]
        arguments = dict(chosen["arguments"])
        if scale := arguments.get("feature_scale"):
            arguments["feature_scale"] = {m: factor for m, factor in scale.items() if m != entry.get("without")}
        return backbone(model).from_data(self.data, modalities=names, **arguments, seed=seed), training

    def attacked(self, model: Recommender, names: tuple[str, ...], budget: float, split: Split) -> float | None:
        """The recall under the attacks that judge `split` and know its positives; None where the model reads no
        features.
        """
        if not names or model.feature_path == "none":
            return None
        part: Literal["val", "test"] = "val" if split == "validation" else "test"
        threat = ThreatModel(names, budget, labels=part)
        outcomes = [judge(model, self.data, threat, seed=0, progress=self.progress) for judge in alone(model, split)]
        return min(evaluate(model, outcome.data, split=part, k=(20,))[METRIC] for outcome in outcomes)

    def _test(self, model: Recommender, path: Path) -> dict[str, Any]:
        attacks = []
        if model.feature_path != "none":
            for budget in spaces()["test"]["budgets"]:
                for names in modality_sets(model.modalities):
                    left = self.attacked(model, tuple(names), budget, "test")
                    told = {"attack": type(alone(model, "test")[0]).__name__, "modalities": names, "budget": budget}
                    attacks.append(told | {METRIC: left})
                threat = ThreatModel(model.modalities, budget)
                unfinished = path.with_suffix(".suite")
                ensemble = suite("standard", folder=unfinished)
                found = ensemble(model, self.data, threat, seed=0, progress=self.progress)
                attacks.append(
                    {
                        "attack": "suite", "modalities": list(model.modalities), "budget": budget,
                        METRIC: found.after[METRIC], "flags": found.flags,
                        "worst_per_user": found.details["worst_per_user"][METRIC],
                    }
                )  # fmt: skip
        clean = evaluate(model, self.data, split="test", k=(10, 20))
        shutil.rmtree(path.with_suffix(".suite"), ignore_errors=True)
        return {
            "clean": clean, "attacks": attacks, "carries": modality_shares(model, self.data),
            "provenance": provenance(self.data, self.device),
        }  # fmt: skip


def alone(model: Recommender, split: Split) -> tuple[Attack, ...]:
    """The attacks that are run beside the suite, or instead of it: of a kind that acts on the model."""
    return JUDGES[split][model.feature_path == "graph"]


def attacks_key(item_graph: bool, split: Split) -> str:
    """What a model was judged by, as a hash: figures of the same key are comparable.

    Args:
        item_graph: Whether features act through an item graph only.
        split: What it was judged on.
    """
    version, budgets = ATTACK_VERSION, spaces()["test"]["budgets"]
    if split == "validation":
        version, budgets = _JUDGED_BY, spaces()["search"]["budget"]
    judges = [judge.describe() for judge in JUDGES[split][item_graph]]
    return hash_json([version, *judges, suite("standard").describe(), budgets])


def told_by(folder: Path) -> Told:
    """What the results in a folder tell of trainings, by the file of the model and the key of what it was judged by."""
    found: Told = {}
    for path in sorted(folder.glob("*.json")):
        result = read_json(path)
        for record in [*result.get("candidates", ()), *result.get("runs", ())]:
            test = record.get("test", {})
            if "attacks_key" in record:
                key = record["file"], record["attacks_key"]
                own = {name: value for name, value in record.items() if name not in ("arguments", "test")}
                before = found.get(key, {})
                # The same model may stand in several places, and what it carries in one of them.
                found[key] = (before if before.get("validation") == own["validation"] else {}) | own
            if "attacks_key" in test:
                found[record["file"], test["attacks_key"]] = test
    return found


def backbone(model: str) -> type[Recommender]:
    """The class of the backbone of that label."""
    found: type[Recommender] = getattr(models, pick("models", model).get("name", model))
    return found


def defense_class(label: str) -> type[Defense] | type[WrappedModel] | None:
    """The class of the defense of that label; None where the model is trained as it is."""
    entry = pick("defenses", label)
    name = entry.get("name", label)
    plain = name == "none" or ("name" not in entry and ("without" in entry or "model" in entry))
    found: type[Defense] | type[WrappedModel] | None = None if plain else getattr(defenses, name)
    return found


def _comes_late(label: str) -> bool:
    """Whether a defense is put around a trained model."""
    kind = defense_class(label)
    return kind is not None and issubclass(kind, WrappedModel) and not kind.trains


def plugged(label: str, arguments: Settings) -> Defense | None:
    """What the defense of that label plugs into the training; None where it plugs in nothing."""
    kind = defense_class(label)
    return None if kind is None or issubclass(kind, WrappedModel) else kind(**arguments)


def wrapped(model: Recommender, data: HeteroData, label: str, arguments: Settings, seed: int) -> Recommender:
    """The model with what the defense of that label, or its wrapper, puts around it; itself where it puts nothing."""
    kind = defense_class(label)
    if kind is not None and issubclass(kind, WrappedModel):
        return kind(model, data, **arguments, seed=seed)
    entry = pick("defenses", label)
    if "wrapper" not in entry:
        return model
    found: Recommender = getattr(defenses, entry["wrapper"]["name"])(
        model, data, **{key: value for key, value in entry["wrapper"].items() if key != "name"}, seed=seed
    )
    return found


def keeping(tried: Sequence[Record], undefended: Record) -> list[Record]:
    """The candidates that keep the undefended model's clean recall on validation."""
    floor = (1 - spaces()["search"]["max_clean_loss"]) * undefended["validation"]
    return [record for record in tried if record["validation"] >= floor]


def carried(share: dict[str, float]) -> float:
    """The recall that is lost when every item has the modality's mean features."""
    return share["clean"] - share["mean_features"]


def hearing(tried: Sequence[Record], undefended: Record) -> list[Record]:
    """The candidates in which each modality still carries, on validation, the least share of what it carries in the
    undefended model.

    A modality counts where it carries more in the undefended model than a candidate may lose in clean recall. What is
    not known, as of models that are gone, excludes none.
    """
    search, shares = spaces()["search"], undefended.get("validation_carries", {})
    floors = {m: search["min_carried"] * carried(share) for m, share in shares.items()}
    noise = search["min_carried"] * search["max_clean_loss"] * undefended["validation"]

    def hears(record: Record) -> bool:
        found = record.get("validation_carries", {})
        return all(carried(found[m]) >= floor for m, floor in floors.items() if m in found and floor > noise)

    return [record for record in tried if hears(record)]


def choose(tried: Sequence[Record], undefended: Record) -> Record:
    """The most robust candidate on validation of those that keep the undefended model's clean recall and what each of
    its modalities carries; where none does both, of those that keep the recall.

    Where none keeps it, the one that loses least, and of several that lose the same the most robust.
    """
    kept = keeping(tried, undefended)
    if not kept or any(record["validation_attacked"] is None for record in kept):
        return max(tried, key=lambda record: (float(record["validation"]), record["validation_attacked"] or 0.0))
    return max(hearing(kept, undefended) or kept, key=lambda record: float(record["validation_attacked"]))


def search(name: str, model: str, label: str, trainer: Trainer, seeds: int) -> dict[str, Any]:
    """Tries all candidates with the first seed, chooses on validation, and only then reads the test split."""
    every = spaces()["search"]["seeds"]
    if seeds > len(every):
        raise ConfigError(f"'seeds' expects at most the {len(every)} of spaces.toml (got {seeds})")
    undefended = trainer.carrying(trainer(model, "none", {}, every[0]))
    tried = [
        {"arguments": a, **trainer.carrying(trainer(model, label, a, every[0]))} for a in candidates(label, name, model)
    ]
    for _ in tried:
        best = choose(tried, undefended)
        if len(tried) == 1 or "validation_carries" in best or not undefended.get("validation_carries"):
            break
        # That an earlier result does not tell it is no advantage.
        best |= trainer.carrying(trainer.anew(model, label, best["arguments"], every[0]))
    chosen = choose(tried, undefended)["arguments"]
    # What earlier results tell of more seeds is not dropped.
    seeds = max([seeds, *(n for n, seed in enumerate(every, 1) if trainer.knows(model, label, chosen, seed))])
    runs = [trainer.tested(model, label, chosen, seed) for seed in every[:seeds]]
    return {
        "schema": 1,
        "dataset": name,
        "model": model,
        "defense": label,
        "candidates": tried,
        "chosen": chosen,
        "runs": runs,
        "provenance": provenance(trainer.data, trainer.device),
    }
