"""Experiments: a configuration in, trained models, result entries and a report out."""

from mmgraph_robust.experiment.config import RunConfig, read_config
from mmgraph_robust.experiment.run import run

__all__ = ["RunConfig", "read_config", "run"]
