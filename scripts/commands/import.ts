// import: loads GPS points from a CSV or NDJSON file into location_events.
import { once } from 'node:events';
import {
  createReadStream,
  createWriteStream,
  existsSync,
  realpathSync,
  statSync,
  type WriteStream,
} from 'node:fs';
import { basename, dirname, extname, resolve } from 'node:path';
import { finished } from 'node:stream/promises';
import { SingleBar } from 'cli-progress';
import { type Command, InvalidArgumentError } from 'commander';
import { locationSources } from '../../schema/tracking.ts';
import { ConfigurationError } from '../../src/errors.ts';
import type { Pool } from '../../src/pool.ts';
import { isUuid } from '../../src/tracking/columns.ts';
import { type ImportResult, importLocations } from '../../src/tracking/import.ts';
import { type LocationDefaults, type LocationFormat, parseLocations } from '../../src/tracking/parse.ts';
import { formatCount, plural, printJson } from '../output.ts';
import { withPool } from '../session.ts';

interface ImportOptions {
  app?: string;
  device?: string;
  user?: string;
  format?: LocationFormat;
  rejects?: string;
  shiftToNow?: boolean;
  json?: boolean;
}

/** What an import did, as `--json` prints it. */
interface Report extends Omit<ImportResult, 'rejected'> {
  rejectedCount: number;
  /** The first 1,000 of them: the rejects file has all. */
  rejected: { line: number; reason: string }[];
  rejectsFile: string | null;
}

/** More would flood memory, and a terminal; the rejects file has them all. */
const rejectsKept = 1_000;
const rejectsShown = 20;

export function registerImport(program: Command): void {
  program
    .command('import')
    .description('load GPS points from a CSV (with a header) or NDJSON file into location_events')
    .argument('<file>', 'columns of location_events by name; all good rows are loaded, or none')
    .option('--app <name>', `app_source where the file has none: ${locationSources.join(', ')}`, (text) => {
      if (locationSources.some((source) => source === text)) return text;
      throw new InvalidArgumentError(`It should be ${locationSources.join(', ')}.`);
    })
    .option('--device <uuid>', 'device_id where the file has none', parseUuid)
    .option('--user <uuid>', 'user_id where the file has none', parseUuid)
    .option('--format <format>', 'csv or ndjson; default: by the file name', (text) => {
      if (text === 'csv' || text === 'ndjson') return text;
      throw new InvalidArgumentError('It should be csv or ndjson.');
    })
    .option('--shift-to-now', 'move the whole track in time so that it ends now')
    .option('--rejects <file>', 'where rows that do not fit go; default: <name>.rejects.<format> here')
    .option('--json', 'print JSON')
    .action(async (file: string, options: ImportOptions) => {
      const result = await withPool('tracking', (pool) => importFile(pool, file, options));
      if (options.json) printJson(result);
      else report(result);
      if (result.rejectedCount > 0) process.exitCode = 1;
    });
}

function parseUuid(text: string): string {
  if (isUuid(text)) return text;
  throw new InvalidArgumentError('It should be a uuid, such as 5f0c9f2e-7f0f-4c39-9d1f-6c1a4f0f7a11.');
}

async function importFile(pool: Pool, file: string, options: ImportOptions): Promise<Report> {
  const facts = statSync(file, { throwIfNoEntry: false });
  if (!facts) throw new ConfigurationError(`There is no file ${resolve(file)}.`);
  if (!facts.isFile()) throw new ConfigurationError(`${resolve(file)} is not a file.`);
  if (facts.size === 0) throw new ConfigurationError(`${resolve(file)} is empty.`);
  const input = openInput(file, options);
  if (existsSync(input.rejectsFile) && realpathSync(input.rejectsFile) === realpathSync(file)) {
    throw new ConfigurationError(
      `--rejects names the file that is read, ${resolve(file)}: choose another one.`,
    );
  }
  if (!existsSync(dirname(input.rejectsFile))) {
    throw new ConfigurationError(`There is no folder ${dirname(input.rejectsFile)} for the rejects.`);
  }
  const shiftMs = options.shiftToNow ? await shiftToNow(input) : 0;
  const bar = new SingleBar({
    format: '{bar} {percentage}% | {rows} rows | {eta_formatted} left',
    stream: process.stderr,
    hideCursor: true,
  });
  bar.start(facts.size, 0, { rows: '0' });
  try {
    return await load(pool, input, shiftMs, (bytes, rows) => bar.update(bytes, { rows: formatCount(rows) }));
  } finally {
    bar.stop();
  }
}

interface Input {
  readonly file: string;
  readonly format: LocationFormat;
  readonly defaults: LocationDefaults;
  readonly rejectsFile: string;
}

function openInput(file: string, { app, device, user, format, rejects }: ImportOptions): Input {
  const extension = extname(file).toLowerCase();
  const found = format ?? (['.ndjson', '.jsonl', '.json'].includes(extension) ? 'ndjson' : 'csv');
  return {
    file,
    format: found,
    defaults: {
      ...(app && { appSource: app }),
      ...(device && { deviceId: device }),
      ...(user && { userId: user }),
    },
    rejectsFile: resolve(rejects ?? `${basename(file, extension)}.rejects.${found}`),
  };
}

/** How many milliseconds move the newest point to the present. Reads the file once. */
async function shiftToNow({ file, format, defaults }: Input): Promise<number> {
  let newest = Number.NEGATIVE_INFINITY;
  for await (const lines of parseLocations(createReadStream(file), format, defaults)) {
    for (const parsed of lines) {
      if ('event' in parsed) newest = Math.max(newest, parsed.event.time.getTime());
    }
  }
  return Number.isFinite(newest) ? Date.now() - newest : 0;
}

async function load(
  pool: Pool,
  { file, format, defaults, rejectsFile }: Input,
  shiftMs: number,
  onProgress: (bytes: number, rows: number) => void,
): Promise<Report> {
  const rejects: Report['rejected'] = [];
  let stream: WriteStream | undefined;
  let header: string | undefined;
  const input = createReadStream(file, { highWaterMark: 256 * 1024 });
  const { rejected, ...result } = await importLocations(
    pool,
    { format, stream: input, defaults },
    {
      shiftMs,
      onHeader: (text) => {
        header = text;
      },
      onReject: ({ position: line, reason, text, bytes }) => {
        if (rejects.length < rejectsKept) rejects.push({ line, reason });
        stream ??= openRejects(rejectsFile, header);
        // The reason is a comment, which an import skips: mend the rows and load this very file.
        const comment = `# line ${line}: ${reason}\n`;
        const isTaken = stream.write(
          bytes ? Buffer.concat([Buffer.from(comment), bytes, Buffer.from('\n')]) : `${comment}${text}\n`,
        );
        // Where they come faster than the disk takes them, they would fill the memory.
        return isTaken ? undefined : drained(stream);
      },
      onProgress: (rows) => onProgress(input.bytesRead, rows),
      // Rejects that cannot be kept undo the import: nobody could mend them.
      beforeCommit: async () => {
        stream?.end();
        if (stream) await finished(stream);
      },
    },
  );
  return { ...result, rejectedCount: rejected, rejected: rejects, rejectsFile: stream ? rejectsFile : null };
}

/** @throws the stream's error, after which it drains no more. */
async function drained(stream: WriteStream): Promise<void> {
  if (stream.errored) throw stream.errored;
  await once(stream, 'drain');
}

function openRejects(path: string, header: string | undefined): WriteStream {
  const stream = createWriteStream(path);
  // finished() reports it, before the transaction commits.
  stream.on('error', () => undefined);
  if (header !== undefined) stream.write(`${header}\n`);
  return stream;
}

function report({
  refreshError,
  loaded,
  rejectedCount,
  rejected,
  rejectsFile,
  from,
  to,
  olderThanRetention,
}: Report): void {
  const span = from && to ? `, from ${from.toISOString()} to ${to.toISOString()}` : '';
  console.log(`${plural(loaded, 'point')} loaded${span}.`);
  if (olderThanRetention > 0) {
    console.log(
      `${plural(olderThanRetention, 'point')} older than the retention of raw points: the retention job ` +
        'will drop them when it runs next, and their hours are not kept. --shift-to-now moves them to the present.',
    );
  }
  if (refreshError) {
    console.error(
      `The points are stored, but location_hourly was not refreshed: ${(refreshError as Error).message}. Run "npm run db:refresh-late".`,
    );
  }
  if (rejectedCount === 0) return;
  console.error(`${plural(rejectedCount, 'row')} left out, see ${rejectsFile}:`);
  for (const { line, reason } of rejected.slice(0, rejectsShown)) console.error(`  line ${line}: ${reason}`);
  if (rejectedCount > rejectsShown)
    console.error(`  … and ${formatCount(rejectedCount - rejectsShown)} more`);
}
