"""Experiments: a configuration in, trained models, result entries and a report out."""

from mmgraph_robust.experiment.config import RunConfig, read_config
from mmgraph_robust.experiment.plan import dry_run
from mmgraph_robust.experiment.report import report
from mmgraph_robust.experiment.run import run
from mmgraph_robust.experiment.suite import Suite, read_suite

__all__ = ["RunConfig", "Suite", "dry_run", "read_config", "read_suite", "report", "run"]
