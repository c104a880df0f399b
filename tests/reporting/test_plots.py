"""Pictures hold the right data."""

from __future__ import annotations

from itertools import pairwise

import pytest

from mmgraph_robust.reporting import plot_budget_curve, plot_margins, plot_training, save_figures
from mmgraph_robust.reporting.canvas import line_style


def _axes(figure):
    return [ax for ax in figure.axes if ax.axison]


def test_budget_curve_lines_and_data(entries):
    figures = dict(plot_budget_curve(entries))
    assert list(figures) == ["budget-textual-hm", "budget-visual-hm"]
    assert [_axes(f)[0].get_title() for f in figures.values()] == ["GRCN\nPGD", "GRCN\nPGD"]
    (ax,) = _axes(figures["budget-visual-hm"])
    # Three defenses, each with its noise, and the model that reads no features.
    lines = {line.get_label(): line for line in ax.get_lines()}
    assert len(lines) == 7
    assert list(lines["none"].get_xdata()) == [0, 5, 10]
    assert lines["none"].get_ydata()[:2] == pytest.approx([0.21, 0.1459])
    assert lines["none, Noise (control)"].get_linestyle() == "--"
    assert lines["LightGCN (reads no features)"].get_ydata()[0] == pytest.approx(0.15)
    assert len(ax.collections) == 3
    assert "%" in ax.get_xlabel()
    assert "visual, per item" in figures["budget-visual-hm"].get_suptitle()


def test_many_defenses_have_many_lines(entry):
    kept = {(attack, "visual", 0.05): 0.5 for attack in ("PGD", "Noise")}
    runs = [entry("A", kept=kept), *(entry("A", f"D{k:02}", kept=kept) for k in range(27))]
    for curves, plot in ((56, plot_budget_curve), (28, plot_training)):
        ((_, figure),) = plot(runs)
        (ax,) = _axes(figure)
        looks = {(x.get_color(), x.get_marker(), x.get_markerfacecolor()) for x in ax.get_lines()}
        assert len(looks) == len(ax.get_lines()) == curves
        # Where markers are small or colours grey, dashes help.
        for one, other in ((0, 7), (7, 14), (14, 21)):
            assert line_style(one)["color"] == line_style(other)["color"]
            assert line_style(one)["linestyle"] != line_style(other)["linestyle"] != "--"


def test_panels_of_a_data_set_have_one_scale_and_other_threats_other_figures(entry):
    kept = {("PGD", "visual", 0.05): 0.5, ("PGD", "visual", 0.1): 0.4}
    low, high = entry("A", clean=0.1, kept=kept), entry("B", clean=0.4, kept=kept)
    figures = dict(plot_budget_curve([low, high]))
    assert list(figures) == ["budget-visual-hm"]
    assert [ax.get_ylim() for ax in _axes(figures["budget-visual-hm"])] == [(0, pytest.approx(0.42))] * 2
    high["attacks"][0]["scope"] = "matrix"
    assert list(dict(plot_budget_curve([low, high]))) == ["budget-visual-hm", "budget-visual-matrix-l2-hm"]


def test_a_curve_is_not_of_an_attack_that_was_run_once(entry):
    budgets = (0.01, 0.05, 0.1, 0.2, 0.5)
    kept = {("PGD", "visual", b): 0.5 for b in budgets} | {("Suite", "visual", 0.05): 0.4}
    ((_, figure),) = plot_budget_curve([entry(kept=kept)])
    assert _axes(figure)[0].get_title() == "GRCN\nPGD"
    kept |= {("Suite", "visual", b): 0.4 for b in budgets[:3]}
    ((_, figure),) = plot_budget_curve([entry(kept=kept)])
    assert _axes(figure)[0].get_title() == "GRCN\nSuite"


def test_one_seed_has_no_band(entry):
    ((_, figure),) = plot_budget_curve([entry(kept={("PGD", "visual", 0.05): 0.7})])
    assert not _axes(figure)[0].collections


def test_wide_sweeps_keep_their_ticks_apart(entry):
    budgets = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
    ((_, figure),) = plot_budget_curve([entry(kept={("PGD", "visual", b): 1 - b / 2 for b in budgets})])
    (ax,) = _axes(figure)
    assert ax.get_xscale() == "symlog"
    figure.draw_without_rendering()
    boxes = [label.get_window_extent() for label in ax.get_xticklabels()]
    assert all(left.x1 < right.x0 for left, right in pairwise(boxes))


def test_margin_bars(entries):
    ((_, figure),) = plot_margins(entries)
    axes = _axes(figure)
    assert [ax.get_title() for ax in axes] == [
        f"GRCN, defense: {d}" for d in ("none", "AdversarialTraining", "ModalityBalancing")
    ]
    bars = [c for c in axes[0].containers if c.get_label() in ("clean",) or str(c.get_label()).startswith("PGD")]
    assert [len(c) for c in bars] == [3, 3, 3]
    heights = {str(c.get_label()): [patch.get_height() for patch in c] for c in bars}
    assert heights["clean"] == pytest.approx([0.5, 1.2, 0.7])
    assert heights["PGD on visual at 5 % per item"] == pytest.approx([0.5, 1.2 * 0.695, 0.7])
    assert len({ax.get_ylim() for ax in axes}) == 1


def test_training_lines(entries):
    ((_, figure),) = plot_training(entries)
    grcn, lightgcn = _axes(figure)
    assert len(grcn.get_lines()) == 6
    assert len(lightgcn.get_lines()) == 2
    assert list(grcn.get_lines()[0].get_xdata()) == [1, 3, 5, 7]
    assert grcn.get_ylabel() == "validation Recall@20"


def test_many_panels_go_on_several_pages(entry):
    many = [entry(model=f"M{k}", kept={("PGD", "visual", 0.05): 0.7}) for k in range(14)]
    for plot in (plot_budget_curve, plot_margins, plot_training):
        pages = plot(many)
        assert [len(_axes(figure)) for _, figure in pages] == [9, 5]
        assert len({name for name, _ in pages}) == 2


def test_files_have_safe_names_and_odd_labels_do_no_harm(tmp_path, entry):
    kept = {("PGD", "visual", 0.05): 0.7}
    odd = [entry(model="_a$b$ \\frac{", dataset=name, kept=kept) for name in ("../x y", "../x?y")]
    paths = save_figures(odd, tmp_path)
    assert len({path.name for path in paths}) == 8
    assert all(path.parent == tmp_path and path.read_bytes().startswith(b"\x89PNG") for path in paths)


def test_nothing_to_draw_is_no_error(entry):
    bare = entry()
    bare["training"] |= {"history": [], "monitor": None}
    assert plot_budget_curve([bare]) == []
    assert plot_training([bare]) == []
    assert len(plot_margins([bare])) == 1
