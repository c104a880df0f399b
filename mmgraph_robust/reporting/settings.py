"""What was done to the features, told apart and named."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from mmgraph_robust.utils import hash_json

#: The attack that is no attack: random noise of the same size, the control of every claim.
CONTROL = "Noise"
_TERMS = ("goal", "items", "labels", "graph", "box")
_LABELS = {"train": "the training interactions", "val": "the validation interactions"}
_KNOWLEDGE = {
    "transfer": "the attacker knows other models only",
    "scores": "the attacker sees the scores of what he uploads",
    "ranks": "the attacker sees the ranked lists of what he uploads",
}


@dataclass(frozen=True)
class Setting:
    """What was done to the features: which attack, on what, how far.

    Args:
        attack: Name of the attack, with what tells it from others of its class: ``PGD``, ``PGD (steps=50) #2``.
        modalities: The attacked modalities.
        scope: ``"item"`` (a budget for each item) or ``"matrix"`` (one for all items together).
        norm: Norm of the budget.
        budget: Size of the change.
        relative: Whether that is relative to the clean features (0.05 is 5 %), or in their own unit.
        terms: What else the attacker may do and what he wants, in words; what is found by another key may lack it.
        knowledge: What he knows of the model; likewise.
        unusual: What of the threat is not as usual, in words; likewise.
    """

    attack: str
    modalities: tuple[str, ...]
    scope: str
    norm: str
    budget: float
    relative: bool = True
    terms: str = field(default="", compare=False)
    knowledge: str = field(default="white", compare=False)
    unusual: tuple[str, ...] = field(default=(), compare=False)

    @property
    def label(self) -> str:
        """For example ``PGD on visual at 5 % per item``."""
        return f"{self.short} {self.threat}"

    @property
    def short(self) -> str:
        """The label without what the budget binds, for example ``PGD on visual at 5 %``."""
        return f"{self.attack} on {'+'.join(self.modalities)} at {self.size}"

    @property
    def size(self) -> str:
        """The budget in per cent, or as it is where it is absolute."""
        return format_budget(self.budget) if self.relative else f"{self.budget:.3g}"

    @property
    def threat(self) -> str:
        """Scope of the budget in words, with its norm and kind where they are not the usual ones."""
        words = {"item": "per item", "matrix": "of the whole matrix"}.get(self.scope, self.scope)
        unusual = [*([] if self.norm == "l2" else [self.norm]), *([] if self.relative else ["absolute"])]
        return f"{words} ({', '.join(unusual)})" if unusual else words

    @property
    def is_control(self) -> bool:
        """Whether this is random noise and no attack."""
        return re.fullmatch(rf"{CONTROL}( \(.*\))?( #\d+)?", self.attack) is not None

    @property
    def is_targeted(self) -> bool:
        """Whether it was to hide or promote items: what it does to the ranking is no aim."""
        return re.search(r"\bgoal=(Hide|Promote)\b", f"{self.attack} {self.terms}") is not None

    @property
    def number(self) -> int:
        """Which of several targets it was run on, from 1."""
        found = re.search(r" #(\d+)$", self.attack)
        return 1 if found is None else int(found[1])

    def numbered(self, number: int) -> Setting:
        """The same on the `number`-th target: ``PGD``, ``PGD #2``, ...

        Args:
            number: From 1, which goes without saying.
        """
        name = re.sub(r" #\d+$", "", self.attack)
        return replace(self, attack=name if number == 1 else f"{name} #{number}")

    def is_like(self, other: Setting) -> bool:
        """Whether this is another attack, or the same one, under the same threat: modalities, budget, goal, item graph.

        Args:
            other: The other setting.
        """
        return replace(self, attack=other.attack) == other and self.terms == other.terms

    @property
    def order(self) -> tuple[Any, ...]:
        """Sorting key: single modalities first, then small budgets, the control after the attacks."""
        modalities = (len(self.modalities), self.modalities)
        return (*modalities, not self.relative, self.budget, self.is_control, self.attack, self.scope, self.norm)


def format_budget(budget: float) -> str:
    """A relative budget in per cent: ``0.05`` becomes ``5 %``."""
    return f"{100 * budget:.3g} %"


def labelled_attacks(
    attacks: Sequence[dict[str, Any]], among: Sequence[dict[str, Any]] | None = None
) -> list[tuple[Setting, dict[str, Any]]]:
    """The attacks of an entry with their settings.

    Where one attack was run with different arguments or knowledge, its name gets what differs: ``PGD (steps=50)``.
    Where it was run alike on different targets, the second of them is ``PGD #2``.

    Args:
        attacks: The entry's attacks, in the order of the run, so that numbers mean the same in every seed.
        among: The attacks that names tell apart (default: these): those of all entries that are shown together, so that
            the same attack has one name in all of them.
    """
    kinds: dict[str, list[Mapping[str, Any]]] = {}
    for attack in attacks if among is None else among:
        kinds.setdefault(attack["attack"], []).append(_named_arguments(attack))
    varying = {name: _varying(kind) for name, kind in kinds.items()}
    result = []
    called: dict[Setting, list[dict[str, Any]]] = {}
    for attack in attacks:
        arguments = _named_arguments(attack)
        known = {key: arguments.get(key) for key in varying[attack["attack"]]}
        variant = ", ".join(f"{key}={value}" for key, value in known.items() if value is not None)
        name = f"{attack['attack']} ({variant})" if variant else attack["attack"]
        # Which modality is named first says nothing, and must not make two rows of one.
        modalities = tuple(sorted(attack["modalities"]))
        relative = bool(attack.get("relative", True))
        terms, knowledge = ", ".join(f"{key}={arguments.get(key)}" for key in _TERMS), attack.get("knowledge", "white")
        size = (attack["scope"], attack["norm"], float(attack["budget"]), relative)
        setting = Setting(name, modalities, *size, terms, knowledge, tuple(_unusual(attack)))
        # Other targets, as many of them: the first, the second, ... of each seed belong together.
        targets = {key: arguments_of(attack).get(key) for key in ("items", "goal", "weights")}
        same = called.setdefault(setting, [])
        if targets not in same:
            same.append(targets)
        result.append((setting.numbered(same.index(targets) + 1), attack))
    return result


def notes_on_terms(settings: Iterable[Setting]) -> list[str]:
    """What of the threat is not as usual, for names do not tell what all attacks of a class share.

    Usual is a white box, the test split for labels, item graphs rebuilt, all items, all users, no box, and ruining the
    ranking.

    Args:
        settings: The settings that are shown.
    """
    names: set[str] = set()
    found: dict[str, set[str]] = {}
    for setting in settings:
        name = setting.numbered(1).attack
        names.add(name)
        for words in setting.unusual:
            found.setdefault(words, set()).add(name)
    told: dict[str, list[str]] = {}
    for words, own in found.items():
        told.setdefault("Every attack" if own == names else ", ".join(sorted(own)), []).append(words)
    return [f"{own}: {'; '.join(words)}." for own, words in told.items()]


def fingerprint(part: Mapping[str, Any]) -> str:
    """A hash of what was done to the features, whatever it is called beside other attacks; of clean ones, too.

    Args:
        part: An entry's attack, or what it measured on clean features.
    """
    setting = [part.get(key) for key in ("attack", "scope", "norm", "budget")]
    return hash_json([setting, sorted(part.get("modalities", [])), arguments_of(part) if "attack" in part else {}])


def attacks_of(entries: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """All attacks of some entries, for :func:`labelled_attacks` to tell apart."""
    return [attack for entry in entries for attack in entry["attacks"]]


def arguments_of(attack: Mapping[str, Any]) -> dict[str, Any]:
    """What an attack was run with, and what its threat model says besides the setting."""
    keys = ("relative", "labels", "items", "graph", "goal", "box", "knowledge", "queries")
    threat = {key: attack[key] for key in keys if key in attack}
    # Old files do not say that all items and no goal are meant.
    return dict(attack.get("arguments") or {}) | {"items": None, "goal": None} | threat


def _named_arguments(attack: Mapping[str, Any]) -> dict[str, Any]:
    """What of that may be in a name: the kind of budget stands beside its size, each seed has its own surrogates."""
    arguments = {key: value for key, value in arguments_of(attack).items() if key not in ("relative", "weights")}
    return arguments | {key: _in_short(arguments[key]) for key in ("items", "goal")}


def _unusual(attack: Mapping[str, Any]) -> Iterator[str]:
    goal = attack.get("goal") or {}
    if goal.get("name", "Untargeted") != "Untargeted":
        aim = {"Promote": "to promote", "Hide": "to hide"}.get(goal["name"], goal["name"])
        yield f"the goal is {aim}" + (f" {_count(goal['items'], 'item')}" if goal.get("items") else "")
    if goal.get("users"):
        yield f"only {_count(goal['users'], 'user')} of interest"
    if attack.get("items"):
        yield f"only {_count(attack['items'], 'item')} may be changed"
    if attack.get("graph") == "frozen":
        yield "item graphs are frozen, so a change does not reach them"
    if (labels := attack.get("labels")) in _LABELS:
        yield f"the attacker knows {_LABELS[labels]}, not those of the test split"
    if box := attack.get("box"):
        limits = ["the range of the clean ones"] if box == "clean" else []
        if isinstance(box, Mapping):
            limits = [f"{' to '.join(map(str, ends))} on {modality}" for modality, ends in box.items()]
        yield f"changed features stay within {', '.join(limits) or box}"
    if (knowledge := attack.get("knowledge")) in _KNOWLEDGE:
        yield f"no white box, {_KNOWLEDGE[knowledge]}"
    if queries := attack.get("queries"):
        yield f"{queries} queries at most"


def _count(things: Any, noun: str) -> str:
    number = len(things) if isinstance(things, (list, tuple)) else things
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _varying(kind: Sequence[Mapping[str, Any]]) -> list[str]:
    keys = {key for one in kind for key in one}
    return sorted(key for key in keys if len({str(one.get(key)) for one in kind}) > 1)


def _in_short(value: Any) -> Any:
    """Lists of ids, which differ between seeds, take no room in a name: how many."""
    if isinstance(value, list):
        return f"{len(value)} items" if value else "none"
    if isinstance(value, dict):
        return " ".join(str(_in_short(part)) for part in value.values() if part is not None)
    return value
