import dataclasses
import re
import sys
from html.parser import HTMLParser

from scored_rows_samples import count, make, scored, write

from datatrove_quality.report.build import ReportOptions, build_report
from datatrove_quality.report.page import TEMPLATES, build_page, environment
from datatrove_quality.report.text import HIDDEN


class Parsed(HTMLParser):
    """The tags, the attributes' names and the text of a page."""

    def __init__(self, page):
        super().__init__(convert_charrefs=True)
        self.tags, self.attributes, self.text = [], set(), ""
        self.feed(page)
        self.close()

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.attributes |= {name for name, _ in attributes}

    def handle_data(self, data):
        self.text += data


HOSTILE = (
    "<script>x</script><img src=x onerror=y>\"' onload='z ]]> --> {{ 7 * 7 }} </style></title>&lt; "
    "\u202ehidden\x1b[31m"
)
SEEN = HOSTILE.replace("\u202e", "U+202E").replace("\x1b", "U+001B")


def poisoned(value):
    """A value of the report with hostile text in the place of every text."""
    if isinstance(value, str):
        return HOSTILE
    if dataclasses.is_dataclass(value):
        fields = {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
        own = {"quantiles", "title", "date", "version"}  # ours
        return dataclasses.replace(
            value, **{name: found if name in own else poisoned(found) for name, found in fields.items()}
        )
    if isinstance(value, dict):
        return {f"{HOSTILE}{key}": poisoned(found) for key, found in value.items()}
    return [poisoned(one) for one in value] if isinstance(value, (list, tuple)) else value


def full_report(tmp_path):
    """A report with all parts: groups, statistics, a comparison, notes, reasons, scorers, long conversations."""
    rows = scored(200)
    scorer = {"fingerprint": "f", "parts": {"dtype": "float32", "commit": "c"}, "model": "m", "scale": None}
    for row in rows:
        row["messages"] += [{"role": "tool", "content": "resultado " * 300}] + [{"role": "user", "content": "?"}] * 15
        row["quality_truncated"] = True
    write(tmp_path / "out/kept/0.jsonl", [*rows, {"id": "no score"}])
    write(tmp_path / "out/logs/run.json", [{"prefix": "quality", "min_score": 3.0, "scorer": scorer}])
    count(tmp_path / "out/stats", rows)
    other = write(tmp_path / "other.parquet", scored(200, seed=1))
    report = build_report(
        ReportOptions(scored=[str(tmp_path / "out")], group_by="source", against=[str(other)], sample=4)
    )
    assert report.stats and report.comparison and report.comparison.decisions and report.notes and report.scorers
    return report


def test_no_text_of_a_report_is_markup_wherever_it_is(tmp_path):
    """Hostile text in the place of every text adds no element and no attribute to the page, and all of it is shown."""
    report = full_report(tmp_path)
    plain, hostile = Parsed(build_page(report)), Parsed(page := build_page(poisoned(report)))
    assert set(hostile.tags) - {"span"} == set(plain.tags) - {"span"}
    assert not {"script", "img", "iframe", "base", "link"} & set(hostile.tags)
    assert hostile.attributes == plain.attributes and not any(name.startswith("on") for name in hostile.attributes)
    assert not HIDDEN.search(page.replace("\n", ""))
    assert hostile.text.count(SEEN) > 100
    assert "[U+" not in hostile.text  # each is framed


def test_long_names_are_cut(tmp_path):
    """Ids, roles, groups, errors and names of columns of any length leave the page small."""
    long = "long" * 50_000
    row = scored(1)[0] | {"id": long, "messages": [{"role": long, "content": "x"}], "source": long}
    rows = [row, row | {"quality_score": None, "quality_error": f"template_error: {long}"}]
    _, page = make(tmp_path, write(tmp_path / "a.jsonl", rows), "--group-by", "source")
    assert len(page) < 60_000 and "characters left out" in page


def test_nothing_that_a_template_prints_can_be_markup_or_hide():
    """Escaping and visible codes are those of all templates: in text, in attributes, and of what filters give back."""
    made = environment().from_string('<a title="{{ x }}">{{ x ~ "" }}{{ x | cut_middle(9) }}{{ [x] | join }}</a>')
    page = made.render(x="<b>\"'\u202e")
    assert page == '<a title="&lt;b&gt;&#34;&#39;[U+202E]">' + 3 * "&lt;b&gt;&#34;&#39;[U+202E]" + "</a>"
    for template in TEMPLATES.glob("*.jinja"):
        assert not re.search(r"\|\s*safe|autoescape|Markup", template.read_text()), template
        assert not re.search(r"=\{\{", template.read_text()), f"{template}: an attribute without quotes"
    makers = [path.name for path in TEMPLATES.parent.glob("*.py") if re.search(r"Markup\((?!\))", path.read_text())]
    assert makers == ["charts.py"]


def test_the_parts_of_the_page_are_linked_and_examples_are_folded_after_three(tmp_path):
    """Every part is in the navigation; of ten examples three are open and seven a click away."""
    page = build_page(full_report(tmp_path))
    links = re.search(r'<nav aria-label="Parts of the report">(.*?)</nav>', page, re.S)[1]
    names = re.findall(r'href="#(\w+)">(.*?)</a>', links)
    assert [name for name, _ in names] == ["scores", "all", "groups", "unscorable", "comparison", "read"]
    assert ("groups", "By <bdi>source</bdi>") in names
    _, page = make(tmp_path, write(tmp_path / "a.jsonl", scored(2_000)), "--threshold", "3", "--sample", "10")
    section = re.search(r'<section id="read-0">(.*?)</section>', page, re.S)[1]
    opened, _, folded = section.partition("<details><summary>7 more</summary>")
    assert (opened.count("<article>"), folded.count("<article>")) == (3, 7)


def test_the_heatmap_has_names_of_its_axes_and_a_color_key(tmp_path):
    """Axes say what they measure, and the key which color stands for how many documents."""
    figures, page = make(tmp_path, write(tmp_path / "a.jsonl", scored(600)))
    (figure,) = [found for found in re.findall(r"<figure>.*?</figure>", page, re.S) if 'id="lengths-title"' in found]
    axes = re.findall(r'<text class="axis"[^>]*>(.*?)</text>', figure)
    assert axes == ["score", "length in tokens"]
    key = re.search(r'<svg class="color-key".*?</svg>', figure)[0]
    opacities = [float(value) for value in re.findall(r'fill-opacity="([\d.]+)"', key)]
    assert len(opacities) == 5 and opacities == [0.12, 0.34, 0.56, 0.78, 1.0]
    most = max(max(row) for row in figures["lengths"]["documents"])
    assert re.search(rf"</svg>\s*{most}\b", figure)


def test_contrasts_are_good_by_day_and_by_night():
    """Text has a contrast of 4.5 at least against each ground it is on; figures of 3."""
    style = (TEMPLATES / "style.css").read_text()
    day, night, paper = (
        dict(re.findall(r"--(\w+): (#\w{6})", block)) for block in re.findall(r":root \{(.*?)\}", style, re.S)
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


def test_the_page_allows_no_script_and_no_network(tmp_path):
    """The browser is told to allow nothing but this one style sheet."""
    _, page = make(tmp_path, write(tmp_path / "a.jsonl", scored(50)))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', page)[1]
    assert policy.startswith("default-src 'none'; style-src 'sha256-")
    assert "unsafe" not in policy
    assert not re.search(r"<(script|img|link|iframe|object|embed)|\sstyle=|https?://", page)
    assert sys.getsizeof(page) < 200_000
