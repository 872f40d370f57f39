"""The page in a headless Chromium: no complaint of its console, sorting, filters, dark, phone, downloads."""

from __future__ import annotations

import itertools

import pytest

from analysis import write_report
from tests.analysis.browser import browser, chromium
from tests.analysis.planted import Plan, write

pytestmark = pytest.mark.skipif(chromium() is None, reason="needs Chromium (Debian: apt install chromium)")

LABELS = ("finetune", "joint", "lwf", "icarl", "bic")
SCENARIOS = (("B0-3tasks", (2, 2, 1)), ("B2-inc1", (2, 1, 1)))
CONTRAST = """(() => {
  const of = colour => { const c = colour.match(/[\\d.]+/g).map(Number);
    const l = c.slice(0, 3).map(v => v / 255).map(v => v <= .04045 ? v / 12.92 : ((v + .055) / 1.055) ** 2.4);
    return .2126 * l[0] + .7152 * l[1] + .0722 * l[2]; };
  const ground = node => { for (let n = node; n; n = n.parentElement) {
    const c = getComputedStyle(n).backgroundColor; if (!c.endsWith(", 0)")) return c; } };
  const ratio = (a, b) => (Math.max(a, b) + .05) / (Math.min(a, b) + .05);
  const kinds = "p, td, th, li, h1, h2, summary, a, button, code, .badge, dt, dd";
  const texts = [...document.querySelectorAll(kinds)];
  const lines = [...document.querySelectorAll(".plot text:not(.heatmap-label text)")];
  const shown = texts.filter(n => n.textContent.trim() && n.offsetParent);
  const stands = (n, key) => [ratio(of(getComputedStyle(n)[key]), of(ground(n))), n.outerHTML];
  const least = (nodes, key) => nodes.map(n => stands(n, key))
    .sort((a, b) => a[0] - b[0])[0];
  return [least(shown, "color"), least(lines, "fill")];
})()"""


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A browser that shows the report of a small lake."""
    folder = tmp_path_factory.mktemp("browser")
    plan = Plan(labels=LABELS, scenarios=SCENARIOS, trials=3, rows=8, failed=(2,))
    path = write_report(write(folder / "run", plan))
    with browser(folder / "profile") as found:
        found.path = path
        yield found


@pytest.fixture
def fresh(page):
    """The page, loaded anew in a wide, light window."""
    page.problems.clear()
    page.show(1400)
    page.open(page.path)
    return page


def scroll_through(page):
    """Bring every panel into sight, and wait until it is drawn."""
    page.run("""(async () => {
      document.documentElement.style.scrollBehavior = "auto";
      document.querySelectorAll("details.more").forEach(one => { one.open = true; });
      for (const panel of document.querySelectorAll(".panel:not([hidden])")) {
        panel.scrollIntoView();
        for (let i = 0; i < 600 && !panel.querySelector(".main-svg"); i++)
          await new Promise(done => setTimeout(done, 10));
      }
    })()""")


def test_every_figure_is_drawn_and_the_console_is_silent(fresh):
    scroll_through(fresh)
    fresh.wait("document.querySelectorAll('.plot .main-svg').length > 20")
    assert fresh.problems == []


def test_a_browser_that_cannot_unpack_is_told_so_and_keeps_its_tables(fresh):
    script = fresh.send(
        "Page.addScriptToEvaluateOnNewDocument", source="delete globalThis.DecompressionStream;"
    )
    try:
        fresh.open(fresh.path)
    finally:
        fresh.send("Page.removeScriptToEvaluateOnNewDocument", **script)
    assert fresh.run("document.getElementById('old').offsetHeight") > 0
    assert fresh.run("document.querySelectorAll('#leaderboard th button').length") > 0
    assert fresh.run("document.querySelectorAll('#filters details').length") > 0
    assert fresh.problems == []
    fresh.open(fresh.path)
    assert fresh.run("document.getElementById('old').offsetHeight") == 0


def test_a_header_sorts_its_table_both_ways_and_back(fresh):
    place = "#leaderboard .table"
    at = fresh.run(
        f"[...document.querySelectorAll('{place} th')].findIndex(th => th.textContent === 'last accuracy')"
    )
    rows = f"[...document.querySelectorAll('{place} tbody tr')]"
    column = f"{rows}.map(row => parseFloat(row.cells[{at}].textContent))"
    before = fresh.run(column)
    seen = []
    for state in ("ascending", "descending", None):
        fresh.run(f"document.querySelectorAll('{place} th button')[{at}].click()")
        assert fresh.run(f"document.querySelectorAll('{place} th')[{at}].getAttribute('aria-sort')") == state
        seen.append(fresh.run(column))
    assert seen == [sorted(before), sorted(before, reverse=True), before]
    assert before != sorted(before)


def test_a_filter_acts_on_rows_panels_and_sentences_of_the_whole_page(fresh):
    rows = "[...document.querySelectorAll('tr[data-%s]:not([hidden])')]"
    shown = f"[...new Set({rows}.map(row => row.dataset.%s))].sort()"
    untick = "document.querySelector('#filters input[name=%s][value=\"%s\"]').click()"
    panels = "document.querySelectorAll('#forgetting .panel:not([hidden])').length"
    before = fresh.run(panels)
    fresh.run(untick % ("label", "icarl"))
    assert fresh.run(shown % ("label", "label")) == sorted({*LABELS} - {"icarl"})
    fresh.run(untick % ("scenario", "B2-inc1"))
    assert fresh.run(shown % ("scenario", "scenario")) == ["B0-3tasks"]
    assert fresh.run("document.querySelectorAll('.lead:not([hidden])').length") == 1
    assert fresh.run(panels) < before
    assert fresh.run("document.getElementById('filtered').hidden") is False
    assert fresh.problems == []


def test_a_link_opens_its_section_and_a_button_opens_all(fresh):
    closed = "document.querySelectorAll('details.more:not([open])').length"
    everything = fresh.run(closed)
    assert everything > 10
    fresh.run("document.querySelector('nav a[href=\"#recency-bias\"]').click()")
    fresh.wait("document.querySelector('#recency-bias details.more').open")
    fresh.wait("document.querySelector('#recency-bias .main-svg') !== null")
    assert fresh.run(closed) == everything - 1
    fresh.run("document.querySelector('nav a[href=\"#content\"]').click()")
    fresh.wait("location.hash === '#content'")
    fresh.run("new Promise(done => setTimeout(done, 50))")
    assert fresh.run(closed) == everything - 1
    fresh.run("document.getElementById('unfold').click()")
    assert fresh.run(closed) == 0
    fresh.wait("document.getElementById('unfold').textContent.startsWith('Close')")
    fresh.run("document.getElementById('unfold').click()")
    assert fresh.run(closed) == everything


def test_words_filter_a_table_and_a_long_one_is_folded(fresh):
    count = "document.querySelectorAll('%s .table tbody tr:not([hidden])').length"
    more = "document.querySelector('#hyperparameters .table .tools button')"
    everything = int(fresh.run(f"{more}.textContent").split()[2])
    assert fresh.run(count % "#hyperparameters") == 10 < everything
    fresh.run(f"{more}.click()")
    assert fresh.run(count % "#hyperparameters") == everything
    box = "document.querySelector('#task-confusion .table input')"
    fresh.run(f"{box}.value = 'nearest'; {box}.dispatchEvent(new Event('input'))")
    assert fresh.run(count % "#task-confusion") == len(SCENARIOS)


@pytest.mark.parametrize("dark", [False, True])
def test_texts_stand_out_from_the_page(fresh, dark):
    fresh.show(1400, dark=dark)
    scroll_through(fresh)
    fresh.run("document.querySelectorAll('details').forEach(one => { one.open = true; })")
    texts, figures = fresh.run(CONTRAST)
    assert texts[0] >= 4.5, texts
    assert figures[0] >= 4, figures
    ground = fresh.run("getComputedStyle(document.body).backgroundColor")
    assert ground == ("rgb(20, 24, 31)" if dark else "rgb(255, 255, 255)")


def test_the_marks_of_a_legend_have_the_colours_of_the_theme(fresh):
    entries = "[...document.querySelectorAll('#accuracy-curves .legend button')]"
    joint = f"{entries}.find(button => button.textContent === 'joint')"
    for dark, colour in ((False, "#20262e"), (True, "#f2f4f7"), (False, "#20262e")):
        fresh.show(1400, dark=dark)
        fresh.wait(f"{joint}.querySelector('[stroke=\"{colour}\"]') !== null")
    assert fresh.problems == []


def test_nothing_is_wider_than_a_phone(fresh):
    fresh.show(390)
    fresh.open(fresh.path)
    scroll_through(fresh)
    assert fresh.run("document.documentElement.scrollWidth") <= 390
    assert fresh.run("document.getElementById('contents').open") is False
    assert fresh.problems == []


def test_figures_are_saved_as_svg_and_png_and_tables_as_csv(fresh):
    fresh.run("""window.kept = []; window.real = URL.createObjectURL;
      URL.createObjectURL = blob => { kept.push(blob); return real.call(URL, blob); };
      HTMLAnchorElement.prototype.click = () => {};""")
    for name in ("SVG", "PNG"):
        fresh.run(f"document.querySelector('#leaderboard button[aria-label$=\"as {name}\"]').click()")
    fresh.wait("kept.some(blob => blob.type === 'image/png')")
    fresh.run("document.querySelector('#leaderboard button[aria-label$=\"as CSV\"]').click()")
    svg = fresh.run("kept.find(blob => blob.type.includes('svg')).text()")
    assert svg.startswith("<svg")
    assert "icarl" in svg
    table = fresh.run("kept.find(blob => blob.type === 'text/csv').text()").splitlines()
    assert table[0].startswith('"scenario","label"')
    assert len(table) == 1 + len(LABELS) * len(SCENARIOS)


def test_every_control_has_a_name_and_headings_skip_no_level(fresh):
    fresh.send("Accessibility.enable")
    nodes = fresh.send("Accessibility.getFullAXTree")["nodes"]
    roles = ("button", "link", "searchbox", "checkbox", "table", "navigation")
    nameless = [
        node["role"]["value"]
        for node in nodes
        if not node.get("ignored")
        and node.get("role", {}).get("value") in roles
        and not node.get("name", {}).get("value")
    ]
    assert nameless == []
    levels = fresh.run("[...document.querySelectorAll('h1, h2, h3')].map(one => Number(one.tagName[1]))")
    assert levels[0] == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))


def test_the_keyboard_reaches_the_content_sorts_and_scrolls(fresh):
    def press(key, code):
        for kind in ("keyDown", "keyUp"):
            fresh.send("Input.dispatchKeyEvent", type=kind, key=key, code=key, windowsVirtualKeyCode=code)

    press("Tab", 9)
    assert fresh.run("document.activeElement.textContent") == "Skip to the content"
    fresh.run("document.querySelector('#leaderboard th button').focus()")
    fresh.send("Input.dispatchKeyEvent", type="keyDown", key="Enter", text="\r", windowsVirtualKeyCode=13)
    assert fresh.run("document.querySelector('#leaderboard th').getAttribute('aria-sort')") == "ascending"
    assert "Sorted by scenario" in fresh.run("document.getElementById('said').textContent")
    fresh.run("document.querySelector('.filter').open = true")
    press("Escape", 27)
    assert fresh.run("document.querySelector('.filter').open") is False
    wide = "[...document.querySelectorAll('.table')].filter(one => one.scrollWidth > one.clientWidth)"
    assert fresh.run(f"{wide}.every(one => one.tabIndex === 0)")


def test_printing_opens_what_is_folded(fresh):
    assert fresh.send("Page.printToPDF")["data"]
    assert fresh.run("[...document.querySelectorAll('details')].every(one => one.open)")
    assert fresh.problems == []
