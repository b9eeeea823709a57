"""The page of a report in a real browser."""

import os
import re
import socket
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from headless_browser import Browser, needs_browser
from scored_rows_samples import count, make, scored, write


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    browser = Browser(tmp_path_factory.mktemp("browser"))
    yield browser
    browser.close()


@pytest.fixture
def artefacts(tmp_path):
    """Where screenshots are kept: in the folder $TEST_ARTEFACTS, where it is set, for a person to look at."""
    folder = Path(os.environ.get("TEST_ARTEFACTS", tmp_path / "artefacts"))
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def hostile(port):
    """Texts that do harm where they are taken for anything but text."""
    return [
        "<script>document.title = 'owned'</script>",
        f"<img src=http://127.0.0.1:{port}/i.png onerror=\"document.title = 'owned'\">",
        f"</style><style>@import 'http://127.0.0.1:{port}/s.css'; body {{ display: none }}</style>",
        "</div></article></main></body></html><h1>owned</h1>",
        '" onmouseover="document.title=\'owned\'" x="',
        "' autofocus onfocus='document.title=1",
        "</title></svg><svg onload=document.title='owned'>",
        f"<meta http-equiv=refresh content='0;url=http://127.0.0.1:{port}/m'><base href=http://127.0.0.1:{port}/>",
        "&lt;script&gt; &amp; <!-- ]]> --> {{7*7}} ${7*7} $\\frac{1}{$",
        "start \u202egnp.exe\u202c end \u2066isolated \u200f \x00 \x1b[31m \u2028 \ufeff",
    ]


@needs_browser
def test_the_page_loads_without_complaint_request_or_script_and_shows_a_hostile_corpus_as_text(
    tmp_path, browser, artefacts
):
    """Nothing that a row can hold, anywhere in it, is more than text: no request, no script, no change of the page."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        texts = hostile(server.getsockname()[1])
        column = "<b onclick=x>source\u202e"
        rows = []
        for i, text in enumerate(texts):
            row = scored(1)[0] | {"id": f"{i}{text}", column: text, "quality_score": 3.0 + i / 10}
            row["messages"] = [{"role": text, "content": text * (1 + 40 * (i % 2))}, {"role": "user", "content": text}]
            broken = {"quality_score": None, "quality_error": f"template_error: {text}"}
            rows += [row, row | {"id": f"e{i}"} | broken, row | {"id": f"f{i}"} | broken | {"quality_error": text}]
        folder = tmp_path / "in <img src=x onerror=alert(1)>"
        source = write(folder / "a.jsonl", rows)
        _, page = make(tmp_path, source, "--group-by", column, "--threshold", "3.3", "--against", source)
        control = tmp_path / "control.html"
        control.write_text(
            f"<script>console.log('seen')</script><img src=http://127.0.0.1:{server.getsockname()[1]}/c>"
        )

        browser.open(tmp_path / "report/report.html")
        assert [url for url in browser.asked_for() if not url.startswith("file:")] == []
        assert len(browser.asked_for()) == 1
        assert browser.complaints() == []
        assert browser.evaluate("document.title") == "Score report"
        assert browser.evaluate("document.querySelectorAll('script, img, style + style, base, h1 + h1').length") == 0
        attributes = (
            "[...document.querySelectorAll('*')].flatMap(e => e.getAttributeNames()).filter(n => /^on/.test(n))"
        )
        assert browser.evaluate(attributes) == []
        seen = browser.evaluate("document.body.textContent")
        for text in texts[:-1]:
            assert text in seen
        assert "U+202Egnp.exeU+202C end U+2066isolated U+200F U+0000" in seen
        assert not re.search("[\x00\x1b\u202e\u2066\u2028\ufeff]", page)
        browser.screenshot(artefacts / "report-hostile.png")
        server.setblocking(False)
        with pytest.raises(BlockingIOError):
            server.accept()

    # The same instruments see a request and a message where there are some; no server listens there any more.
    browser.open(control)
    assert browser.complaints() and any("/c" in url for url in browser.asked_for())


@needs_browser
def test_figures_are_drawn_with_tables_behind_them_and_a_long_conversation_opens(tmp_path, browser, artefacts):
    """What the report promises is on the page, by day and by night, at a desk and on a phone."""
    rows = scored(600)
    for row in rows:
        row["messages"][1]["content"] = "Uma resposta longa. " * 60 + "FIM DO MEIO. " + "E o resto dela. " * 60
    make(tmp_path, write(tmp_path / "a.parquet", rows), "--threshold", "3.5", "--group-by", "source", "--sample", "4")
    for name, width, dark in (("desk", 1_100, False), ("night", 1_100, True), ("phone", 390, False)):
        browser.open(tmp_path / "report/report.html", width=width, height=1_600, dark=dark)
        assert browser.complaints() == []
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
            "the page is wider than the screen"
        )
        browser.screenshot(artefacts / f"report-{name}.png")
    assert browser.evaluate("document.querySelectorAll('figure svg[role=img] > title').length") == 4
    assert browser.evaluate("document.querySelectorAll('figure details table').length") == 4
    assert browser.evaluate("document.querySelectorAll('#documents-title ~ rect, #lengths-title ~ rect').length") > 40
    labels = (
        "[...document.querySelectorAll('svg[role=img]')].every(s => s.ariaLabel || s.getAttribute('aria-labelledby'))"
    )
    assert browser.evaluate(labels)

    first = "document.querySelector('#read article')"
    browser.evaluate(f"{first}.scrollIntoView()")
    whole = "#read article .turn details"
    assert not browser.evaluate(f"document.querySelector('{whole} .text').checkVisibility()")
    assert "FIM DO MEIO" not in browser.evaluate(f"{first}.innerText")
    browser.evaluate(f"document.querySelector('{whole} summary').click()")
    assert browser.evaluate(f"document.querySelector('{whole} .text').checkVisibility()")
    assert "FIM DO MEIO" in browser.evaluate(f"{first}.innerText")
    browser.screenshot(artefacts / "report-open.png")


WRONG = """(() => {
  const wrong = [], color = c => (c.match(/[\\d.]+/g) || []).map(Number);
  const linear = v => v / 255 <= .04045 ? v / 255 / 12.92 : ((v / 255 + .055) / 1.055) ** 2.4;
  const light = rgb => rgb.slice(0, 3).map(linear).reduce((sum, v, i) => sum + v * [.2126, .7152, .0722][i], 0);
  const ground = e => {
    for (; e; e = e.parentElement) { const c = color(getComputedStyle(e).backgroundColor); if (c[3] !== 0) return c; }
    return [255, 255, 255];
  };
  let seen = 0;
  for (const e of document.querySelectorAll('body *')) {
    const text = [...e.childNodes].some(n => n.nodeType === 3 && n.data.trim());
    if (!text || !e.checkVisibility() || e.closest('title, desc')) continue;
    const style = getComputedStyle(e), ink = e.closest('svg') ? style.fill : style.color;
    const pair = [light(color(ink)), light(ground(e))].sort((a, b) => b - a);
    const contrast = (pair[0] + .05) / (pair[1] + .05);
    const drawn = e.closest('svg')?.getBoundingClientRect().width || 460;
    const size = parseFloat(style.fontSize) * Math.min(1, drawn / 460);
    seen++;
    if (contrast < 4.5) wrong.push(`contrast ${contrast.toFixed(2)}: ${e.className} ${e.textContent.slice(0, 30)}`);
    if (size < 9) wrong.push(`small ${size}: ${e.textContent.slice(0, 30)}`);
  }
  if (seen < 100) wrong.push(`only ${seen} texts were looked at`);
  let level = 0;
  for (const h of document.querySelectorAll('h1, h2, h3, h4, h5, h6')) {
    const now = Number(h.tagName[1]);
    if (now > level + 1) wrong.push(`a heading of level ${now} below one of ${level}: ${h.textContent}`);
    level = now;
  }
  if (document.querySelectorAll('h1').length !== 1) wrong.push('not one h1');
  const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
  if (new Set(ids).size !== ids.length) wrong.push('an id stands twice');
  for (const e of document.querySelectorAll('svg:not([aria-hidden=true])')) {
    const names = (e.getAttribute('aria-labelledby') || '').split(' ').map(id => id && document.getElementById(id));
    const named = e.ariaLabel || names.every(n => n && n.textContent);
    if (e.getAttribute('role') !== 'img' || !named) wrong.push('an unnamed svg');
  }
  for (const f of document.querySelectorAll('figure'))
    if (!f.querySelector('details table') || !f.querySelector('figcaption')) wrong.push('a bare figure');
  for (const t of document.querySelectorAll('table')) {
    const bare = [...t.querySelectorAll('th')].some(h => !h.scope || !h.textContent.trim());
    if (!t.caption || bare) wrong.push(`a table without heads: ${t.caption?.textContent}`);
  }
  for (const a of document.querySelectorAll('a'))
    if (!document.querySelector(a.getAttribute('href'))) wrong.push(`a link to nowhere: ${a.href}`);
  for (const e of document.querySelectorAll('.scroll'))
    if (e.tabIndex !== 0) wrong.push('a table that no key scrolls');
  if (!document.documentElement.lang || !document.querySelector('main') || !document.querySelector('nav[aria-label]'))
    wrong.push('no language or landmarks');
  return [...new Set(wrong)];
})()"""


@needs_browser
@pytest.mark.parametrize("dark", [False, True], ids=["day", "night"])
@pytest.mark.parametrize("width", [390, 1_100], ids=["phone", "desk"])
def test_the_page_is_accessible(tmp_path, browser, dark, width):
    """Every text as it is painted has contrast and size; figures, tables, headings, links can be read and reached."""
    rows = scored(300)
    for row in rows:
        row["messages"] += [
            {"role": "tool", "content": "a\u202eb " * 300},
            {"role": "user", "content": "Obrigado! " * 200},
        ]
    count(tmp_path / "out/stats", rows + rows)
    source = write(tmp_path / "out/a.parquet", rows).parent
    options = ("--threshold", "3.5", "--group-by", "source", "--sample", "3", "--against", source)
    make(tmp_path, source, *options)
    browser.open(tmp_path / "report/report.html", width=width, dark=dark)
    browser.evaluate("document.querySelectorAll('details').forEach(e => e.open = true)")
    assert browser.evaluate(WRONG) == []
    browser.open(tmp_path / "report/report.html", width=width, dark=dark)
    press = partial(browser.call, "Input.dispatchKeyEvent", type="keyDown")
    for _ in range(12):
        press(key="Tab", code="Tab", windowsVirtualKeyCode=9)
        if browser.evaluate("document.activeElement.tagName") == "SUMMARY":
            break
    browser.call(
        "Input.dispatchKeyEvent", type="keyDown", key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
    )
    assert browser.evaluate("document.activeElement.parentElement.open"), "no key opens the first table"


@needs_browser
def test_five_hundred_long_examples_stay_a_small_page(tmp_path, browser):
    """However long the conversations, the page has a size that a browser opens at once."""
    random = np.random.default_rng(0)
    rows = [
        {"id": f"{i}", "quality_score": 1 + i % 5 + 0.5, "messages": [{"role": "user", "content": "palavra " * 9_000}]}
        for i in random.permutation(600).tolist()
    ]
    figures, page = make(tmp_path, write(tmp_path / "a.jsonl", rows), "--sample", "100")
    assert len(figures["examples"]) == 500
    assert len(page) < 6_000_000
    browser.open(tmp_path / "report/report.html")
    assert browser.evaluate("document.querySelectorAll('article').length") == 500
