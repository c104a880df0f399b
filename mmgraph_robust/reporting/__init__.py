"""Reporting: result entries turned into tables, pictures and one page."""

from mmgraph_robust.reporting.cells import Table
from mmgraph_robust.reporting.entries import ReportWarning, check_entry, read_entries
from mmgraph_robust.reporting.findings import sentences
from mmgraph_robust.reporting.forms import to_csv, to_html, to_latex, to_markdown
from mmgraph_robust.reporting.goals import goal_table
from mmgraph_robust.reporting.html import write_page
from mmgraph_robust.reporting.plots import plot_budget_curve, plot_margins, plot_training, save_figures
from mmgraph_robust.reporting.published import published_table
from mmgraph_robust.reporting.scatter import plot_scatter
from mmgraph_robust.reporting.settings import Setting
from mmgraph_robust.reporting.summary import Row, choose_settings, summarize
from mmgraph_robust.reporting.tables import full, headline, sensitive_table, training_table
from mmgraph_robust.reporting.terminal import print_table, to_rich

__all__ = [
    "ReportWarning",
    "Row",
    "Setting",
    "Table",
    "check_entry",
    "choose_settings",
    "full",
    "goal_table",
    "headline",
    "plot_budget_curve",
    "plot_margins",
    "plot_scatter",
    "plot_training",
    "print_table",
    "published_table",
    "read_entries",
    "save_figures",
    "sensitive_table",
    "sentences",
    "summarize",
    "to_csv",
    "to_html",
    "to_latex",
    "to_markdown",
    "to_rich",
    "training_table",
    "write_page",
]
