"""Weight decay where features enter."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

from torch import Tensor
from torch_geometric.data import HeteroData

from mmgraph_robust.data.graph import Graph
from mmgraph_robust.defenses.base import Defense, Step, defended_modalities
from mmgraph_robust.defenses.parameters import modality_parameters
from mmgraph_robust.errors import ConfigError, unknown_name
from mmgraph_robust.models import Recommender
from mmgraph_robust.models.embeddings import sum_tensors
from mmgraph_robust.utils import Domain, Float


class ProjectionDecay(Defense):
    r"""Weight decay, as in "A Simple Weight Decay Can Improve Generalization" (Krogh and Hertz, NeurIPS 1991), on the
    matrices that features are multiplied with and on nothing else.

    .. math::
        \mathcal L + \frac{\lambda}{2} \sum_m \Vert W_m \Vert_F^2

    The control for every defense that may do no more than listen less to the features.

    Args:
        weight: Weight :math:`\lambda`.
        modalities: The modalities whose matrices shrink (default: all that the model reads).
        parameters: The matrices' names in the model (default: those that are named after the modality and as wide as
            its features, but have no row per user or item; where a model's inner width is that of its features, inner
            matrices of the modality count, too).

    Source: the formula above. The penalty is a part of the loss, so Adam divides its gradient like any other.
    """

    search_space: ClassVar[Mapping[str, Domain]] = {"weight": Float(1e-5, 1.0, log=True)}

    def __init__(
        self,
        *,
        weight: float = 1e-2,
        modalities: Sequence[str] | None = None,
        parameters: Sequence[str] | None = None,
    ) -> None:
        self._check_sizes(weight=weight)
        if modalities is not None and parameters is not None:
            raise ConfigError(f"'{type(self).__name__}' expects modalities or parameters, not both")
        self.weight = weight
        self.modalities = self._several("modalities", modalities)
        self.parameters = self._several("parameters", parameters)

    def setup(self, model: Recommender, data: HeteroData, graph: Graph) -> None:
        """Finds the matrices."""
        names = defended_modalities(model, self.modalities)
        known = dict(model.named_parameters())
        if self.parameters is not None:
            for name in self.parameters:
                if name not in known:
                    raise ConfigError(unknown_name("parameter", name, known))
            self._matrices = self.parameters
            return
        found: list[str] = []
        for modality in names:
            own = [name for name, p in modality_parameters(model, modality).items() if _projects(model, modality, p)]
            if not own:
                raise ConfigError(
                    f"'{type(model).__name__}' has no matrix named after '{modality}' that its features are multiplied "
                    f"with: name it in 'parameters' (the model has {list(known)})"
                )
            found += own
        self._matrices = tuple(found)

    def loss(self, step: Step) -> tuple[Tensor, dict[str, float]]:
        """The penalty."""
        squares = sum_tensors([step.model.get_parameter(name).square().sum() for name in self._matrices])
        return self.weight / 2 * squares, {"projection_norm": float(squares.detach().sqrt())}


def _projects(model: Recommender, modality: str, parameter: Tensor) -> bool:
    shape = tuple(parameter.shape)
    rows_of_nodes = len(shape) > 0 and shape[0] in (model.num_users, model.num_items)
    return len(shape) == 2 and model.feature_dims[modality] in shape and not rows_of_nodes
