"""The page of a report in a real browser, by the DevTools protocol over a pipe."""

import base64
import html
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from test_report import count, make, scored, write

from datatrove_quality.report.page import _text, cut_middle, shown


CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
needs_browser = pytest.mark.skipif(
    CHROMIUM is None or not shutil.which("bash"),
    reason="needs chromium (apt-get install chromium) to look at the page",
)
FLAGS = (
    *("--headless=new", "--disable-gpu", "--hide-scrollbars", "--no-first-run", "--disable-background-networking"),
    *("--remote-debugging-pipe", "--disable-dev-shm-usage"),
)
SECONDS = 60


class Browser:
    """A headless browser with one page open, and what the page does: `events`."""

    def __init__(self, profile):
        self.events, self._count = [], 0
        theirs_in, self._write = os.pipe()
        self._read, theirs_out = os.pipe()
        flags = [*FLAGS, f"--user-data-dir={profile}", *(["--no-sandbox"] if os.geteuid() == 0 else [])]
        # The browser reads commands from descriptor 3 and writes answers to 4; each ends with a NUL.
        command = f'exec "$@" 3<&{theirs_in} 4>&{theirs_out}'
        self._process = subprocess.Popen(
            ["bash", "-c", command, "bash", CHROMIUM, *flags, "about:blank"],
            pass_fds=(theirs_in, theirs_out),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        os.close(theirs_in)
        os.close(theirs_out)
        self._watchdog = threading.Timer(SECONDS, self._process.kill)
        self._watchdog.start()
        self._buffer, self._session = b"", None
        target = self.call("Target.createTarget", url="about:blank")["targetId"]
        self._session = self.call("Target.attachToTarget", targetId=target, flatten=True)["sessionId"]
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.call(f"{domain}.enable")

    def call(self, method, **params):
        """Send a command and wait for its answer."""
        self._count += 1
        message = {"id": self._count, "method": method, "params": params}
        if self._session:
            message["sessionId"] = self._session
        os.write(self._write, json.dumps(message).encode() + b"\0")
        while True:
            answer = self._next()
            if answer.get("id") == self._count:
                assert "error" not in answer, answer
                return answer["result"]

    def open(self, page, width=1_100, height=900, dark=False):
        """Load a page and wait until all of it is there."""
        self.events.clear()
        scheme = [{"name": "prefers-color-scheme", "value": "dark" if dark else "light"}]
        self.call("Emulation.setEmulatedMedia", features=scheme)
        size = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        self.call("Emulation.setDeviceMetricsOverride", **size)
        self.call("Page.navigate", url=Path(page).as_uri())
        while not any(event["method"] == "Page.loadEventFired" for event in self.events):
            self._next()

    def evaluate(self, expression):
        return self.call("Runtime.evaluate", expression=expression, returnByValue=True)["result"].get("value")

    def screenshot(self, path):
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))

    def asked_for(self):
        return [e["params"]["request"]["url"] for e in self.events if e["method"] == "Network.requestWillBeSent"]

    def complaints(self):
        names = ("Log.entryAdded", "Runtime.consoleAPICalled", "Runtime.exceptionThrown")
        return [event["params"] for event in self.events if event["method"] in names]

    def close(self):
        self._watchdog.cancel()
        self._process.kill()
        self._process.wait()
        os.close(self._write)
        os.close(self._read)

    def _next(self):
        while b"\0" not in self._buffer:
            block = os.read(self._read, 1 << 20)
            assert block, "the browser ended"
            self._buffer += block
        message, _, self._buffer = self._buffer.partition(b"\0")
        found = json.loads(message)
        if "method" in found:
            self.events.append(found)
        return found


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

    # The same instruments see a request and a message where there are some; nobody listens there any more.
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


# What is wrong with the open page, as a list of words. Texts on figures stand on the page's own ground.
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


def test_contrasts_are_good_by_day_and_by_night():
    """Text has a contrast of 4.5 at least against each ground that it stands on; figures of 3."""
    from datatrove_quality.report.style import STYLE

    day, night, paper = (
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", STYLE, re.S)
    )

    def light(color):
        parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
        red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts)
        return 0.2126 * red + 0.7152 * green + 0.0722 * blue

    def contrast(one, other):
        low, high = sorted((light(one), light(other)))
        return (high + 0.05) / (low + 0.05)

    for colors in (day, night, paper):
        for ground in ("page", "card", "user"):
            for ink in ("ink", "quiet", "mark", "kept", "link"):
                assert contrast(colors[ink], colors[ground]) >= 4.5, (ink, ground, colors[ground])
        for mark in ("bar", "second", "dropped", "mark"):
            assert contrast(colors[mark], colors["page"]) >= 3, mark


def test_text_is_escaped_and_what_hides_is_shown():
    """Markup is text, characters that reorder or hide are named, letters of all scripts stay what they are."""
    assert shown("<a href='x'>\"&") == "<bdi>&lt;a href=&#x27;x&#x27;&gt;&quot;&amp;</bdi>"
    for sign in ("\x00", "\x7f", "\x85", "\u202e", "\u2067", "\u200e", "\u200b", "\ufeff", "\ud800", "\U000e0041"):
        found = shown(f"a{sign}b")
        assert sign not in found and f"U+{ord(sign):04X}" in found
        found.encode()
    kept = "tab\tline\nquebra ação 日本語 עברית العربية 👩‍👧 می‌خواهم"
    assert html.unescape(shown(kept)) == f"<bdi>{kept}</bdi>"
    assert shown("a\r\nb") == "<bdi>a\nb</bdi>"


@pytest.mark.parametrize(
    ("text", "block"),
    [
        ("Aqui:\n```python\nif a < b:\n    pass\n```\nFim.", "```python\nif a < b:\n    pass\n```\n"),
        ("```\nnever closed\n| a |", "```\nnever closed\n| a |"),
        ("Antes\n| a | b |\n|---|---|\n| 1 | 2 |\ndepois | d", "| a | b |\n|---|---|\n| 1 | 2 |\n"),
        ('{\n "a": 1\n}\n', '{\n "a": 1\n}\n'),
        ("only `words` | and ``` here\n| one line |\n[em {colchetes}]", None),
    ],
)
def test_code_and_tables_stand_in_columns(text, block):
    """What is code or a table is set in letters of one width; nothing is lost, added or left unescaped."""
    found = re.findall(r'<code class="block" dir="ltr">(.*?)</code>', _text(text), re.DOTALL)
    assert [html.unescape(part) for part in found] == ([] if block is None else [block])
    assert html.unescape(re.sub(r"<[^>]+>", "", _text(text))) == text


def test_cut_texts_keep_both_ends_and_say_what_is_missing():
    """What is left out is counted exactly."""
    text = "".join(map(str, range(10_000)))
    cut = cut_middle(text, 300)
    assert cut.startswith(text[:200]) and cut.endswith(text[-100:])
    assert f"{len(text) - 300:,} characters left out" in cut
    assert cut_middle(text, len(text)) == text


def test_the_page_allows_no_script_and_no_network(tmp_path):
    """The browser is told to allow nothing but this one style sheet."""
    _, page = make(tmp_path, write(tmp_path / "a.jsonl", scored(50)))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"<(script|img|link|iframe|object|embed)|\sstyle=|https?://", page)
    assert sys.getsizeof(page) < 200_000
