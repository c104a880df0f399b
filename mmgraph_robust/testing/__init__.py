"""Public conformance checks: what a model or an attack of one's own has to keep; and models that are weak by design."""

from mmgraph_robust.testing.attacks import check_attack
from mmgraph_robust.testing.models import ConformanceError, check_model
from mmgraph_robust.testing.weak_models import WEAK_MODELS, WeakModel, weak_model

__all__ = ["WEAK_MODELS", "ConformanceError", "WeakModel", "check_attack", "check_model", "weak_model"]
