"""A small made-up set of result entries."""

from __future__ import annotations

import zlib
from typing import Any

import numpy as np
import pytest
import torch

from mmgraph_robust.utils import pack

METRICS = ("recall@10", "recall@20", "ndcg@20", "precision@20", "map@20", "hit_rate@20")


def _metrics(recall: float) -> dict[str, float]:
    others = (name for name in METRICS if name != "recall@20")
    return {name: recall * (1 - 0.1 * k) for k, name in enumerate(("recall@20", *others))}


def make_entry(
    model: str = "GRCN",
    defense: str = "none",
    seed: int = 0,
    clean: float = 0.2,
    kept: dict[tuple[str, str, float], float] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """An entry whose recall@20 is `clean`, and `kept` times that under (attack, modality, budget)."""
    margins = {"id": 0.5, "visual": 1.2, "textual": 0.7}
    attacks = [
        {"attack": a, "modalities": [m], "budget": b, "scope": "item", "norm": "l2", "seconds": 3.1,
         "metrics": _metrics(clean * part), "margins": margins | {m: margins[m] * part}}
        for (a, m, b), part in (kept or {}).items()
    ]  # fmt: skip
    history = [{"epoch": e, "loss": 1 / (e + 1), **({"recall@20": 0.1 + 0.01 * e} if e % 2 else {})} for e in range(8)]
    return {
        "schema": 1, "dataset": "hm", "model": model, "defense": defense, "seed": seed,
        "config": {"model": {"embedding_dim": 64}},
        "provenance": {"version": "0.1", "commit": "abc", "torch": "2.13", "data_hash": "d1", "created": "2026-01-01"},
        "training": {"epochs": 8, "best_epoch": 7, "seconds": 10.0 + seed, "best_validation": 0.17,
                     "monitor": "recall@20", "history": history},
        "clean": {"metrics": _metrics(clean), "margins": margins},
        "attacks": attacks, "sensitive": {"by_margin": "visual", "by_metric": "visual"}, "feature_path": "direct",
    } | changes  # fmt: skip


def add_users(entry: dict[str, Any], users: int = 400, metric: str = "recall@20") -> dict[str, Any]:
    """Gives every part of an entry hits per user, as many as the part's metric says.

    Whom a model hits depends mostly on the user, a little on the training and the attack, as it does in truth.
    """
    ease = np.random.default_rng(0).random(users)
    for number, part in enumerate([entry["clean"], *entry["attacks"]]):
        name = repr([entry[key] for key in ("dataset", "model", "defense", "seed")] + [number])
        luck = np.random.default_rng(zlib.crc32(name.encode())).random(users)
        hits = np.zeros(users)
        hits[np.argsort(ease + 0.3 * luck)[: round(part["metrics"][metric] * users)]] = 1
        part["metrics"] = part["metrics"] | {metric: float(hits.mean())}
        part["per_user"] = {metric: pack(torch.from_numpy(hits))}
    return entry


def make_entries() -> list[dict[str, Any]]:
    """Two models, three defenses, two seeds, two attacks and noise, two modalities, two budgets."""
    strength = {"none": 1.0, "ModalityBalancing": 0.4, "AdversarialTraining": 1.2}
    entries = []
    for seed, clean in ((0, 0.20), (1, 0.22)):
        for defense, factor in strength.items():
            kept = {
                (attack, modality, budget): 1 - factor * loss * reach * (budget / 0.05) ** 0.5 - 0.01 * seed
                for attack, loss in (("SingleStep", 0.2), ("PGD", 0.3), ("Noise", 0.02))
                for modality, reach in (("visual", 1.0), ("textual", 0.5))
                for budget in (0.05, 0.1)
            }
            entries.append(make_entry("GRCN", defense, seed, clean, kept))
        immune = make_entry("LightGCN", "none", seed, 0.15, feature_path="none", sensitive=None)
        immune["clean"]["margins"] = {"id": 1.1}
        entries.append(immune)
    return entries


@pytest.fixture(scope="session")
def entry() -> Any:
    """Makes entries."""
    return make_entry


@pytest.fixture
def with_users() -> Any:
    """Adds values per user."""
    return add_users


@pytest.fixture
def entries() -> list[dict[str, Any]]:
    """The whole set."""
    return make_entries()
