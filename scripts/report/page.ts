// Lays out the page: one file without scripts and without external resources.
import { asTyped } from '../../src/errors.ts';
import { formatBytes, formatCount, plural } from '../cli/output.ts';
import { backupSection } from './backup-section.ts';
import { databaseSection } from './database-section.ts';
import { diagramSection } from './diagram-section.ts';
import { badge, distance, moment, type Tone } from './elements.ts';
import { isUnknown } from './fact.ts';
import type { Report, TrackingReport } from './facts.ts';
import { type Html, html, trusted } from './html.ts';
import { mapSection } from './map-section.ts';
import { style } from './style.ts';
import { trackingSection } from './tracking-section.ts';

/** @param refreshSeconds Seconds after which a browser loads the page again. */
export async function renderPage(
  report: Report,
  { refreshSeconds }: { refreshSeconds?: number } = {},
): Promise<string> {
  const diagrams = await diagramSection();
  const { markup } = html`<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<meta name="referrer" content="no-referrer">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; style-src 'unsafe-inline'">
${refreshSeconds !== undefined && html`<meta http-equiv="refresh" content="${refreshSeconds}">`}
<title>Atriz databases, ${moment(report.at)} UTC</title>
<style>${trusted(style)}</style>
</head>
<body>
<a class="skip" href="#main">Skip to the content</a>
<header>
<h1>Atriz databases</h1>
<p>As they were at <time datetime="${report.at}">${moment(report.at)} UTC</time>. All times are UTC.</p>
<nav aria-label="Sections"><ul>${sections.map(([id, title]) => html`<li><a href="#${id}">${title}</a></li>`)}</ul></nav>
</header>
<main id="main" tabindex="-1">
<section aria-labelledby="summary-title">
<h2 id="summary-title" class="hidden">At a glance</h2>
<dl class="tiles">${tiles(report)}</dl>
</section>
${databaseSection(report)}
${trackingSection(report)}
${mapSection(report)}
${backupSection(report)}
${diagrams}
</main>
<footer><p>Written by <code>npm run db:report</code>. It holds positions of vehicles: pass it on with care.</p></footer>
</body>
</html>
`;
  return asTyped(markup);
}

const sections = [
  ['databases', 'Databases'],
  ['tracking', 'Tracking'],
  ['map', 'Map'],
  ['backups', 'Backups'],
  ['diagrams', 'Diagrams'],
] as const;

function tiles({ databases, tracking, otherTracking, backups, at }: Report): Html[] {
  const reachable = databases.filter(({ state }) => state === 'reachable');
  const findings = databases.flatMap((database) => database.findings);
  const errors = findings.filter(({ severity }) => severity === 'error').length;
  const warnings = findings.length - errors;
  const missing = databases.length - reachable.length;
  const bytes = reachable.reduce((sum, { facts }) => sum + (isUnknown(facts) ? 0 : facts.bytes), 0);
  return [
    tile(
      'Databases',
      `${reachable.length} of ${databases.length}`,
      missing === 0 ? 'good' : 'warning',
      missing === 0 ? 'all answer' : `${missing} not reached`,
    ),
    tile('Findings', formatCount(findings.length), ...findingTone(errors, warnings)),
    tile('Size', formatBytes(bytes)),
    ...trackingTiles([tracking, ...otherTracking]),
    ...backupTiles(backups, at),
  ];
}

function findingTone(errors: number, warnings: number): [Tone, string] {
  if (errors > 0) return ['error', `${plural(errors, 'error')}, ${plural(warnings, 'warning')}`];
  return warnings > 0 ? ['warning', plural(warnings, 'warning')] : ['good', 'healthy'];
}

function trackingTiles(reports: readonly TrackingReport[]): Html[] {
  const read = reports.flatMap((one) => (isUnknown(one) || isUnknown(one.devices) ? [] : [one.devices]));
  if (read.length === 0) return [];
  const sum = (name: 'points' | 'known' | 'silent') => read.reduce((total, one) => total + one[name], 0);
  const [points, known, silent] = [sum('points'), sum('known'), sum('silent')];
  return [
    tile('Points of 30 days', formatCount(points)),
    tile(
      'Devices',
      formatCount(known),
      silent > 0 ? 'warning' : 'good',
      silent > 0 ? `${formatCount(silent)} silent` : 'none is silent',
    ),
  ];
}

function backupTiles(backups: Report['backups'], at: string): Html[] {
  if (isUnknown(backups)) return [];
  const [newest] = backups.backups;
  return newest
    ? [tile('Newest backup', distance(newest.startedAt, at))]
    : [tile('Newest backup', 'none', 'neutral', 'in this folder')];
}

const tile = (name: string, value: string, tone?: Tone, text = ''): Html =>
  html`<div class="tile"><dt>${name}</dt><dd><strong>${value}</strong>${tone && html` ${badge(tone, text)}`}</dd></div>`;
