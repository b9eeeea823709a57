"""How the page of a report looks: on a phone, on a desk, on paper, by day and by night."""

STYLE = """
:root {
  --page: #ffffff; --ink: #1b1f24; --quiet: #57606a; --line: #d0d7de; --card: #f6f8fa;
  --bar: #1f6feb; --dropped: #87919d; --mark: #b3261e; --second: #8a4b00; --kept: #116329; --user: #dbe9ff;
  --link: #0a4fc4;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #0e1116; --ink: #e6edf3; --quiet: #9ba6b2; --line: #30363d; --card: #171c23;
    --bar: #58a6ff; --dropped: #66717d; --mark: #ff8a80; --second: #f2b155; --kept: #6fd68b; --user: #15263f;
    --link: #58a6ff;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); font: 16px/1.5 system-ui, sans-serif; }
header, main { max-width: 62rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; }
h1 { margin: 0; font-size: 1.7rem; }
h2 { margin: 2.5rem 0 .75rem; font-size: 1.25rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
h3 { margin: 1.75rem 0 .5rem; font-size: 1.05rem; }
p { margin: .5rem 0; }
a { color: var(--link); }
nav a { display: inline-block; margin: .25rem 1rem .25rem 0; }
.quiet, .place, figcaption { color: var(--quiet); }
bdi, code, .place, li { overflow-wrap: anywhere; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1rem 0; }
.tile { background: var(--card); border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .8rem; }
.tile dt { color: var(--quiet); font-size: .85rem; }
.tile dd { margin: 0; font-size: 1.5rem; font-weight: 600; font-variant-numeric: tabular-nums; }
.tile dd span { display: block; min-height: 1.3em; font-size: .85rem; font-weight: 400; color: var(--quiet); }
.notes { border-left: .3rem solid var(--mark); background: var(--card); padding: .25rem 1rem; margin: 1rem 0; }
.notes h2 { margin: .5rem 0 0; border: 0; font-size: 1rem; }
.notes ul { margin: .25rem 0 .5rem; padding-left: 1.2rem; }
.charts { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: 1rem; }
figure { margin: 0; max-width: 34rem; min-width: 0; }
figure svg { display: block; width: 100%; height: auto; }
figcaption { font-size: .9rem; text-align: center; }
svg text { fill: var(--quiet); font: 13px system-ui, sans-serif; }
svg .threshold-label { fill: var(--mark); font-weight: 600; }
.grid { stroke: var(--line); }
.bar, .cell { fill: var(--bar); }
.bar-dropped { fill: var(--dropped); }
.bar-cut { fill: var(--bar); fill-opacity: .55; }
.track { fill: var(--line); }
.threshold { stroke: var(--mark); stroke-width: 2; }
polyline { fill: none; stroke-width: 2.5; }
.line-documents { stroke: var(--bar); }
.line-tokens { stroke: var(--second); stroke-dasharray: 6 4; }
.key { display: inline-block; width: 1.5rem; margin: 0 .3rem .25rem .5rem; border-top: 3px solid var(--bar); }
.key-tokens { border-top: 3px dashed var(--second); }
.spark { display: block; width: 7rem; height: 1.25rem; }
.scroll { overflow-x: auto; margin: .5rem 0; }
details .scroll { max-height: 34rem; overflow-y: auto; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; white-space: nowrap; color: var(--quiet); padding-bottom: .25rem; }
th, td { padding: .25rem .75rem .25rem 0; border-bottom: 1px solid var(--line); text-align: right; }
th, td { white-space: nowrap; }
th:first-child { text-align: left; white-space: normal; min-width: 6rem; max-width: 22rem; font-weight: 500; }
thead th { color: var(--quiet); font-weight: 600; position: sticky; top: 0; background: var(--page); }
@media (max-width: 40rem) { .spark { width: 4rem; } th, td { padding-right: .5rem; } }
summary { cursor: pointer; color: var(--link); padding: .25rem 0; }
:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; }
article {
  border: 1px solid var(--line); border-radius: .5rem; padding: .6rem .9rem; margin: .75rem 0;
  content-visibility: auto; contain-intrinsic-size: auto 20rem;
}
.facts { margin: 0 0 .5rem; font-size: .9rem; color: var(--quiet); }
.facts > * { margin-right: .6rem; }
.score { color: var(--ink); font-size: 1.1rem; }
.kept { color: var(--kept); font-weight: 600; }
.dropped, .error { color: var(--mark); font-weight: 600; }
.error { font-weight: 400; }
.place { font-size: .75rem; margin: .5rem 0 0; }
.turn { background: var(--card); border-radius: .4rem; padding: .4rem .75rem; margin: .4rem 0; }
.turn.user { background: var(--user); }
.role { margin: 0; font-size: .8rem; font-weight: 600; color: var(--quiet); }
.text { white-space: pre-wrap; overflow-wrap: anywhere; unicode-bidi: isolate; max-width: 46rem; }
.block { display: block; overflow-x: auto; white-space: pre; font-size: .85rem; }
.text:has(+ details[open]) { display: none; }
.hidden-char { border: 1px solid var(--mark); border-radius: .2rem; color: var(--mark); font-size: .7em; }
.hidden-char { padding: 0 .2em; unicode-bidi: isolate; }
@media print {
  :root {
    --page: #ffffff; --ink: #000000; --quiet: #444444; --line: #bbbbbb; --card: #ffffff;
    --bar: #1f6feb; --dropped: #87919d; --mark: #b3261e; --second: #8a4b00; --kept: #116329; --user: #ffffff;
    --link: #0a4fc4;
  }
  body { font-size: 10.5pt; print-color-adjust: exact; -webkit-print-color-adjust: exact; }
  nav, details:not([open]) { display: none; }
  .charts { grid-template-columns: 1fr 1fr; }
  article { content-visibility: visible; }
  .block { white-space: pre-wrap; }
  .turn { border: 1px solid var(--line); }
  figure, tr { break-inside: avoid; }
  h2, h3, .facts, .role { break-after: avoid; }
  .text { orphans: 3; widows: 3; }
  .scroll { overflow: visible; max-height: none; }
}
"""
