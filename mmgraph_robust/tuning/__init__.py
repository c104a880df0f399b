"""Tuning: Optuna studies that survive, and whose winner is chosen by the validation split alone."""

from mmgraph_robust.tuning.config import StudyConfig, read_study
from mmgraph_robust.tuning.final import final_test
from mmgraph_robust.tuning.objective import Objective, Workbench
from mmgraph_robust.tuning.page import trial_table, write_study_page
from mmgraph_robust.tuning.selection import choose, export
from mmgraph_robust.tuning.storage import open_storage
from mmgraph_robust.tuning.study import open_study
from mmgraph_robust.tuning.tune import tune

__all__ = [
    "Objective",
    "StudyConfig",
    "Workbench",
    "choose",
    "export",
    "final_test",
    "open_storage",
    "open_study",
    "read_study",
    "trial_table",
    "tune",
    "write_study_page",
]
