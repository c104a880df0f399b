"""The public check of attacks must fail for planted defects, and pass for the library's own."""

import pytest
import torch

import mmgraph_robust as mr
from mmgraph_robust.attacks import APGD, MIM, PGD, SPSA, MinimalBudget, Noise, SingleStep, Square, Transfer, Universal
from mmgraph_robust.errors import BudgetError
from mmgraph_robust.testing import ConformanceError, check_attack, weak_model

OWN = [
    Noise(), SingleStep(), SingleStep("margin", "matrix"), PGD(3), MIM(3), APGD(4), Universal(3), SPSA(30), Square(30),
    MinimalBudget(2, 2, 2),
]  # fmt: skip


@pytest.mark.parametrize("attack", OWN, ids=repr)
def test_the_librarys_own_attacks_conform(attack):
    check_attack(attack)


def test_transfer_conforms():
    check_attack(Transfer(weak_model("FragileDirection", seed=1)[0], PGD(2)))


def test_on_a_model_of_ones_own(shop, trained):
    check_attack(PGD(2), trained, shop, norms=["l2"], budget=0.05)
    with pytest.raises(ConformanceError, match="together"):
        check_attack(PGD(2), trained)


class Overrunning(PGD):
    """Reaches past the final projection."""

    def run(self, problem, generator, progress):
        problem.radii = {m: 3 * r for m, r in problem.radii.items()}
        return problem.random(generator)


class Touching(PGD):
    def run(self, problem, generator, progress):
        with torch.no_grad():
            next(problem.model.parameters()).add_(1e-3)
        return problem.zero()


class MutatingFeatures(PGD):
    def run(self, problem, generator, progress):
        problem.features["visual"].add_(1e-3)
        return problem.zero()


class Unseeded(Noise):
    def run(self, problem, generator, progress):
        return problem.random(torch.Generator().manual_seed(int(torch.randint(1 << 30, (1,), generator=CLOCK))))


class Greedy(SPSA):
    def run(self, problem, generator, progress):
        for _ in range(30):
            problem.value(problem.zero())
        return problem.zero()


class Opaque(PGD):
    def __init__(self):
        super().__init__(1)
        self.tensor = torch.zeros(1)


class LeavesATrace(PGD):
    """Switches the mode and does not switch it back when something fails."""

    def run(self, problem, generator, progress):
        problem.model.register_buffer("trace", torch.zeros(1), persistent=True)
        result = super().run(problem, generator, progress)
        del problem.model._buffers["trace"]
        return result


CLOCK = torch.Generator().manual_seed(0)


@pytest.mark.parametrize(
    ("attack", "message"),
    [
        (Overrunning(), "overrun the threat model"),
        (Touching(), "changed the model's weights"),
        (MutatingFeatures(), "changed the data"),
        (Unseeded(), "the same seed gives different features"),
        (Greedy(), "allows 20 queries"),
        (Opaque(), "plain JSON"),
        (LeavesATrace(3), "after an error.*weights"),
    ],
    ids=lambda x: type(x).__name__ if isinstance(x, mr.attacks.Attack) else "",
)
def test_planted_defects_are_found(attack, message):
    with pytest.raises((ConformanceError, BudgetError), match=message):
        check_attack(attack)
