// import: loads GPS locations from a CSV or NDJSON file into location_events.
import { once } from 'node:events';
import {
  createReadStream,
  createWriteStream,
  existsSync,
  openSync,
  realpathSync,
  rmSync,
  statSync,
  type WriteStream,
} from 'node:fs';
import { dirname, extname, join, parse, resolve } from 'node:path';
import { finished } from 'node:stream/promises';
import { type Command, InvalidArgumentError } from 'commander';
import { locationSources } from '../../schema/tracking.ts';
import { ConfigurationError } from '../../src/errors.ts';
import type { Pool } from '../../src/pool.ts';
import { isUuid } from '../../src/sql/uuid.ts';
import { type ImportResult, importLocations } from '../../src/tracking/import/import.ts';
import {
  type LocationDefaults,
  type LocationFormat,
  parseLocations,
} from '../../src/tracking/import/parse.ts';
import { checkLimits, locationLimits } from '../../src/tracking/validate.ts';
import { formatCount, plural, printJson } from '../cli/output.ts';
import { withPool } from '../cli/pools.ts';
import { startBar } from '../cli/progress.ts';
import { saysWhere } from '../cli/where.ts';

interface ImportOptions {
  app?: string;
  device?: string;
  user?: string;
  format?: LocationFormat;
  rejects?: string;
  shiftToNow?: boolean;
  allowZeroPosition?: boolean;
  json?: boolean;
}

/** What an import did, as `--json` prints it. */
interface Report extends Omit<ImportResult, 'rejected'> {
  rejectedCount: number;
  /** The first 1,000. The rejects file contains all. */
  rejected: { line: number; reason: string }[];
  rejectsFile: string | null;
  /** The rejects file of an earlier import, which this one left unchanged. */
  earlierRejectsFile: string | null;
}

/** Limits memory and output. The rejects file contains all rejects. */
const rejectsKept = 1_000;
const rejectsShown = 20;

export function registerImport(program: Command): void {
  saysWhere(program.command('import'), ['tracking'])
    .description('load GPS locations from a CSV (with a header) or NDJSON file into location_events')
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
    .option('--allow-zero-position', 'take locations at 0,0, which a receiver without a fix sends')
    .option(
      '--rejects <file>',
      'a new file for rows that do not fit; default: <name>.rejects.<format> beside the input',
    )
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
  if (options.rejects && isRegularFile(input.rejectsFile)) {
    throw new ConfigurationError(
      `${input.rejectsFile} exists, and somebody may be mending it: choose another name for --rejects.`,
    );
  }
  if (!existsSync(dirname(input.rejectsFile))) {
    throw new ConfigurationError(`There is no folder ${dirname(input.rejectsFile)} for the rejects.`);
  }
  const shiftMs = options.shiftToNow ? await shiftToNow(input) : 0;
  using bar = startBar('{bar} {percentage}% | {rows} rows | {eta_formatted} left', facts.size, { rows: '0' });
  return await load(pool, input, shiftMs, (bytes, rows) => bar.update(bytes, { rows: formatCount(rows) }));
}

interface Input {
  readonly file: string;
  readonly format: LocationFormat;
  readonly defaults: LocationDefaults;
  readonly rejectsFile: string;
  readonly allowZeroPosition: boolean;
}

function openInput(
  file: string,
  { app, device, user, format, rejects, allowZeroPosition = false }: ImportOptions,
): Input {
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
    rejectsFile: resolve(rejects ?? join(dirname(file), `${parse(file).name}.rejects.${found}`)),
    allowZeroPosition,
  };
}

/**
 * Reads the whole file.
 * @returns the milliseconds from the newest valid location to the present; 0 if there is none.
 */
async function shiftToNow({ file, format, defaults, allowZeroPosition }: Input): Promise<number> {
  const limits = locationLimits({ anyAge: true, allowZeroPosition });
  let newest = Number.NEGATIVE_INFINITY;
  for await (const lines of parseLocations(createReadStream(file), format, defaults)) {
    for (const parsed of lines) {
      if (!('location' in parsed) || checkLimits(parsed.location, limits) !== undefined) continue;
      newest = Math.max(newest, parsed.location.time.getTime());
    }
  }
  return Number.isFinite(newest) ? Date.now() - newest : 0;
}

async function load(
  pool: Pool,
  { file, format, defaults, rejectsFile, allowZeroPosition }: Input,
  shiftMs: number,
  onProgress: (bytes: number, rows: number) => void,
): Promise<Report> {
  const rejects: Report['rejected'] = [];
  let kept: Rejects | undefined;
  let header: string | undefined;
  const input = createReadStream(file, { highWaterMark: 256 * 1024 });
  const { rejected, ...result } = await importLocations(
    pool,
    { format, stream: input, defaults },
    {
      shiftMs,
      allowZeroPosition,
      onHeader: (text) => {
        header = text;
      },
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
      onProgress: (rows) => onProgress(input.bytesRead, rows),
      // If the rejects cannot be written, the import is rolled back, because their list would be incomplete.
      beforeCommit: async () => {
        if (!kept) return;
        kept.stream.end();
        await finished(kept.stream);
      },
    },
  ).catch((error: unknown) => {
    // Nothing was loaded, but a rejects file would suggest that all rows except its own were.
    kept?.remove();
    throw error;
  });
  const earlier = kept?.path !== rejectsFile && isRegularFile(rejectsFile) ? rejectsFile : null;
  return {
    ...result,
    rejectedCount: rejected,
    rejected: rejects,
    rejectsFile: kept?.path ?? null,
    earlierRejectsFile: earlier,
  };
}

/** @throws the error of the stream: after an error, `drain` is not emitted. */
async function drained(stream: WriteStream): Promise<void> {
  if (stream.errored) throw stream.errored;
  await once(stream, 'drain');
}

interface Rejects {
  readonly path: string;
  readonly stream: WriteStream;
  readonly remove: () => void;
}

/**
 * Creates a file under an unused name, because the rejects of an earlier import may not be corrected yet. If
 * `wanted` is not a regular file, such as a pipe, appends to it.
 * @throws ConfigurationError if the file cannot be created.
 */
function openRejects(wanted: string, header: string | undefined): Rejects {
  const isNew = !existsSync(wanted) || isRegularFile(wanted);
  const { path, fd } = isNew ? createNew(wanted) : { path: wanted, fd: openSync(wanted, 'a') };
  const stream = createWriteStream(path, { fd });
  // Without a listener, the error would end the process. finished() reports it before the commit.
  stream.on('error', () => undefined);
  if (header !== undefined) stream.write(`${header}\n`);
  const remove = () => {
    stream.destroy();
    if (isNew) rmSync(path, { force: true });
  };
  return { path, stream, remove };
}

const isRegularFile = (path: string) => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;

function createNew(wanted: string): { path: string; fd: number } {
  const { dir, name, ext } = parse(wanted);
  for (let number = 1; ; number += 1) {
    const path = number === 1 ? wanted : join(dir, `${name}-${number}${ext}`);
    try {
      return { path, fd: openSync(path, 'wx') };
    } catch (error) {
      const { code, message } = error as NodeJS.ErrnoException;
      if (code === 'EEXIST') continue;
      throw new ConfigurationError(
        `The rows that do not fit cannot be kept: ${message}. Nothing was loaded; name another file with --rejects.`,
      );
    }
  }
}

function report(result: Report): void {
  const { loaded, from, to, olderThanRetention, unendedLine, refreshError } = result;
  const { rejectedCount, rejected, rejectsFile, earlierRejectsFile } = result;
  const span = from && to ? `, from ${from.toISOString()} to ${to.toISOString()}` : '';
  console.log(`${plural(loaded, 'location')} loaded${span}.`);
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
  console.error(`${plural(rejectedCount, 'row')} left out, see ${rejectsFile}:`);
  for (const { line, reason } of rejected.slice(0, rejectsShown)) console.error(`  line ${line}: ${reason}`);
  if (rejectedCount > rejectsShown)
    console.error(`  … and ${formatCount(rejectedCount - rejectsShown)} more`);
}
