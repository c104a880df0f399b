"""The page."""

from __future__ import annotations

import re
from html.parser import HTMLParser

import pytest

from mmgraph_robust.errors import CheckpointError, DataError
from mmgraph_robust.reporting import write_page

VOID = {"meta", "img", "br", "link", "hr", "input"}


class _Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.open, self.tags, self.attributes, self.text = [], [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.text.append(data)


def _read(path):
    reader = _Reader()
    reader.feed(path.read_text(encoding="utf-8"))
    assert reader.open == []
    return reader


def test_page_is_whole_and_needs_no_network(tmp_path, entries):
    write_page(entries, tmp_path / "report.html", title="A & B")
    reader = _read(tmp_path / "report.html")
    text = "".join(reader.text)
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert not re.search(r"https?://|url\(|@import", page)
    assert not re.search(r"\bNaN\b|\bInfinity\b", text)
    assert {"script", "link", "iframe"}.isdisjoint(reader.tags)
    images = [attributes for tag, attributes in reader.attributes if tag == "img"]
    assert len(images) == 3
    assert all(a["src"].startswith("data:image/png;base64,") and a["alt"] for a in images)
    assert ("html", {"lang": "en"}) in reader.attributes
    assert reader.tags.count("caption") == reader.tags.count("table") == 4
    assert reader.tags.count("details") == len(entries)
    assert "A & B" in text
    assert "Under PGD on visual at 5 % per item, GRCN on hm loses 30.5" in text
    assert text.index("loses 30.5") < text.index("All numbers", text.index("loses 30.5"))
    ids = {a["id"] for _, a in reader.attributes if "id" in a}
    assert {a["href"][1:] for tag, a in reader.attributes if tag == "a"} <= ids


def test_names_cannot_inject(tmp_path, entry):
    bad = "<script>alert('x')</script>\"><img src=x onerror=alert(1)>"
    hostile = entry(model=bad, defense=bad, dataset=bad, kept={("PGD", "visual", 0.05): 0.7}, config={"x": bad})
    hostile["attacks"][0]["modalities"] = [bad]
    write_page([hostile], tmp_path / "report.html", title=bad)
    reader = _read(tmp_path / "report.html")
    assert "script" not in reader.tags
    assert not any("onerror" in attributes for _, attributes in reader.attributes)
    assert bad in "".join(reader.text)


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
