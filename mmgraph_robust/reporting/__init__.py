"""Reporting: result entries turned into tables, statistics, pictures and one page."""

from mmgraph_robust.reporting.cells import Table
from mmgraph_robust.reporting.compare import ResultComparison, compare
from mmgraph_robust.reporting.comparisons import comparison_table, comparisons, shown_comparisons
from mmgraph_robust.reporting.entries import ReportWarning, check_entry, read_entries, read_files
from mmgraph_robust.reporting.findings import sentences
from mmgraph_robust.reporting.forms import to_csv, to_html, to_latex, to_markdown
from mmgraph_robust.reporting.goals import goal_table
from mmgraph_robust.reporting.html import write_page
from mmgraph_robust.reporting.kept_tests import paired_tests, read_tests, write_tests
from mmgraph_robust.reporting.leaderboard import leaderboard
from mmgraph_robust.reporting.pairing import Comparison
from mmgraph_robust.reporting.plots import plot_budget_curve, plot_margins, plot_training, save_figures
from mmgraph_robust.reporting.published import published_table
from mmgraph_robust.reporting.ranks import rank_table
from mmgraph_robust.reporting.scatter import plot_scatter
from mmgraph_robust.reporting.settings import Setting
from mmgraph_robust.reporting.sources import read_source
from mmgraph_robust.reporting.statistics import PairedTest, holm, mean_interval, paired_bootstrap
from mmgraph_robust.reporting.summary import Row, choose_settings, summarize
from mmgraph_robust.reporting.tables import full, headline, sensitive_table, training_table
from mmgraph_robust.reporting.terminal import print_table, to_rich

__all__ = [
    "Comparison",
    "PairedTest",
    "ReportWarning",
    "ResultComparison",
    "Row",
    "Setting",
    "Table",
    "check_entry",
    "choose_settings",
    "compare",
    "comparison_table",
    "comparisons",
    "full",
    "goal_table",
    "headline",
    "holm",
    "leaderboard",
    "mean_interval",
    "paired_bootstrap",
    "paired_tests",
    "plot_budget_curve",
    "plot_margins",
    "plot_scatter",
    "plot_training",
    "print_table",
    "published_table",
    "rank_table",
    "read_entries",
    "read_files",
    "read_source",
    "read_tests",
    "save_figures",
    "sensitive_table",
    "sentences",
    "shown_comparisons",
    "summarize",
    "to_csv",
    "to_html",
    "to_latex",
    "to_markdown",
    "to_rich",
    "training_table",
    "write_page",
    "write_tests",
]
