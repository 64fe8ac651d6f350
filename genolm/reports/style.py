"""The CSS of the comparison page: quiet type, Okabe and Ito's colours, light and dark, paper and phone."""

STYLE = """
:root { color-scheme: light dark; --paper: #ffffff; --ink: #1b1f24; --quiet: #5b6570; --rule: #dde2e7; --wash: #f6f8f9;
  --t0: #0072b2; --t1: #d55e00; --t2: #009e73; --t3: #cc79a7; --t4: #e69f00; --t5: #56b4e9; --rest: #b4bbc3; }
@media (prefers-color-scheme: dark) { :root { --paper: #14171b; --ink: #e7eaee; --quiet: #9aa5b1; --rule: #2c333b;
  --wash: #1b2026; --t0: #56b4e9; --t1: #ee7733; --t2: #1fbf92; --t3: #dd99c0; --t4: #e69f00; --t5: #f0e442;
  --rest: #56606b; } }
*, ::before { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 1240px; padding: 2.6rem 1.6rem 4rem; background: var(--paper); color: var(--ink);
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Noto Sans", sans-serif;
  font-variant-numeric: tabular-nums; }
header { border-bottom: 1px solid var(--rule); padding-bottom: 1.6rem; margin-bottom: 2rem; }
.over { color: var(--quiet); font-size: .85rem; margin: 0 0 .5rem; max-width: none; }
h1 { font-size: clamp(1.35rem, 1rem + 1.5vw, 2rem); line-height: 1.25; font-weight: 600; letter-spacing: -.01em;
  margin: 0; max-width: 34em; text-wrap: balance; }
h2 { font-size: 1.3rem; font-weight: 600; margin: 2.8rem 0 .3rem; }
h2 + .lead { margin-top: 0; }
h3 { font-size: .95rem; font-weight: 600; margin: 0 0 .5rem; }
.lead { font-size: 1.05rem; max-width: 46em; }
p, li { max-width: 46em; }
.legend, figcaption { color: var(--quiet); font-size: .8rem; line-height: 1.4; }
.legend { margin: 0; max-width: 62em; }
figcaption { margin-top: .35rem; }
.wide { overflow-x: auto; margin: 1.4rem 0 .6rem; }
table { border-collapse: collapse; font-size: .9rem; width: 100%; }
th, td { padding: .5rem .75rem; text-align: right; vertical-align: top; white-space: nowrap; }
th { color: var(--quiet); font-weight: 500; font-size: .8rem; border-bottom: 1.5px solid var(--ink);
  vertical-align: bottom; }
td { border-bottom: 1px solid var(--rule); }
th:first-child, td:first-child { text-align: left; padding-left: 0; position: sticky; left: 0;
  background: var(--paper); }
th:last-child, td:last-child { padding-right: 0; }
.small table { width: auto; }
.small td, .small th { padding-right: 2rem; }
td small { display: block; color: var(--quiet); font-size: .76rem; }
td:first-child small { padding-left: 1.15rem; }
td.best { font-weight: 650; }
td.best small { font-weight: 400; }
.name::before { content: ""; display: inline-block; width: .62rem; height: .62rem; border-radius: 50%;
  margin-right: .53rem; background: var(--tone); }
.name { font-weight: 600; }
.plain::before { display: none; }
.name.base::before { background: none; border: 2px solid var(--tone); }
.up, .down { font-size: .7rem; vertical-align: .08em; font-weight: 400; }
.up { color: var(--t0); } .down { color: var(--t1); }
.figures { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 350px), 1fr)); gap: 2.4rem 2.2rem;
  margin: 2rem 0; align-items: start; }
figure { margin: 0; max-width: 470px; break-inside: avoid; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
svg text { font-size: 12px; fill: var(--ink); }
svg .tick, svg .axis, svg .note { fill: var(--quiet); }
svg .tick, svg .small { font-size: 11.5px; }
svg line, svg path { fill: none; }
line.axis, .diagonal { stroke: var(--quiet); }
.gridline { stroke: var(--rule); }
.diagonal { stroke-dasharray: 2 4; }
.zero { stroke: var(--ink); stroke-width: 1.2; }
.t0 { --tone: var(--t0); } .t1 { --tone: var(--t1); } .t2 { --tone: var(--t2); } .t3 { --tone: var(--t3); }
.t4 { --tone: var(--t4); } .t5 { --tone: var(--t5); } .rest { --tone: var(--rest); } .base { --tone: var(--ink); }
.line { stroke: var(--tone); stroke-width: 1.9; stroke-linejoin: round; stroke-linecap: round; }
.base .line { stroke-dasharray: 5 4; stroke-width: 1.6; stroke-linecap: butt; }
.faint .line { stroke-width: 1; opacity: .4; }
.bar { stroke: var(--tone); stroke-width: 2.2; stroke-linecap: round; }
.dot { fill: var(--tone); stroke: var(--paper); stroke-width: 1.2; }
.base .dot { fill: var(--paper); stroke: var(--tone); stroke-width: 2; }
.point { fill: var(--tone); fill-opacity: .45; }
.cell { fill: var(--tone); }
.count { fill: var(--tone); fill-opacity: .75; }
.under { fill: var(--paper); fill-opacity: .82; }
details { border-top: 1px solid var(--rule); padding: .55rem 0; max-width: 100%; }
details:last-of-type { border-bottom: 1px solid var(--rule); }
summary { cursor: pointer; font-size: .92rem; }
pre { background: var(--wash); padding: .9rem 1rem; border-radius: 6px; overflow-x: auto; font-size: .8rem;
  line-height: 1.45; }
footer { margin-top: 3rem; color: var(--quiet); font-size: .85rem; }
@media (max-width: 600px) { body { padding: 1.4rem 1rem 3rem; } th, td { padding: .45rem .55rem; } }
@media print { :root { color-scheme: light; --paper: #fff; --ink: #000; --quiet: #444; --rule: #ccc; --wash: #f4f4f4;
  --t0: #0072b2; --t1: #d55e00; --t2: #009e73; --t3: #cc79a7; --t4: #e69f00; --t5: #56b4e9; --rest: #aaa; }
  body { font-size: 11px; padding: 0; max-width: none; } .wide { overflow: visible; } th, td { padding: .3rem .4rem; }
  .figures { grid-template-columns: repeat(2, 1fr); gap: 1.4rem; } tr, figure { break-inside: avoid; }
  details:not([open]) { display: none; } @page { margin: 14mm; } }
"""
