// import: loads GPS points from a CSV or NDJSON file into location_events.
import {
  createReadStream,
  createWriteStream,
  existsSync,
  realpathSync,
  statSync,
  type WriteStream,
} from 'node:fs';
import { basename, dirname, extname, resolve } from 'node:path';
import { createInterface } from 'node:readline';
import { finished } from 'node:stream/promises';
import { SingleBar } from 'cli-progress';
import { type Command, InvalidArgumentError } from 'commander';
import { databaseKeys, databases } from '../../src/databases.ts';
import { ConfigurationError } from '../../src/errors.ts';
import type { Pool } from '../../src/pool.ts';
import { isUuid, type LocationInput } from '../../src/tracking/columns.ts';
import { insertLocations } from '../../src/tracking/events.ts';
import { type LocationDefaults, type LocationFormat, parseLocations } from '../../src/tracking/parse.ts';
import { checkTime } from '../../src/tracking/validate.ts';
import { type Transaction, withTransaction } from '../../src/transaction.ts';
import { formatCount, plural, printJson } from '../output.ts';
import { withPool } from '../session.ts';
import { describeRetention, refreshImported } from './import-aggregate.ts';

interface ImportOptions {
  app?: string;
  device?: string;
  user?: string;
  format?: LocationFormat;
  rejects?: string;
  shiftToNow?: boolean;
  json?: boolean;
}

interface Reject {
  line: number;
  reason: string;
}

/** What an import did. `from` and `to` span the loaded points. */
interface ImportResult {
  loaded: number;
  rejectedCount: number;
  /** The first 1,000 of them: the rejects file has all. */
  rejected: Reject[];
  rejectsFile: string | null;
  from: Date | null;
  to: Date | null;
  /** Loaded points that the retention policy drops at its next run. */
  olderThanRetention: number;
}

const rowsPerBatch = 5_000;
/** More would flood memory, and a terminal; the rejects file has them all. */
const rejectsKept = 1_000;
const rejectsShown = 20;

export function registerImport(program: Command): void {
  const applications = databaseKeys.filter((key) => databases[key].application);
  program
    .command('import')
    .description('load GPS points from a CSV (with a header) or NDJSON file into location_events')
    .argument('<file>', 'columns of location_events by name; all good rows are loaded, or none')
    .option('--app <name>', `app_source where the file has none: ${applications.join(', ')}`, (text) => {
      if (applications.some((name) => name === text)) return text;
      throw new InvalidArgumentError(`It should be ${applications.join(', ')}.`);
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
      else await report(result);
      if (result.rejectedCount > 0) process.exitCode = 1;
    });
}

function parseUuid(text: string): string {
  if (isUuid(text)) return text;
  throw new InvalidArgumentError('It should be a uuid, such as 5f0c9f2e-7f0f-4c39-9d1f-6c1a4f0f7a11.');
}

async function importFile(pool: Pool, file: string, options: ImportOptions): Promise<ImportResult> {
  const facts = statSync(file, { throwIfNoEntry: false });
  if (!facts) throw new ConfigurationError(`There is no file ${resolve(file)}.`);
  if (!facts.isFile()) throw new ConfigurationError(`${resolve(file)} is not a file.`);
  if (facts.size === 0) throw new ConfigurationError(`${resolve(file)} is empty.`);
  const source = openSource(file, options);
  if (existsSync(source.rejectsFile) && realpathSync(source.rejectsFile) === realpathSync(file)) {
    throw new ConfigurationError(
      `--rejects names the file that is read, ${resolve(file)}: choose another one.`,
    );
  }
  if (!existsSync(dirname(source.rejectsFile))) {
    throw new ConfigurationError(`There is no folder ${dirname(source.rejectsFile)} for the rejects.`);
  }
  const shift = options.shiftToNow ? await shiftToNow(source) : 0;
  const bar = new SingleBar({
    format: '{bar} {percentage}% | {rows} rows | {eta_formatted} left',
    stream: process.stderr,
    hideCursor: true,
  });
  bar.start(statSync(file).size, 0, { rows: '0' });
  try {
    // One transaction: there is no key that would tell a second attempt what the first one loaded.
    const result = await withTransaction(pool, (transaction) =>
      load(transaction, source, shift, (bytes, rows) => bar.update(bytes, { rows: formatCount(rows) })),
    );
    await refreshImported(pool, result.from, result.to);
    return result;
  } finally {
    bar.stop();
  }
}

interface Source {
  readonly file: string;
  readonly format: LocationFormat;
  readonly defaults: LocationDefaults;
  readonly rejectsFile: string;
}

function openSource(file: string, { app, device, user, format, rejects }: ImportOptions): Source {
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

async function* readSource(
  { file, format, defaults }: Source,
  onHeader?: (header: string) => void,
  onBytes?: (bytes: number) => void,
) {
  const stream = createReadStream(file);
  let bytes = 0;
  stream.on('data', (chunk) => {
    bytes += chunk.length;
    onBytes?.(bytes);
  });
  const lines = createInterface({ input: stream, crlfDelay: Number.POSITIVE_INFINITY });
  // readline does not pass on what goes wrong in its input.
  stream.once('error', () => lines.close());
  yield* parseLocations(lines, format, defaults, onHeader);
  if (stream.errored) throw stream.errored;
}

/** How many milliseconds move the newest point to the present. Reads the file once. */
async function shiftToNow(source: Source): Promise<number> {
  let newest = Number.NEGATIVE_INFINITY;
  for await (const parsed of readSource(source)) {
    if ('event' in parsed) newest = Math.max(newest, parsed.event.time.getTime());
  }
  return Number.isFinite(newest) ? Date.now() - newest : 0;
}

async function load(
  transaction: Transaction,
  source: Source,
  shift: number,
  onProgress: (bytes: number, rows: number) => void,
): Promise<ImportResult> {
  const rejected: Reject[] = [];
  let rejectedCount = 0;
  let rejects: WriteStream | undefined;
  let header: string | undefined;
  let batch: LocationInput[] = [];
  let loaded = 0;
  let bytes = 0;
  let oldest = Number.POSITIVE_INFINITY;
  let newest = Number.NEGATIVE_INFINITY;
  let olderThanRetention = 0;
  const { retentionStart } = await describeRetention(transaction);

  const reject = ({ line, text, reason }: Reject & { text: string }) => {
    rejectedCount += 1;
    if (rejected.length < rejectsKept) rejected.push({ line, reason });
    rejects ??= openRejects(source.rejectsFile, header);
    // The reason is a comment, which an import skips: mend the rows and load this very file.
    rejects.write(`# line ${line}: ${reason}\n${text}\n`);
  };
  const flush = async () => {
    loaded += await insertLocations(transaction, batch);
    batch = [];
    onProgress(bytes, loaded);
  };
  const lines = readSource(
    source,
    (text) => {
      header = text;
    },
    (count) => {
      bytes = count;
    },
  );
  for await (const parsed of lines) {
    if ('event' in parsed) {
      const time = parsed.event.time.getTime() + shift;
      const reason = checkTime(new Date(time));
      if (reason !== undefined) {
        reject({ line: parsed.line, text: parsed.text, reason: `time ${reason}` });
        continue;
      }
      oldest = Math.min(oldest, time);
      newest = Math.max(newest, time);
      if (time < retentionStart.getTime()) olderThanRetention += 1;
      batch.push({ ...parsed.event, time: new Date(time) });
      if (batch.length === rowsPerBatch) await flush();
    } else reject(parsed);
  }
  await flush();
  if (rejects) {
    rejects.end();
    await finished(rejects);
  }
  return {
    loaded,
    rejectedCount,
    rejected,
    rejectsFile: rejects ? source.rejectsFile : null,
    from: loaded > 0 ? new Date(oldest) : null,
    to: loaded > 0 ? new Date(newest) : null,
    olderThanRetention,
  };
}

function openRejects(path: string, header: string | undefined): WriteStream {
  const stream = createWriteStream(path);
  // finished() reports it, before the transaction commits.
  stream.on('error', () => undefined);
  if (header !== undefined) stream.write(`${header}\n`);
  return stream;
}

async function report(result: ImportResult): Promise<void> {
  const { loaded, rejectedCount, rejected, rejectsFile, from, to, olderThanRetention } = result;
  const span = from && to ? `, from ${from.toISOString()} to ${to.toISOString()}` : '';
  console.log(`${plural(loaded, 'point')} loaded${span}.`);
  if (olderThanRetention > 0) {
    console.log(
      `${plural(olderThanRetention, 'point')} older than the retention of raw points: the retention job ` +
        'will drop them when it runs next, and their hours are not kept. --shift-to-now moves them to the present.',
    );
  }
  if (rejectedCount === 0) return;
  console.error(`${plural(rejectedCount, 'row')} left out, see ${rejectsFile}:`);
  for (const { line, reason } of rejected.slice(0, rejectsShown)) console.error(`  line ${line}: ${reason}`);
  if (rejected.length > rejectsShown)
    console.error(`  … and ${formatCount(rejected.length - rejectsShown)} more`);
}
