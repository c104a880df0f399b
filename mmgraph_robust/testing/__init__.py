"""Public conformance checks: what a model, an attack or a defense of one's own has to keep; and weak models."""

from mmgraph_robust.testing.attacks import check_attack
from mmgraph_robust.testing.defenses import check_defense
from mmgraph_robust.testing.models import ConformanceError, check_model
from mmgraph_robust.testing.weak_models import WEAK_MODELS, WeakModel, weak_model

__all__ = ["WEAK_MODELS", "ConformanceError", "WeakModel", "check_attack", "check_defense", "check_model", "weak_model"]
