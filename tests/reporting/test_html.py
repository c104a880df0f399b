"""The page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from html.parser import HTMLParser

import pytest

from mmgraph_robust.errors import CheckpointError, DataError
from mmgraph_robust.reporting import write_page

VOID = {"meta", "img", "br", "link", "hr", "input"}


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text, self.scripts = [], [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if tag == "script":
            self.scripts.append("")
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] == "script":
            self.scripts[-1] += data
        else:
            self.text.append(data)


def _read(path):
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def test_page_is_whole_and_needs_no_network(tmp_path, entries):
    write_page(entries, tmp_path / "report.html", title="A & B", about={"Tuning": "8 trials <each>"})
    reader = _read(tmp_path / "report.html")
    text = "".join(reader.text)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert not re.search(r"https?://|url\(|@import", page)
    assert not re.search(r"\bNaN\b|\bInfinity\b", text)
    assert {"link", "iframe"}.isdisjoint(reader.tags)
    assert not any(name == "style" or name.startswith("on") for _, a in reader.attributes for name in a)
    images = [attributes for tag, attributes in reader.attributes if tag == "img"]
    assert len(images) == 5
    assert all(a["src"].startswith("data:image/webp;base64,") for a in images)
    assert images[0]["alt"].startswith("hm: Recall@20 under attacks on textual, per item. Panels: GRCN, PGD.")
    assert ("html", {"lang": "en"}) in reader.attributes
    assert reader.tags.count("caption") == reader.tags.count("table") == 7 + 6
    assert "Each defense against none" in text
    assert "Mean rank" in text
    assert "A & B" in text
    assert "8 trials <each>" in text
    assert "Under PGD on visual at 5 % per item, GRCN on hm loses 30.5" in text
    assert text.index("Under PGD on textual, 5\N{NO-BREAK SPACE}% per item: without a defense") < text.index("Reset")
    ids = [a["id"] for _, a in reader.attributes if "id" in a]
    assert len(ids) == len(set(ids))
    assert {a["href"][1:] for tag, a in reader.attributes if tag == "a"} <= set(ids)
    assert {a["aria-labelledby"] for _, a in reader.attributes if "aria-labelledby" in a} <= set(ids)


def test_only_the_own_script_and_style_may_act(tmp_path, entry):
    write_page([entry(model="LightGCN", feature_path="none", sensitive=None)], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]+)"', page)
    rules = dict(rule.strip().split(" ", 1) for rule in policy.split(";"))
    assert rules["default-src"] == rules["base-uri"] == rules["form-action"] == "'none'"
    for rule, tag in (("script-src", "script"), ("style-src", "style")):
        (text,) = re.findall(rf"<{tag}>(.*?)</{tag}>", page, flags=re.S)
        digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        assert rules[rule] == f"'sha256-{digest}'"


def test_each_line_stands_in_the_table_without_a_script(tmp_path, entry):
    kept = [{("PGD", "visual", 0.05): 0.5 + 0.1 * seed} for seed in range(2)]
    runs = [entry("A", "none", 0, 0.20, kept[0]), entry("A", "none", 1, 0.22, kept[1]), entry("B", clean=0.1)]
    write_page([*runs, entry("Ids", clean=0.15, feature_path="none", sensitive=None)], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8").replace("\N{MINUS SIGN}", "-")
    lines = re.findall(r"<tr data-line=.*?</tr>", page, flags=re.S)
    texts = [re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", line)).strip() for line in lines]
    assert texts == [
        "A none, hm none hm 0.2100 ± 0.0141 0.1160 ± 0.0226 -45.0 ± 7.1 % 0 1 below Ids",
        "B none, hm none hm 0.1000 not run \N{EN DASH} 0",
        "Ids none, hm none hm 0.1500 n/a \N{EN DASH} 0 reads no features",
    ]


def test_names_cannot_inject(tmp_path, entry):
    bad = "<script>alert('x')</script>\"><img src=x onerror=alert(1)><!-- {{ 7 * 7 }}\u2028"
    hostile = entry(model=bad, defense=bad, dataset=bad, kept={("PGD", "visual", 0.05): 0.7}, config={"x": bad})
    hostile["attacks"][0] |= {"modalities": [bad], "attack": bad, "flags": {bad: bad, "graph_path_only": bad}}
    hostile |= {"key": bad, "carries": {bad: {"clean": 0.1}}}
    write_page([hostile], tmp_path / "report.html", title=bad, about={bad: bad})
    reader = _read(tmp_path / "report.html")
    assert reader.tags.count("script") == 2
    data, script = reader.scripts
    assert not any("onerror" in attributes for _, attributes in reader.attributes)
    assert bad in "".join(reader.text)
    # What a parser of HTML sees of the data has no mark of its own, and still says the same.
    assert not re.search(r"[<>&\u2028]", data)
    assert json.loads(data)["attacks"] == [bad]
    assert f"{bad}: {bad}" in json.loads(data)["texts"]
    assert "alert" not in script


def test_results_of_other_data_are_not_compared(tmp_path, entry):
    second = entry(seed=1)
    second["provenance"]["data_hash"] = "d2"
    with pytest.raises(CheckpointError, match="made from other data"):
        write_page([entry(), second], tmp_path / "report.html")


def test_several_data_sets_get_a_table_each(tmp_path, entry):
    write_page([entry(dataset="a"), entry(dataset="b", clean=0.0)], tmp_path / "report.html")
    text = "".join(_read(tmp_path / "report.html").text)
    assert "a: Recall@20 on clean" in text
    assert "b: Recall@20 on clean" in text


def test_no_entries_no_page(tmp_path):
    with pytest.raises(DataError):
        write_page([], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


def test_an_unreliable_number_is_shown_with_its_reason(tmp_path, entry):
    flagged = entry(kept={("PGD", "visual", 0.05): 0.7, ("Noise", "visual", 0.05): 0.9})
    flagged["attacks"][0]["flags"] = {"zero_gradient": "no gradient was seen"}
    write_page([flagged], tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    (line,) = re.findall(r"<tr data-line=.*?</tr>", page, flags=re.S)
    assert 'class="doubtful"' in line
    assert "0.1400 †" in line
    assert "<summary>† unreliable</summary><ul><li>zero_gradient: no gradient was seen</li></ul>" in line


def test_long_tables_show_one_metric(tmp_path, entry):
    budgets = [k / 1000 for k in range(1, 502)]
    sweep = {(attack, "visual", budget): 0.5 for attack in ("PGD", "Noise") for budget in budgets}
    write_page([entry(kept=sweep)], tmp_path / "report.html")
    text = "".join(_read(tmp_path / "report.html").text)
    everything = text[text.index("Every setting, mean over seeds, Recall@20 only") :]
    assert "NDCG@20mean" not in everything[: everything.index("Training")]
    write_page([entry(kept={("PGD", "visual", 0.05): 0.5})], tmp_path / "report.html")
    text = "".join(_read(tmp_path / "report.html").text)
    assert "Recall@20 only" not in text


def test_attacks_by_other_code_are_noted(tmp_path, entry):
    one = entry(kept={("PGD", "visual", 0.05): 0.5})
    write_page([one], tmp_path / "page.html")
    said = "1 of 1 attacks by other code than the training, or elsewhere: commit abc -&gt; def."
    assert "by other code" not in (tmp_path / "page.html").read_text()
    one["attacks"][0]["provenance"] = one["provenance"] | {"commit": "def"}
    write_page([one], tmp_path / "page.html")
    assert said in (tmp_path / "page.html").read_text()
