"""How a report looks: dark and light, on a desk and on a telephone."""

from __future__ import annotations

__all__ = ["STYLE"]

# Text and links stand at 4.5 : 1 or more from what is behind them, in both schemes.
STYLE = """
:root { color-scheme: light dark;
  --paper: #ffffff; --card: #f5f6f8; --ink: #1b1f24; --soft: #57606a; --line: #d3d8de;
  --link: #0b57a4; --bad: #9a1c1c; --bad-card: #fdeeee; --good: #14602b; --good-card: #e9f6ed; }
@media (prefers-color-scheme: dark) { :root {
  --paper: #14171b; --card: #1e2329; --ink: #e6e9ed; --soft: #a4adb8; --line: #39414b;
  --link: #7db7f5; --bad: #ffa39c; --bad-card: #3a1f20; --good: #86d99f; --good-card: #18301f; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1rem; max-width: 76rem; color: var(--ink);
  background: var(--paper); font: 1rem/1.5 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.25rem; margin: 2.2rem 0 .6rem; padding-top: .6rem;
  border-top: 1px solid var(--line); }
h3 { font-size: 1.02rem; margin: 1rem 0 .4rem; }
p, ul { margin: .4rem 0; max-width: 50rem; }
ul { padding-left: 1.2rem; }
a { color: var(--link); }
nav ul { display: flex; flex-wrap: wrap; gap: .2rem 1rem; padding: 0; list-style: none;
  max-width: none; }
code, pre { font: .86rem/1.45 ui-monospace, Menlo, Consolas, monospace; }
pre { margin: .4rem 0; padding: .7rem; background: var(--card); border-radius: 6px;
  overflow-x: auto; overflow-wrap: normal; max-height: 28rem; }
pre.command { white-space: pre-wrap; overflow-wrap: anywhere; }
p code, li code, figcaption code, dd code { padding: .1em .3em; background: var(--card);
  border-radius: 4px; }
.soft, figcaption, caption { color: var(--soft); font-size: .88rem; }
.runs { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 22rem), 1fr)); }
.runs > * { min-width: 0; }
.figures { display: grid; gap: 0 1.2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 26rem), 1fr)); }
.figures > * { min-width: 0; }
.verdict { padding: .2rem 1rem .8rem; background: var(--card); border-radius: 8px;
  border-left: 5px solid var(--line); }
.verdict.good { border-left-color: var(--good); }
.verdict.bad { border-left-color: var(--bad); }
.badge { display: inline-block; padding: .05rem .6rem; border-radius: 1rem; font-size: .85rem;
  font-weight: 600; border: 1px solid var(--line); }
.badge.good { color: var(--good); background: var(--good-card); }
.badge.bad { color: var(--bad); background: var(--bad-card); }
.bad-text { color: var(--bad); font-weight: 600; }
figure { margin: .4rem 0 1rem; max-width: 46rem; }
.wide > * { min-width: 36rem; }
figure img, figure svg { display: block; width: 100%; height: auto; border-radius: 6px; }
figure img { background: #ffffff; border: 1px solid var(--line); }
figure svg text { fill: currentColor; }
.scroll { overflow-x: auto; margin: .5rem 0; }
.scroll:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; padding: .2rem 0; white-space: nowrap; }
tr.group th { padding-top: .8rem; font-weight: 400; white-space: normal; color: var(--soft); }
th, td { padding: .3rem .8rem .3rem 0; text-align: left; vertical-align: top;
  border-bottom: 1px solid var(--line); white-space: nowrap; }
details { margin: .6rem 0; }
summary { cursor: pointer; color: var(--link); }
footer { margin-top: 2.5rem; padding-top: .8rem; border-top: 1px solid var(--line); }
@media (max-width: 40rem) {
  td:first-child, th:first-child { white-space: normal; min-width: 7rem;
    overflow-wrap: normal; }
  tr.group th { overflow-wrap: anywhere; } }
@media print { pre { max-height: none; } nav { display: none; } }
"""
