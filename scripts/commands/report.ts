// report: writes one HTML page about the databases, their tables, tracking and backups.
import { writeFile } from 'node:fs/promises';
import { resolve } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { Command } from 'commander';
import { ConfigurationError } from '../../src/errors.ts';
import { parseTime, parseUuid } from '../cli/arguments.ts';
import { formatBytes, printJson } from '../cli/output.ts';
import { saysWhere } from '../cli/where.ts';
import { openInBrowser } from '../report/browser.ts';
import { readReport } from '../report/facts.ts';
import type { TrackRequest } from '../report/tracking-facts.ts';

interface ReportOptions {
  out: string;
  open?: boolean;
  device?: string;
  from?: Date;
  to?: Date;
  json?: boolean;
}

export function registerReport(program: Command): void {
  saysWhere(program.command('report'))
    .description(
      'write a page of all databases: findings, tables, diagrams, chunks, jobs, a map, backups; only reads',
    )
    .option('--out <file>', 'the page; it is overwritten', 'atriz-report.html')
    .option('--open', 'show it in the browser')
    .option('--device <uuid>', 'draw the track of this device', parseUuid)
    .option('--from <time>', 'of the track, ISO 8601; default: a day before --to', parseTime)
    .option('--to <time>', 'of the track, exclusive; default: now', parseTime)
    .option('--json', 'print the same facts, and write no page')
    .action(report);
}

async function report({ out, open, json, ...options }: ReportOptions): Promise<void> {
  const track = trackRequest(options);
  if (json) return printJson(await readReport(track));
  // Loads the code that draws the page only for this command, while the databases are read.
  const [facts, { renderPage }] = await Promise.all([readReport(track), import('../report/page.ts')]);
  const page = await renderPage(facts);
  const file = resolve(out);
  await writeFile(file, page);
  console.log(`${file} (${formatBytes(Buffer.byteLength(page))})`);
  if (open) openInBrowser(pathToFileURL(file).href);
}

function trackRequest({
  device,
  from,
  to,
}: Pick<ReportOptions, 'device' | 'from' | 'to'>): TrackRequest | undefined {
  if (device === undefined) {
    if (from ?? to) throw new ConfigurationError('--from and --to are of a track: name its --device.');
    return undefined;
  }
  const end = to ?? new Date();
  const start = from ?? new Date(end.getTime() - 86_400_000);
  if (start >= end) throw new ConfigurationError('--from should lie before --to.');
  return { deviceId: device, from: start, to: end };
}
