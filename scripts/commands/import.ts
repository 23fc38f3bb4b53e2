// import: loads GPS locations from a file of CSV, NDJSON, GeoJSON or GPX into location_events.
import { existsSync, realpathSync, statSync } from 'node:fs';
import { dirname, resolve } from 'node:path';
import { finished } from 'node:stream/promises';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { locationSources } from '../../schema/tracking.ts';
import { ConfigurationError } from '../../src/errors.ts';
import type { Pool } from '../../src/pool.ts';
import { foreignSources } from '../../src/targets.ts';
import { locationFormats } from '../../src/tracking/import/dialect.ts';
import { type ImportResult, importLocations } from '../../src/tracking/import/import.ts';
import { type ParsedLocation, parseLocations } from '../../src/tracking/import/parse.ts';
import { checkLimits, type LocationLimits, locationLimits } from '../../src/tracking/validate.ts';
import { parseApplication, parseUuid } from '../cli/arguments.ts';
import { formatCount, plural, printJson } from '../cli/output.ts';
import { trackingOf, withPool } from '../cli/pools.ts';
import { startBar } from '../cli/progress.ts';
import { saysWhere } from '../cli/where.ts';
import {
  type Detected,
  type FileOptions,
  type Input,
  openInput,
  parseOptions,
  readText,
} from './import/location-file.ts';
import { drained, isRegularFile, openRejects, type Rejects } from './import/rejects-file.ts';

interface ImportOptions extends FileOptions {
  once?: boolean;
  dryRun?: boolean;
  shiftToNow?: boolean;
  json?: boolean;
}

/** What an import did, as `--json` prints it. */
interface Report extends Omit<ImportResult, 'rejected'> {
  detected: Detected;
  isDryRun: boolean;
  rejectedCount: number;
  /** The first 1,000 rejected rows. The rejects file contains all of them. */
  rejected: { line: number; reason: string }[];
  rejectsFile: string | null;
  /** The rejects file of an earlier import, which this import left unchanged. */
  earlierRejectsFile: string | null;
}

/** Limits memory and output. The rejects file contains all rejects. */
const rejectsKept = 1_000;
const rejectsShown = 20;

export function registerImport(program: Command): void {
  saysWhere(program.command('import'), ['tracking'])
    .description(
      'load GPS locations from a file of CSV (with a header), NDJSON, GeoJSON or GPX, also compressed by gzip',
    )
    .argument('<file>', 'all good rows are loaded, or none')
    .option(
      '--app <name>',
      `app_source where the file has none: ${locationSources.join(', ')}; chooses the database where it has its own`,
      parseApplication,
    )
    .option('--device <uuid>', 'device_id where the file has none', parseUuid)
    .option('--user <uuid>', 'user_id where the file has none', parseUuid)
    .addOption(
      new Option('--format <format>', 'default: by the name and the beginning of the file').choices(
        locationFormats,
      ),
    )
    .option(
      '--delimiter <character>',
      'between the cells of CSV; default: the one that fits the header',
      parseDelimiter,
    )
    .option(
      '--columns <pairs>',
      'what names mean, as in lat=latitude,when=time,battery= (left out)',
      parseColumns,
    )
    .option('--time-zone <name>', 'of times without a zone, such as Europe/Rome; default: UTC')
    .option('--once', 'leave out locations that are stored already: same device, same time')
    .option('--dry-run', 'read and check the file, load nothing')
    .option('--shift-to-now', 'move the whole track in time so that it ends now')
    .option('--allow-zero-position', 'take locations at 0,0, which a receiver without a fix sends')
    .option(
      '--rejects <file>',
      'a new file for rows that do not fit; default: <name>.rejects.<format> beside the input',
    )
    .option('--json', 'print JSON')
    .action(async (file: string, options: ImportOptions) => {
      const result = await importFile(file, options);
      if (options.json) printJson(result);
      else report(result);
      if (result.rejectedCount > 0) process.exitCode = 1;
    });
}

function parseDelimiter(text: string): string {
  const delimiter = text === '\\t' || text === 'tab' ? '\t' : text;
  if (delimiter.length === 1) return delimiter;
  throw new InvalidArgumentError('It should be one character, or tab.');
}

function parseColumns(text: string): Record<string, string | null> {
  const pairs = text.split(',').map((pair) => pair.split('='));
  if (pairs.some((pair) => pair.length !== 2)) {
    throw new InvalidArgumentError(
      'It should be pairs of a name and a column, such as lat=latitude,battery=.',
    );
  }
  return Object.fromEntries(pairs.map(([name = '', column = '']) => [name.trim(), column.trim() || null]));
}

async function importFile(file: string, options: ImportOptions): Promise<Report> {
  const facts = statSync(file, { throwIfNoEntry: false });
  if (!facts) throw new ConfigurationError(`There is no file ${resolve(file)}.`);
  if (!facts.isFile()) throw new ConfigurationError(`${resolve(file)} is not a file.`);
  if (facts.size === 0) throw new ConfigurationError(`${resolve(file)} is empty.`);
  const input = await openInput(file, options);
  if (existsSync(input.rejectsFile) && realpathSync(input.rejectsFile) === realpathSync(file)) {
    throw new ConfigurationError(
      `--rejects names the file that is read, ${resolve(file)}: choose another one.`,
    );
  }
  if (options.rejects && isRegularFile(input.rejectsFile)) {
    throw new ConfigurationError(
      `${input.rejectsFile} exists, and somebody may be mending it: choose another name for --rejects.`,
    );
  }
  if (!existsSync(dirname(input.rejectsFile))) {
    throw new ConfigurationError(`There is no folder ${dirname(input.rejectsFile)} for the rejects.`);
  }
  const target = trackingOf(options.app);
  const limits = locationLimits({
    anyAge: true,
    allowZeroPosition: input.allowZeroPosition,
    foreignSources: foreignSources(target),
  });
  const shiftMs = options.shiftToNow ? await shiftToNow(input, limits) : 0;
  if (options.dryRun) return await look(input, shiftMs, limits, options.json ?? false);
  using bar = startBar('{bar} {percentage}% | {rows} rows | {eta_formatted} left', facts.size, { rows: '0' });
  const onProgress = (bytes: number, rows: number) => bar.update(bytes, { rows: formatCount(rows) });
  return await withPool(target, (pool) => load(pool, input, shiftMs, options, onProgress));
}

/** Reads and checks everything, and loads nothing. */
async function look(input: Input, shiftMs: number, limits: LocationLimits, json: boolean): Promise<Report> {
  const rejected: Report['rejected'] = [];
  const times = { from: Number.POSITIVE_INFINITY, to: Number.NEGATIVE_INFINITY };
  let [loaded, rejectedCount] = [0, 0];
  const { options, detected } = parseOptions(input, json);
  for await (const batch of parseLocations(readText(input).stream, input.format, options)) {
    for (const parsed of batch) {
      const checked = checkTime(parsed, shiftMs, limits);
      if (typeof checked === 'number') {
        loaded += 1;
        times.from = Math.min(times.from, checked);
        times.to = Math.max(times.to, checked);
        continue;
      }
      rejectedCount += 1;
      if (rejected.length < rejectsKept) rejected.push({ line: parsed.position, reason: checked });
    }
  }
  return {
    detected: detected(),
    isDryRun: true,
    loaded,
    from: loaded > 0 ? new Date(times.from) : null,
    to: loaded > 0 ? new Date(times.to) : null,
    rejectedCount,
    rejected,
    olderThanRetention: 0,
    alreadyStored: 0,
    compressed: 0,
    unendedLine: null,
    refreshed: [],
    rejectsFile: null,
    earlierRejectsFile: null,
  };
}

/** Reads the whole file. @returns the milliseconds from the newest valid location to the present. */
async function shiftToNow(input: Input, limits: LocationLimits): Promise<number> {
  const { format, defaults, dialect } = input;
  let newest = Number.NEGATIVE_INFINITY;
  for await (const lines of parseLocations(readText(input).stream, format, { ...dialect, defaults })) {
    for (const parsed of lines) {
      const checked = checkTime(parsed, 0, limits);
      if (typeof checked === 'number') newest = Math.max(newest, checked);
    }
  }
  return Number.isFinite(newest) ? Date.now() - newest : 0;
}

/** @returns the shifted time in milliseconds since 1970, or the reason why the location is rejected. */
function checkTime(parsed: ParsedLocation, shiftMs: number, limits: LocationLimits): number | string {
  if (!('location' in parsed)) return parsed.reason;
  const time = parsed.location.time.getTime() + shiftMs;
  return checkLimits({ ...parsed.location, time: new Date(time) }, limits) ?? time;
}

async function load(
  pool: Pool,
  file: Input,
  shiftMs: number,
  { once = false, json = false }: ImportOptions,
  onProgress: (bytes: number, rows: number) => void,
): Promise<Report> {
  const rejects: Report['rejected'] = [];
  let kept: Rejects | undefined;
  let header: string | undefined;
  const { format, rejectsFile, allowZeroPosition } = file;
  const input = readText(file);
  const { options, detected } = parseOptions(file, json, (text) => {
    header = text;
  });
  const { rejected, ...result } = await importLocations(
    pool,
    { ...options, format, stream: input.stream },
    {
      shiftMs,
      allowZeroPosition,
      once,
      onReject: ({ position: line, reason, text, bytes }) => {
        if (rejects.length < rejectsKept) rejects.push({ line, reason });
        kept ??= openRejects(rejectsFile, header);
        const { stream } = kept;
        // The reason is a comment, which imports skip, so the corrected file can be imported directly.
        const comment = `# line ${line}: ${reason}\n`;
        const isTaken = stream.write(
          bytes ? Buffer.concat([Buffer.from(comment), bytes, Buffer.from('\n')]) : `${comment}${text}\n`,
        );
        // Waits until the stream has written, so that rejects do not fill the memory.
        return isTaken ? undefined : drained(stream);
      },
      onProgress: (rows) => onProgress(input.bytesRead(), rows),
      // Rolls the import back if the rejects cannot be written, because they would be lost.
      beforeCommit: async () => {
        if (!kept) return;
        kept.stream.end();
        await finished(kept.stream);
      },
    },
  ).catch((error: unknown) => {
    // Nothing was loaded, so remove the rejects file: it would suggest that all other rows were loaded.
    kept?.remove();
    throw error;
  });
  const earlier = kept?.path !== rejectsFile && isRegularFile(rejectsFile) ? rejectsFile : null;
  return {
    detected: detected(),
    isDryRun: false,
    ...result,
    rejectedCount: rejected,
    rejected: rejects,
    rejectsFile: kept?.path ?? null,
    earlierRejectsFile: earlier,
  };
}

function report(result: Report): void {
  const { loaded, from, to, olderThanRetention, unendedLine, refreshError } = result;
  const { rejectedCount, rejected, rejectsFile, earlierRejectsFile } = result;
  const span = from && to ? `, from ${from.toISOString()} to ${to.toISOString()}` : '';
  console.log(`${plural(loaded, 'location')} ${result.isDryRun ? 'would be loaded' : 'loaded'}${span}.`);
  if (result.alreadyStored > 0)
    console.log(`${plural(result.alreadyStored, 'location')} stored already, and left out.`);
  if (olderThanRetention > 0) {
    console.log(
      `${plural(olderThanRetention, 'location')} older than the retention of raw locations: the retention job ` +
        'will drop them when it runs next, and their hours are not kept. --shift-to-now moves them to the present.',
    );
  }
  if (earlierRejectsFile) {
    console.log(`${earlierRejectsFile} is of an earlier import: remove it when its rows are corrected.`);
  }
  if (unendedLine !== null) {
    console.error(
      `Line ${unendedLine}, the last one, ends inside a number and without a line break: look whether the file is whole.`,
    );
  }
  if (refreshError) {
    console.error(
      `The locations are stored, but location_hourly was not refreshed: ${(refreshError as Error).message}. The refresh policies will do it.`,
    );
  }
  if (rejectedCount === 0) return;
  console.error(`${plural(rejectedCount, 'row')} left out${rejectsFile ? `, see ${rejectsFile}` : ''}:`);
  for (const { line, reason } of rejected.slice(0, rejectsShown)) console.error(`  line ${line}: ${reason}`);
  if (rejectedCount > rejectsShown)
    console.error(`  … and ${formatCount(rejectedCount - rejectsShown)} more`);
}
