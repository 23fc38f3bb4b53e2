// The databases on the page: an overview, and for each database its findings with mends, migrations and tables.
import { applicationOf, keyOf } from '../../src/databases.ts';
import { formatBytes, formatCount, plural } from '../cli/output.ts';
import { type MigrationFacts, migrationText, serverText } from '../commands/status.ts';
import type { Finding } from '../doctor/finding.ts';
import { badge, details, notice, show, type Tone, table } from './elements.ts';
import { isUnknown } from './fact.ts';
import type { DatabaseReport, Report, TrackingReport } from './facts.ts';
import { type Html, html } from './html.ts';

export function databaseSection(report: Report): Html {
  return html`<section id="databases" aria-labelledby="databases-title">
<h2 id="databases-title">Databases</h2>
${table({
  caption: 'The databases',
  head: ['database', 'state', 'server', 'size', 'tables', 'migrations', 'findings'],
  numbers: [3, 4],
  rows: report.databases.map(overview),
})}
<p class="note">Findings are those of <code>npm run db:doctor</code>, without its comparison with a migrated scratch database.</p>
<div class="databases">${report.databases.map((database) => chapter(database, report))}</div>
</section>`;
}

function overview(database: DatabaseReport): (string | Html)[] {
  const { key, facts, migrations } = database;
  const name = html`<a href="#database-${key}">${titleOf(database)}</a>`;
  const state = badge(stateTones[database.state], database.state);
  if (database.state !== 'reachable') return [name, state, '', '', '', '', findingCount(database)];
  return [
    name,
    state,
    isUnknown(facts) ? 'unknown' : `PostgreSQL ${serverText(facts)}`,
    isUnknown(facts) ? 'unknown' : formatBytes(facts.bytes),
    isUnknown(facts) ? 'unknown' : formatCount(facts.tables.length),
    isUnknown(migrations) ? 'unknown' : migrationText(migrations),
    findingCount(database),
  ];
}

/** Adds the application, because several tracking databases may have the same name, each on its own server. */
export const titleOf = ({ key, database }: Pick<DatabaseReport, 'key' | 'database'>): string =>
  key === keyOf(key) ? database : `${database} (${applicationOf(key)})`;

const stateTones: Readonly<Record<DatabaseReport['state'], Tone>> = {
  reachable: 'good',
  unreachable: 'error',
  'not configured': 'neutral',
};

function findingCount({ state, findings }: DatabaseReport): Html {
  const count = (severity: Finding['severity']) =>
    findings.filter((finding) => finding.severity === severity).length;
  const [errors, warnings] = [count('error'), count('warning')];
  if (errors + warnings === 0) return state === 'reachable' ? badge('good', 'none') : html``;
  return html`${errors > 0 && badge('error', plural(errors, 'error'))} ${warnings > 0 && badge('warning', plural(warnings, 'warning'))}`;
}

function chapter(database: DatabaseReport, { tracking, otherTracking }: Report): Html {
  const { key, holds, url, origin, facts, state } = database;
  return html`<article class="card" id="database-${key}" aria-labelledby="database-${key}-title">
<h3 id="database-${key}-title">${titleOf(database)} ${badge(stateTones[state], state)}</h3>
<p>${holds[0]?.toUpperCase()}${holds.slice(1)}.</p>
${url !== null && html`<p class="note"><code>${url}</code>, from ${origin}</p>`}
${state === 'reachable' ? findingList(database) : [...(isUnknown(facts) ? [notice(facts)] : []), mendOf(database)]}
${state === 'reachable' && show(database.migrations, migrationList)}
${
  state === 'reachable' &&
  show(facts, ({ tables }) =>
    details(
      `${plural(tables.length, 'table')}, rows and bytes`,
      table({
        caption: `Tables of ${titleOf(database)}`,
        head: ['table', 'rows, about', 'size', ''],
        numbers: [1, 2],
        rows: tables.map(({ name, rows, bytes, comment }) => {
          const stored = storedSizes(key, name, [tracking, ...otherTracking]);
          return [
            name,
            stored?.rows ?? formatCount(rows),
            stored?.bytes ?? formatBytes(bytes),
            comment ?? '',
          ];
        }),
      }),
    ),
  )
}
</article>`;
}

/** Returns rows and bytes of a hypertable's chunks, because the hypertable itself is empty. */
function storedSizes(key: string, name: string, reports: readonly TrackingReport[]) {
  if (name !== 'location_events') return undefined;
  const tracking = reports.find((one) => (one.key ?? 'tracking') === key);
  if (!tracking || isUnknown(tracking)) return undefined;
  const { timescale, devices } = tracking;
  const stored = isUnknown(timescale) ? undefined : timescale.hypertables.find((one) => one.name === name);
  return {
    rows: isUnknown(devices) ? 'unknown' : formatCount(devices.points),
    bytes: stored ? formatBytes(stored.bytes) : 'unknown',
  };
}

/** The mends for a database that does not answer. The reason is already shown. */
const mendOf = ({ findings }: DatabaseReport): Html =>
  html`${findings.map(({ mend }) => html`<pre><code>${mend}</code></pre>`)}`;

function findingList({ findings, unchecked }: DatabaseReport): Html {
  const unknown = unchecked.map((reason) => notice({ unknown: `${reason}.` }));
  if (findings.length === 0) {
    const rest = unchecked.length > 0 && ' where it could look';
    return html`<p>${badge('good', 'healthy')} The doctor finds nothing${rest}.</p>${unknown}`;
  }
  const errorsFirst = [...findings].sort((one, other) => one.severity.localeCompare(other.severity));
  return html`<ul class="findings">${errorsFirst.map(
    ({ severity, check, reason, mend, note }) => html`
<li>${badge(severity, severity)} <strong>${check}</strong>: ${reason}
<pre><code>${mend}</code></pre>${note && html`<small>${note}</small>`}</li>`,
  )}
</ul>${unknown}`;
}

function migrationList(migrations: MigrationFacts): Html {
  const { isInStep, applied, pending, problems } = migrations;
  const summary = `Migrations: ${migrationText(migrations)}`;
  const lists = Object.entries({ pending, applied })
    .filter(([, tags]) => tags.length > 0)
    .map(([title, tags]) => html`<h4>${title}</h4><ol>${tags.map((tag) => html`<li>${tag}</li>`)}</ol>`);
  const found = problems.map((problem) => html`<p>${badge('error', 'problem')} ${problem}</p>`);
  return html`${!isInStep && html`<p>${badge('warning', 'out of step')} ${migrationText(migrations)}</p>`}${found}${details(summary, lists)}`;
}
