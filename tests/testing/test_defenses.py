"""The public check of defenses must fail for planted defects, and pass for the library's own."""

import pytest
import torch

from mmgraph_robust.defenses import (
    APR,
    CKD,
    OGMGE,
    AdversarialTraining,
    Defense,
    FeatureNoise,
    FreeAdversarialTraining,
    GradientPenalty,
    ListwiseAdversarialTraining,
    MirrorGradient,
    ModalityBalancing,
    ModalityDropout,
    ProjectionDecay,
)
from mmgraph_robust.models import GRCN, LightGCN
from mmgraph_robust.testing import ConformanceError, check_defense

OWN = [
    ModalityBalancing("all"), ListwiseAdversarialTraining(), AdversarialTraining(), FreeAdversarialTraining(), APR(),
    MirrorGradient(), GradientPenalty(), OGMGE(), CKD(teacher_epochs=1), ModalityDropout(), FeatureNoise(),
    ProjectionDecay(), ListwiseAdversarialTraining(stability=1.0),
]  # fmt: skip


@pytest.mark.parametrize("defense", OWN, ids=repr)
def test_the_librarys_own_defenses_conform(defense):
    check_defense(defense)


def test_on_a_model_of_ones_own(tiny):
    check_defense(FeatureNoise(), GRCN.from_data(tiny, embedding_dim=4), tiny)
    with pytest.raises(ConformanceError, match="together"):
        check_defense(FeatureNoise(), GRCN.from_data(tiny))


class Idle(Defense):
    pass


class Dice(Defense):
    def features(self, features, generator):
        return {m: x + torch.randn_like(x) for m, x in features.items()}


class InPlace(Defense):
    def features(self, features, generator):
        return {m: x.add_(0.1) for m, x in features.items()}


class Counting(FeatureNoise):
    """Grows with the steps, and forgets them when it is interrupted."""

    def setup(self, model, data, graph):
        super().setup(model, data, graph)
        self._steps = 0

    def loss(self, step):
        self._steps += 1
        return 1e-3 * self._steps * sum(p.square().sum() for p in step.model.parameters()), {}


class Remembering(Counting):
    """What was set up for one training stays for the next."""

    def setup(self, model, data, graph):
        before = getattr(self, "_steps", 0)
        super().setup(model, data, graph)
        self._steps = before


class Growing(FeatureNoise):
    def setup(self, model, data, graph):
        super().setup(model, data, graph)
        model.extra = torch.nn.Parameter(torch.zeros(1))


class Telling(FeatureNoise):
    def __init__(self):
        super().__init__()
        self.table = torch.zeros(2)


class Learning(FeatureNoise):
    def setup(self, model, data, graph):
        super().setup(model, data, graph)
        self.seen = int(graph.num_items)


@pytest.mark.parametrize(
    ("defense", "message"),
    [
        (Idle(), "does nothing"),
        (Dice(), "random numbers of the process"),
        (InPlace(), "training changes the data"),
        (Counting(), "belongs into 'state'"),
        (Remembering(), "remembers of an earlier training"),
        (Growing(), r"structure of the model: \['extra'\]"),
        (Telling(), "more than plain JSON"),
        (Learning(), "begins with '_'"),
    ],
    ids=lambda d: type(d).__name__ if isinstance(d, Defense) else "",
)
def test_planted_defects_are_named(defense, message):
    with pytest.raises(ConformanceError, match=message):
        check_defense(defense)


def test_a_model_that_cannot_be_defended_is_refused(tiny):
    with pytest.raises(Exception, match="nothing to defend"):
        check_defense(AdversarialTraining(), LightGCN.from_data(tiny), tiny)
