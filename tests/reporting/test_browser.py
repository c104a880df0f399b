"""The page in a real browser: it opens from the file system, and every control does what it says."""

from __future__ import annotations

import re
import shutil
from itertools import pairwise

import pytest

from mmgraph_robust.reporting import write_page

BROWSER, DRIVER = shutil.which("chromium"), shutil.which("chromedriver")
if BROWSER is None or DRIVER is None:
    pytest.skip("the page's tests need Chromium (Debian: chromium, chromium-driver)", allow_module_level=True)
webdriver = pytest.importorskip("selenium.webdriver", reason="the page's tests need selenium")
Keys = pytest.importorskip("selenium.webdriver.common.keys").Keys

JOINT = "all modalities, 5 % per item"
FLAG = "zero_gradient: no <gradient> was seen"


def _attack(run, name, modalities, budget, kept, **flags):
    clean = run["clean"]["metrics"]
    return {
        "attack": name, "modalities": list(modalities), "budget": budget, "scope": "item", "norm": "l2", "seconds": 1.0,
        "metrics": {metric: kept * value for metric, value in clean.items()}, "margins": run["clean"]["margins"],
        "flags": flags,
    }  # fmt: skip


@pytest.fixture(scope="module")
def path(tmp_path_factory, entry):
    """A page of two data sets, three backbones, two defenses, two seeds and a flag."""
    entries = []
    for dataset, modalities in (("hm", ("visual", "textual")), ("tiktok", ("visual", "acoustic"))):
        # As text, 0.9 would come after 0.1 and 10 % before 9 %.
        for model, clean, kept in (("A", 0.1, 0.905), ("B", 0.2, 0.5), ("C", 0.11, 0.3)):
            for defense, factor in (("none", 1.0), ("Guard", 1.05)):
                for seed in range(2):
                    run = entry(model, defense, seed, clean + 0.01 * seed, dataset=dataset)
                    # Without a history there are no pictures of it, which take their time.
                    run["training"] |= {"history": []}
                    doubt = {"zero_gradient": "no <gradient> was seen"} if (model, defense) == ("B", "Guard") else {}
                    for budget, loss in ((0.05, 1.0), (0.1, 0.8)):
                        run["attacks"] += [
                            _attack(run, "PGD", modalities, budget, kept * factor * loss, **doubt),
                            _attack(run, "MIM", modalities, budget, kept * factor * (0.9 if model == "A" else 1.2)),
                            _attack(run, "Noise", modalities, budget, 0.01 if model == "C" else 0.99),
                        ]
                    entries.append(run)
        entries.append(entry("Ids", clean=0.08, dataset=dataset, feature_path="none", sensitive=None))
    path = tmp_path_factory.mktemp("page") / "report.html"
    write_page(entries, path, about={"Tuning": "the same number of trials for all"})
    return path


@pytest.fixture(scope="module")
def driver():
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for argument in ("--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    yield driver
    driver.quit()


class Page:
    """What the tests do with the page."""

    def __init__(self, driver, path):
        self.driver, self.address = driver, path.as_uri()

    def open(self, hash=""):
        # A change of nothing but the hash would not load anew.
        self.driver.get("about:blank")
        self.driver.get(self.address + hash)
        return self

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def choose(self, name, value):
        # As the native control does it; it opens outside of the page.
        self.find(f"#choose-{name}").send_keys("")
        self.run(
            "const s = document.getElementById(arguments[0]); s.value = arguments[1];"
            "s.dispatchEvent(new Event('change', {bubbles: true}));",
            f"choose-{name}",
            value,
        )

    def header(self, name):
        return self.find(f"th[data-sort={name}] button")

    def lines(self):
        """Data set, model, defense and the texts of clean, attacked and change of the lines that are seen."""
        return self.run(
            "return [...document.querySelectorAll('#board tbody tr')].filter(r => r.checkVisibility()).map(r => ["
            "r.dataset.dataset, r.dataset.model, r.dataset.defense, ...[...r.querySelectorAll('td.number')]"
            ".slice(0, 3).map(c => c.textContent.trim().replaceAll('\\u00a0', ' '))])"
        )

    def count(self):
        return self.find("#count").text

    def options(self, name):
        return self.run(f"return [...document.querySelectorAll('#choose-{name} option')].map(o => o.value)")


@pytest.fixture
def page(driver, path):
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                           {"width": 1280, "height": 900, "deviceScaleFactor": 1, "mobile": False})  # fmt: skip
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    page = Page(driver, path).open()
    yield page
    # No error and no warning, whatever was done.
    assert driver.get_log("browser") == []


def _number(text):
    found = re.match("[\N{MINUS SIGN}+]?[0-9.]+", text)
    return None if found is None else float(found[0].replace("\N{MINUS SIGN}", "-"))


def test_opens_from_the_file_system_as_written(page, path):
    static = path.read_text(encoding="utf-8").replace("\N{NO-BREAK SPACE}", " ")
    lines = page.lines()
    assert page.count() == "14 of 14 shown"
    assert len(lines) == 14
    # The script writes what stands in the file.
    assert all(f'<td class="number">{clean}</td><td class="number left">{left}</td>' in static
               for _, _, _, clean, left, _ in lines)  # fmt: skip
    assert all(f"<span>{change}</span>" in static for *_, change in lines)
    assert [line[1:3] for line in lines[:7]] == [
        ["B", "Guard"], ["B", "none"], ["A", "Guard"], ["A", "none"], ["C", "Guard"], ["C", "none"], ["Ids", "none"],
    ]  # fmt: skip
    assert "the same number of trials" in page.find(".about").text
    assert page.find("main h2").text == "What was found"


def test_click_sorts_numerically_both_ways_with_the_missing_last(page):
    for name, column in (("left", 4), ("change", 5)):
        for direction in ("descending", "ascending"):
            page.header(name).click()
            values = [_number(line[column]) for line in page.lines()]
            known = values[:-2]
            assert values[-2:] == [None, None]
            assert all(a >= b for a, b in pairwise(known)) if direction == "descending" else known == sorted(known)
            assert known[0] != known[-1]
            assert page.find(f"th[data-sort={name}]").get_attribute("aria-sort") == direction
    assert page.find("th[data-sort=left]").get_attribute("aria-sort") == "none"
    # A sort by names keeps the order before it within each name.
    page.header("dataset").click()
    assert [line[0] for line in page.lines()] == ["hm"] * 7 + ["tiktok"] * 7
    known = [value for line in page.lines()[:7] if (value := _number(line[5])) is not None]
    assert known == sorted(known)


def test_enter_on_a_header_sorts(page):
    page.header("model").send_keys(Keys.ENTER)
    assert [line[1] for line in page.lines()] == ["A"] * 4 + ["B"] * 4 + ["C"] * 4 + ["Ids"] * 2
    page.header("model").send_keys(Keys.ENTER)
    assert [line[1] for line in page.lines()][:2] == ["Ids", "Ids"]


def test_filters_and_reset(page):
    before = page.lines()
    page.choose("dataset", "tiktok")
    assert {line[0] for line in page.lines()} == {"tiktok"}
    assert page.count() == "7 of 14 shown"
    page.choose("defense", "Guard")
    assert {tuple(line[::2][:2]) for line in page.lines()} == {("tiktok", "Guard")}
    assert page.count() == "3 of 14 shown"
    page.choose("model", "A")
    assert page.count() == "1 of 14 shown"
    # The scatter shows what the table shows.
    marks = page.driver.find_elements("css selector", "svg.scatter .mark")
    assert len(marks) == 12
    assert [mark.value_of_css_property("display") for mark in marks].count("none") == 11
    page.header("clean").click()
    page.find("#reset").click()
    assert page.lines() == before
    assert page.count() == "14 of 14 shown"
    assert "#" not in page.driver.current_url


def test_another_threat_and_each_lines_worst(page):
    assert JOINT in page.options("threat")
    before = {tuple(line[:3]): line[3:] for line in page.lines()}
    heights = "return [...document.querySelectorAll('svg.scatter .mark')].map(m => m.style.transform)"
    places = page.run(heights)
    page.choose("threat", "all modalities, 10 % per item")
    after = {tuple(line[:3]): line[3:] for line in page.lines()}
    assert after["hm", "A", "none"] == ["0.1050 ± 0.0071", "0.0760 ± 0.0051", "\N{MINUS SIGN}27.6 ± 0.0 %"]
    assert after["hm", "Ids", "none"] == before["hm", "Ids", "none"] == ["0.0800", "n/a", "\N{EN DASH}"]
    assert page.run(heights) != places
    assert "PGD on all modalities, 10 %" in page.find("#board-caption").text
    page.choose("threat", JOINT)
    assert {tuple(line[:3]): line[3:] for line in page.lines()} == before
    page.choose("attack", "each line's worst")
    worst = {tuple(line[:3]): _number(line[4]) for line in page.lines()}
    # MIM does most on A, PGD on B, and noise, the control, has no say though it does most on C.
    assert worst["hm", "A", "none"] == pytest.approx(0.9 * 0.905 * 0.105, abs=1e-4)
    assert worst["hm", "B", "none"] == _number(before["hm", "B", "none"][1])
    assert worst["hm", "C", "none"] == _number(before["hm", "C", "none"][1])
    assert "MIM" in page.find('tr[data-model=A][data-defense="none"] .remarks').text


def test_the_address_holds_the_view(page):
    page.choose("dataset", "hm")
    page.choose("threat", "all modalities, 10 % per item")
    page.choose("attack", "MIM")
    page.header("left").click()
    page.header("left").click()
    seen, address = page.lines(), page.driver.current_url
    assert "#" in address
    page.open("#" + address.partition("#")[2])
    assert page.lines() == seen
    assert page.find("#choose-attack").get_attribute("value") == "MIM"
    assert page.find("th[data-sort=left]").get_attribute("aria-sort") == "ascending"
    # What is unknown is passed over.
    page.open("#dataset=nowhere&sort=-nothing&attack=%3Cscript%3E&threat=none")
    assert page.count() == "14 of 14 shown"
    page.open("#%")
    assert page.count() == "14 of 14 shown"


def test_a_flagged_line_is_shown_and_says_why(page):
    row = page.find('tr[data-dataset=hm][data-model=B][data-defense="Guard"]')
    assert "†" in row.find_element("css selector", ".left").text
    reason = row.find_element("css selector", ".flag li")
    assert not reason.is_displayed()
    # By keyboard; a tap does the same.
    row.find_element("css selector", ".flag summary").send_keys(Keys.ENTER)
    assert reason.is_displayed()
    assert reason.text == FLAG
    assert len(page.driver.find_elements("css selector", "#board tr.doubtful")) == 2
    page.choose("attack", "MIM")
    assert page.driver.find_elements("css selector", "#board tr.doubtful") == []
    assert row.find_element("css selector", ".remarks a").text == "† under 2 others"


def test_links_open_cards(page):
    for selector in ("th a", "td.number a + a"):
        row = page.find('tr[data-dataset=tiktok][data-model=C][data-defense="Guard"]')
        link = row.find_element("css selector", selector)
        name = link.get_attribute("href").partition("#")[2]
        assert not page.find(f"#{name}").is_displayed()
        link.click()
        card = page.find(f"#{name}")
        assert card.is_displayed()
        assert "The strongest attack under each threat" in card.text
        summary = card.find_element("xpath", "../summary").text
        assert page.driver.switch_to.active_element.text == summary
        assert summary.startswith(f"C, Guard, tiktok, seed {0 if selector == 'th a' else 1}")


def test_a_phone_shows_the_page_without_sideways_scrolling(page):
    page.driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride",
                                {"width": 360, "height": 740, "deviceScaleFactor": 2, "mobile": True})  # fmt: skip
    page.open()
    assert page.run("return innerWidth") == 360
    page.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    wide = page.run("return [document.documentElement.scrollWidth, document.body.scrollWidth]")
    assert max(wide) <= 360
    # Name, attacked value and change are seen at once.
    edges = page.run(
        "return ['th', '.left', '.change']"
        ".map(s => document.querySelector('#board tbody ' + s).getBoundingClientRect().right)"
    )
    assert max(edges) <= 360


def test_tab_reaches_every_control_and_shows_where_it_is(page):
    reached = []
    for _ in range(40):
        page.driver.switch_to.active_element.send_keys(Keys.TAB)
        found = page.run(
            "const e = document.activeElement, s = getComputedStyle(e);"
            "const name = e.id || e.closest('[data-sort]')?.dataset.sort || e.textContent.trim();"
            "return [name, s.outlineStyle, s.outlineWidth]"
        )
        assert found[1:] == ["solid", "3px"], found
        reached.append(found[0])
    assert reached[0] == "To the leaderboard"
    controls = [f"choose-{name}" for name in ("dataset", "model", "defense", "threat", "attack")] + ["reset"]
    wanted = [*controls, "model", "defense", "dataset", "clean", "left", "change", "seeds"]
    assert [name for name in reached if name in wanted] == wanted


CONTRAST = """
const parse = (text) => { const n = text.match(/[\\d.]+/g).map(Number); return n.length < 4 ? [...n, 1] : n; };
const luminance = (rgb) => rgb.slice(0, 3).map((v) => v / 255)
  .map((v) => v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4)
  .reduce((sum, v, k) => sum + v * [0.2126, 0.7152, 0.0722][k], 0);
function behind(element) {
  const mark = element.closest(".mark");
  if (mark && element.tagName === "text") return parse(getComputedStyle(mark.querySelector("path")).fill);
  for (let e = element; e; e = e.parentElement) {
    const colour = parse(getComputedStyle(e).backgroundColor);
    if (colour[3] > 0) return colour;
  }
  return [255, 255, 255, 1];
}
const found = [];
for (const element of document.querySelectorAll("body *")) {
  const own = [...element.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim());
  if (!own || ["SCRIPT", "title"].includes(element.tagName) || !element.checkVisibility()) continue;
  const style = getComputedStyle(element);
  const ink = parse(element.namespaceURI.endsWith("svg") ? style.fill : style.color);
  const [a, b] = [ink, behind(element)].map(luminance);
  const contrast = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  found.push([contrast, element.outerHTML.slice(0, 80)]);
}
return found.sort(([a], [b]) => a - b);
"""


@pytest.mark.parametrize(("scheme", "paper"), [("light", "rgb(255, 255, 255)"), ("dark", "rgb(20, 23, 27)")])
def test_contrast_in_both_schemes(page, scheme, paper):
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    page.open()
    assert page.run("return getComputedStyle(document.body).backgroundColor") == paper
    page.run("document.querySelectorAll('details').forEach(d => { d.open = true; })")
    found = page.run(CONTRAST)
    assert len(found) > 500
    assert found[0][0] >= 4.5, found[:5]


def test_without_scripts_the_table_stands(page):
    page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": True})
    try:
        page.open()
        rows = page.driver.find_elements("css selector", "#board tbody tr")
        assert len(rows) == 14
        assert all(row.is_displayed() for row in rows)
        assert "0.0950 ± 0.0064" in rows[3].text.replace("\N{NO-BREAK SPACE}", " ")
        assert not page.find("#controls").is_displayed()
        # Buttons that would do nothing are not offered.
        assert page.driver.find_elements("css selector", "#board button") == []
    finally:
        page.driver.execute_cdp_cmd("Emulation.setScriptExecutionDisabled", {"value": False})
