// Tracking on the page: chunks, hours, policies and their jobs, silent devices, late hours.
import { applicationOf } from '../../src/databases.ts';
import { formatBytes, formatCount, plural } from '../cli/output.ts';
import type { TimescaleFacts } from '../commands/status.ts';
import { chunkChart, hourChart } from './charts.ts';
import { badge, details, distance, moment, notice, show, table, timeElement, when } from './elements.ts';
import { isUnknown } from './fact.ts';
import type { Report, TrackingReport } from './facts.ts';
import { type Html, html } from './html.ts';
import { type ChunkFacts, chartDays, knownDays, silentHours, type TrackingFacts } from './tracking-facts.ts';

export const trackingSection = (report: Report): Html => trackingSections(report, 'Tracking', content);

export type Tracking = Exclude<TrackingReport, { unknown: string }>;

/** A section for each tracking database, or the reason why it could not be read. */
export function trackingSections(
  { tracking, otherTracking, at }: Report,
  title: string,
  render: (tracking: Tracking, at: string) => Html,
): Html {
  return html`${[tracking, ...otherTracking].map((one, index) => {
    const id = `${title.toLowerCase()}${index === 0 ? '' : `-${index + 1}`}`;
    return html`<section id="${id}" aria-labelledby="${id}-title">
<h2 id="${id}-title">${title}${one.key && ` (${applicationOf(one.key) ?? 'shared'})`}</h2>
${isUnknown(one) ? notice(one) : render(one, at)}
</section>`;
  })}`;
}

function content({ timescale, chunks, hours, devices, late }: Tracking, at: string): Html {
  return html`<h3>Chunks</h3>
${show(chunks, chunkTable)}
<h3>Points per hour</h3>
${show(hours, (found) => (found.length === 0 ? html`<p>There are no points in the last ${chartDays} days.</p>` : hourChart(found, at)))}
<h3>Late hours</h3>
${show(late, lateHours)}
<h3>Policies and their jobs</h3>
${show(timescale, (facts) => jobTable(facts, at))}
<h3>Devices that fell silent</h3>
${show(devices, (found) => silentTable(found, at))}`;
}

function chunkTable(chunks: readonly ChunkFacts[]): Html {
  if (chunks.length === 0) return html`<p>There are no chunks yet.</p>`;
  const [bytes, compressed] = [sumOf(chunks), chunks.filter(({ isCompressed }) => isCompressed)];
  const raw = compressed.reduce((sum, chunk) => sum + (chunk.rawBytes ?? chunk.bytes), 0);
  const saved =
    compressed.length > 0 &&
    `; ${formatCount(compressed.length)} are compressed, from ${formatBytes(raw)} to ${formatBytes(sumOf(compressed))}`;
  return html`<p>${plural(chunks.length, 'chunk')}, ${formatBytes(bytes)}${saved}.</p>
${chunkChart(chunks)}
${details(
  'Every chunk in numbers',
  table({
    caption: 'Chunks of location_events',
    head: ['from (UTC)', 'state', 'size', 'before compression', 'ratio'],
    numbers: [2, 3, 4],
    rows: chunks.map(({ from, isCompressed, bytes, rawBytes }) => [
      when(from),
      isCompressed ? 'compressed' : 'raw',
      formatBytes(bytes),
      rawBytes === null ? '' : formatBytes(rawBytes),
      rawBytes === null ? '' : `${(rawBytes / bytes).toFixed(1)} ×`,
    ]),
  }),
)}`;
}

const sumOf = (chunks: readonly ChunkFacts[]): number => chunks.reduce((sum, { bytes }) => sum + bytes, 0);

const lateHours = ({ hours, from, to }: Known<'late'>): Html =>
  hours === 0
    ? html`<p>${badge('good', 'none')} No hour waits to be summarised again.</p>`
    : html`<p>${badge('warning', plural(hours, 'hour'))} changed after they were summarised, from ${moment(from ?? '')} to ${moment(to ?? '')}. The refresh policies do them.</p>`;

type Known<Name extends keyof TrackingFacts> = Exclude<TrackingFacts[Name], { unknown: string } | null>;

function jobTable({ policies }: TimescaleFacts, at: string): Html {
  if (policies.length === 0) return html`<p>${badge('warning', 'none')} No policy is set.</p>`;
  return table({
    caption: 'Each policy, and when its job runs',
    head: ['policy', 'setting', 'every', 'last run (UTC)', 'result', 'next run (UTC)', 'failures'],
    numbers: [6],
    rows: policies.map((policy) => [
      `${policy.policy} of ${policy.relation}`,
      Object.entries(policy.settings)
        .map(([name, value]) => `${name} ${value}`)
        .join(', '),
      policy.every,
      timeElement(policy.lastRun, at),
      result(policy),
      timeElement(policy.nextRun, at, 'not planned'),
      formatCount(policy.failures),
    ]),
  });
}

function result({ lastResult, lastError }: TimescaleFacts['policies'][number]): Html {
  if (lastResult === null) return badge('neutral', 'none');
  const hasFailed = lastResult === 'Failed';
  return html`${badge(hasFailed ? 'error' : 'good', lastResult.toLowerCase())}${hasFailed && lastError && html` <small>${lastError}</small>`}`;
}

function silentTable({ known, silent, silentDevices }: Known<'devices'>, at: string): Html {
  const text = `Of ${plural(known, 'device')} of the last ${knownDays} days`;
  if (silent === 0)
    return html`<p>${badge('good', 'none')} ${text}, each sent a point in the last ${silentHours} hours.</p>`;
  const rest = silent - silentDevices.length;
  return html`<p>${badge('warning', `${formatCount(silent)} silent`)} ${text}, that many sent nothing for ${silentHours} hours${rest > 0 && `; the latest ${silentDevices.length} are listed`}.</p>
${table({
  caption: 'The latest to fall silent first',
  head: ['device', 'last point (UTC)', 'silent since', 'id'],
  rows: silentDevices.map(({ label, lastSeen, deviceId }) => [
    label,
    when(lastSeen),
    distance(lastSeen, at),
    html`<code>${deviceId}</code>`,
  ]),
})}`;
}
