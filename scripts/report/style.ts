// The style of the page: light, dark, on narrow screens and in print. All text has a contrast of at least 4.5:1.

export const style = `
:root {
  color-scheme: light dark;
  --page: #f4f6f8; --surface: #ffffff; --ink: #1b2430; --muted: #55606e; --line: #d3dae2; --accent: #0b5cad;
  --good: #14663a; --good-fill: #e2f3e8; --warning: #7d4a00; --warning-fill: #fcefd6;
  --error: #a8201a; --error-fill: #fce6e4; --neutral: #4a5563; --neutral-fill: #e8ecf0;
  --raw: #2f7ec4; --compressed: #1f8a5b; --grid: #e3e8ed; --device: #0b5cad;
  --speed-1: #5b1a78; --speed-2: #2c6496; --speed-3: #1f9a68; --speed-4: #b08a00;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --page: #11161d; --surface: #1a212b; --ink: #e6ebf1; --muted: #a7b2c0; --line: #364152; --accent: #8cc2ff;
    --good: #86d9a6; --good-fill: #15301f; --warning: #f2c176; --warning-fill: #35290f;
    --error: #ffa59c; --error-fill: #3d1c1a; --neutral: #bcc6d2; --neutral-fill: #29323e;
    --raw: #5ca9e8; --compressed: #4cc38c; --grid: #29323e; --device: #8cc2ff;
    --speed-1: #c79bf2; --speed-2: #6db6ee; --speed-3: #56d095; --speed-4: #f0d94a;
  }
}
* { box-sizing: border-box; }
html { scroll-padding-top: 1rem; -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--page); color: var(--ink); font: 1rem/1.5 system-ui, sans-serif; }
header, main, footer { max-width: 70rem; margin: 0 auto; padding: 0 1rem; }
header { padding-top: 1.5rem; }
main:focus { outline: none; }
h1 { margin: 0; font-size: 1.75rem; line-height: 1.2; }
h2 { margin: 3rem 0 1rem; font-size: 1.375rem; line-height: 1.25; }
h3 { margin: 2rem 0 .5rem; font-size: 1.0625rem; }
h4 { margin: 1rem 0 .25rem; font-size: .875rem; color: var(--muted); }
p { margin: .5rem 0; }
a { color: var(--accent); }
a:focus-visible, summary:focus-visible, [tabindex]:focus-visible { outline: 3px solid var(--accent); outline-offset: 2px; border-radius: 4px; }
small, .note { color: var(--muted); font-size: .875rem; }
code, pre { font-family: ui-monospace, Menlo, Consolas, monospace; font-size: .875rem; overflow-wrap: anywhere; }
pre { margin: .375rem 0; padding: .5rem .75rem; background: var(--neutral-fill); border-radius: 6px; white-space: pre-wrap; }
td, th, code, li, dd { unicode-bidi: isolate; }
.skip { position: absolute; left: -100rem; }
.skip:focus { left: 1rem; top: .5rem; padding: .5rem 1rem; background: var(--surface); z-index: 1; }
.hidden { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); white-space: nowrap; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; margin: .75rem 0 0; padding: 0; list-style: none; }
nav a { display: inline-block; padding: .25rem 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(9.5rem, 1fr)); gap: .75rem; margin: 1.25rem 0 0; }
.tile { padding: .75rem 1rem; background: var(--surface); border: 1px solid var(--line); border-radius: 10px; }
.tile dt { color: var(--muted); font-size: .875rem; }
.tile dd { display: flex; flex-wrap: wrap; align-items: center; gap: .25rem .5rem; margin: .125rem 0 0; }
.tile strong { font-size: 1.25rem; font-variant-numeric: tabular-nums; }
.databases { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 30rem), 1fr)); align-items: start; gap: 1rem; margin: 1rem 0; }
.card { min-width: 0; padding: 1rem 1.25rem; background: var(--surface); border: 1px solid var(--line); border-radius: 10px; }
.card h3 { margin: 0 0 .25rem; display: flex; flex-wrap: wrap; align-items: center; gap: .5rem; }
.badge { display: inline-block; padding: .0625rem .5rem; border-radius: 999px; font-size: .8125rem; font-weight: 600; white-space: nowrap; }
.tile .badge { white-space: normal; border-radius: 10px; }
.badge.good { color: var(--good); background: var(--good-fill); }
.badge.warning { color: var(--warning); background: var(--warning-fill); }
.badge.error { color: var(--error); background: var(--error-fill); }
.badge.neutral { color: var(--neutral); background: var(--neutral-fill); }
.findings { margin: .75rem 0; padding: 0; list-style: none; }
li, p { overflow-wrap: anywhere; }
.findings li { margin: .75rem 0; }
.scroll { margin: .75rem 0; overflow-x: auto; background: var(--surface); border: 1px solid var(--line); border-radius: 10px; }
table { width: 100%; border-collapse: collapse; font-size: .9375rem; }
caption { padding: .625rem .875rem 0; text-align: left; color: var(--muted); font-size: .875rem; }
th, td { padding: .5rem .875rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
tbody tr:last-child > * { border-bottom: 0; }
thead th { color: var(--muted); font-size: .8125rem; font-weight: 600; white-space: nowrap; }
tbody th { font-weight: 600; }
td { min-width: 7rem; }
td time, td .badge, td code { white-space: nowrap; }
td small { display: block; }
td.number { min-width: 0; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
details { margin: .5rem 0; }
.card details:last-child { margin-bottom: 0; }
summary { cursor: pointer; color: var(--accent); padding: .25rem 0; }
figure { margin: .75rem 0; padding: .75rem .5rem; background: var(--surface); border: 1px solid var(--line); border-radius: 10px; }
figure svg { display: block; max-width: 100%; height: auto; margin: 0 auto; }
.plot { font-size: 12px; color: var(--muted); }
.narrow { display: none; }
.legend { display: flex; flex-wrap: wrap; gap: .25rem 1.25rem; padding: .5rem .5rem 0; color: var(--muted); font-size: .875rem; }
.swatch { display: inline-block; width: .875rem; height: .875rem; margin-right: .375rem; border-radius: 3px; vertical-align: -.125rem; }
.swatch.raw { background: var(--raw); }
.swatch.compressed { background: var(--compressed); }
.swatch.before { border: 1px dashed var(--muted); }
.swatch.line { height: .25rem; vertical-align: .25rem; }
.swatch.speed-1 { background: var(--speed-1); }
.swatch.speed-2 { background: var(--speed-2); }
.swatch.speed-3 { background: var(--speed-3); }
.swatch.speed-4 { background: var(--speed-4); }
.swatch.stop { border: 1.5px solid var(--ink); border-radius: 50%; }
.diagram { padding: .75rem; }
.entities { display: block; max-width: none; height: auto; margin: 0 auto; font-family: Helvetica, Arial, "Liberation Sans", Arimo, sans-serif; }
.entities text { fill: var(--ink); }
.entities polygon, .entities path { stroke: var(--muted); }
.entities ellipse { stroke: var(--muted); }
.entities .node polygon[fill="none"] { stroke: var(--line); }
.entities polygon[fill="#eeeeee"] { fill: var(--neutral-fill); }
.entities polygon[fill="black"] { fill: var(--muted); }
@media screen and (max-width: 45rem) {
  .wide { display: none; }
  .narrow { display: block; }
}
footer { margin-top: 3rem; padding-bottom: 2rem; color: var(--muted); font-size: .875rem; }
@media print {
  :root { color-scheme: light; }
  body { background: #fff; font-size: 10pt; }
  nav, .skip { display: none; }
  header, main, footer { max-width: none; padding: 0; }
  .databases { display: block; }
  .card { margin: 1rem 0; }
  .card, .tile, figure, tr { break-inside: avoid; }
  h2, h3 { break-after: avoid; }
  .scroll { overflow: visible; }
  .entities { max-width: 100%; }
  /* Print what is collapsed on the screen. */
  details::details-content { content-visibility: visible; block-size: auto; }
  summary { list-style: none; color: inherit; }
  a { color: inherit; text-decoration: none; }
  .badge { border: 1px solid; }
  .swatch { print-color-adjust: exact; }
}
`;
