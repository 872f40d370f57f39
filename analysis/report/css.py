"""How the report's page looks. Its figures: `analysis.report.style`."""

from __future__ import annotations

CSS = """
:root { --ink: #1d2530; --soft: #5b6675; --line: #dfe3e9; --wash: #f6f8fa; --link: #1f5fa8; }
* { box-sizing: border-box; }
html { scroll-behavior: smooth; }
body { margin: 0; background: #fff; color: var(--ink);
  font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", Arial, sans-serif; }
header, main, footer { max-width: 1240px; margin: 0 auto; padding: 0 28px; }
header { padding-top: 30px; }
h1 { font-size: 28px; line-height: 1.2; margin: 0 0 14px; letter-spacing: -0.01em; }
h2 { font-size: 20px; margin: 0 0 8px; }
h3 { font-size: 15.5px; margin: 18px 0 4px; }
details > summary { cursor: pointer; font-weight: 600; margin: 10px 0; }
p { margin: 0 0 10px; max-width: 92ch; }
code { font: 12.5px/1.4 ui-monospace, "SF Mono", Menlo, Consolas, monospace; }
small { color: var(--soft); font-size: 12.5px; }
dl {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(230px, 1fr)); gap: 8px 26px;
  margin: 0 0 16px; }
dt { font-size: 11.5px; text-transform: uppercase; letter-spacing: 0.05em; color: var(--soft); }
dd { margin: 0; overflow-wrap: anywhere; }
dl .whole { grid-column: 1 / -1; }
nav { display: flex; flex-wrap: wrap; gap: 8px; padding: 12px 0 16px; border-bottom: 1px solid var(--line); }
nav a {
  color: var(--link); text-decoration: none; border: 1px solid var(--line); border-radius: 999px;
  padding: 3px 13px; font-size: 13.5px; }
nav a:hover { background: var(--wash); }
section { padding: 26px 0 10px; border-bottom: 1px solid var(--line); }
section:last-child { border-bottom: 0; }
.figure { margin: 8px 0 4px; min-height: 120px; }
.formulas {
  color: var(--soft); font-size: 13px; margin: 2px 0 14px; padding: 8px 14px;
  background: var(--wash); border-radius: 6px; }
.formulas sub { line-height: 0; }
.formulas ul { margin: 0; padding-left: 18px; }
.formulas .n { margin: 4px 0 0; color: var(--ink); max-width: none; }
.table { overflow-x: auto; margin: 8px 0 18px; }
table { border-collapse: collapse; font-size: 13.5px; font-variant-numeric: tabular-nums; }
.table table { width: 100%; }
.table td small { margin-left: 5px; }
.table.wide td, .table.wide th { padding: 5px 6px; }
.table.wide table { font-size: 13px; }
.table.wide td small { display: block; line-height: 1.15; font-size: 11.5px; }
th {
  text-align: left; font-weight: 600; vertical-align: bottom; line-height: 1.25;
  color: var(--soft); font-size: 12.5px; }
th, td { padding: 5px 10px; border-bottom: 1px solid var(--line); }
td.text, th.text { white-space: nowrap; }
td.long, th.long { white-space: normal; min-width: 15em; max-width: 26em; }
.table.spread th:first-child, .table.spread td:first-child {
  position: sticky; left: 0; background: #fff; box-shadow: 1px 0 0 var(--line); }
.table.spread thead tr:nth-child(2) th:first-child { position: static; box-shadow: none; }
th.over { text-align: center; border-left: 1px solid var(--line); color: var(--ink); }
td.num, th.num { text-align: right; }
td.num { white-space: nowrap; }
thead th { border-bottom: 1.5px solid #b6bec9; }
tr.group td { border-top: 2px solid #8d97a5; }
tr.heading th {
  color: var(--ink); font-size: 13.5px; padding-top: 14px; white-space: normal; border-bottom: 0;
  border-top: 1.5px solid #b6bec9; }
tr.heading span:nth-child(n+3) { display: block; font-weight: 400; color: var(--soft); font-size: 12.5px; }
tbody tr:hover { background: var(--wash); }
.sanity { border: 1px solid var(--line); border-radius: 8px; padding: 10px 16px 6px; margin: 0 0 14px; }
.sanity td, .sanity th { border: 0; padding: 3px 26px 3px 0; color: var(--ink); font-size: 13.5px; }
.sanity p { color: var(--soft); font-size: 13px; margin: 6px 0 4px; max-width: none; }
.badge {
  display: inline-block; border-radius: 4px; padding: 0 7px; font-size: 12px; font-weight: 600;
  margin: 0 4px; }
.badge.ok { background: #dff1e6; color: #17613c; }
.badge.bad { background: #fbe1e1; color: #94201f; }
.badge.none { background: #eceff3; color: #4a5563; }
.note {
  border-left: 3px solid #c7ced8; background: var(--wash); padding: 7px 14px; font-size: 13.5px;
  margin: 0 0 14px; max-width: none; }
.note.bad { border-color: #c9403e; }
.note summary { cursor: pointer; font-weight: 600; }
.note ul { margin: 4px 0 0; padding-left: 18px; }
footer { color: var(--soft); font-size: 12.5px; padding: 18px 28px 40px; }
@media print { nav { display: none; } section { break-inside: avoid; } }
"""
