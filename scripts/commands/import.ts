// import: loads GPS locations from a file of CSV, NDJSON, GeoJSON or GPX into location_events.
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
import { type FileHandle, open } from 'node:fs/promises';
import { dirname, join, parse, resolve } from 'node:path';
import { pipeline, type Readable } from 'node:stream';
import { finished } from 'node:stream/promises';
import { createGunzip } from 'node:zlib';
import { type Command, InvalidArgumentError, Option } from 'commander';
import { locationSources } from '../../schema/tracking.ts';
import { ConfigurationError } from '../../src/errors.ts';
import type { Pool } from '../../src/pool.ts';
import {
  type DetectedDialect,
  type DialectOptions,
  detectFormat,
  type LocationFormat,
  locationFormats,
} from '../../src/tracking/import/dialect.ts';
import { type ImportResult, importLocations } from '../../src/tracking/import/import.ts';
import { type LocationDefaults, type ParseOptions, parseLocations } from '../../src/tracking/import/parse.ts';
import { checkLimits, locationLimits } from '../../src/tracking/validate.ts';
import { parseUuid } from '../cli/arguments.ts';
import { formatCount, plural, printJson } from '../cli/output.ts';
import { withPool } from '../cli/pools.ts';
import { startBar } from '../cli/progress.ts';
import { saysWhere } from '../cli/where.ts';

interface ImportOptions {
  app?: string;
  device?: string;
  user?: string;
  format?: LocationFormat;
  delimiter?: string;
  columns?: Record<string, string | null>;
  timeZone?: string;
  once?: boolean;
  dryRun?: boolean;
  rejects?: string;
  shiftToNow?: boolean;
  allowZeroPosition?: boolean;
  json?: boolean;
}

/** What an import did, as `--json` prints it. */
interface Report extends Omit<ImportResult, 'rejected'> {
  detected: Detected;
  isDryRun: boolean;
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
    .description(
      'load GPS locations from a file of CSV (with a header), NDJSON, GeoJSON or GPX, also compressed by gzip',
    )
    .argument('<file>', 'all good rows are loaded, or none')
    .option('--app <name>', `app_source where the file has none: ${locationSources.join(', ')}`, (text) => {
      if (locationSources.some((source) => source === text)) return text;
      throw new InvalidArgumentError(`It should be ${locationSources.join(', ')}.`);
    })
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
  const shiftMs = options.shiftToNow ? await shiftToNow(input) : 0;
  if (options.dryRun) return await look(input, shiftMs, options.json ?? false);
  using bar = startBar('{bar} {percentage}% | {rows} rows | {eta_formatted} left', facts.size, { rows: '0' });
  const onProgress = (bytes: number, rows: number) => bar.update(bytes, { rows: formatCount(rows) });
  return await withPool('tracking', (pool) => load(pool, input, shiftMs, options, onProgress));
}

/** How the file is written, as it was found out. */
interface Detected extends Partial<DetectedDialect> {
  format: LocationFormat;
  isCompressed: boolean;
}

interface Input {
  readonly file: string;
  readonly format: LocationFormat;
  readonly isCompressed: boolean;
  readonly defaults: LocationDefaults;
  readonly dialect: DialectOptions;
  readonly rejectsFile: string;
  readonly allowZeroPosition: boolean;
}

async function openInput(
  file: string,
  { app, device, user, format, rejects, allowZeroPosition = false, ...dialect }: ImportOptions,
): Promise<Input> {
  const isCompressed = await hasGzipHeader(file);
  const found = format ?? detectFormat(await beginningOf(file, isCompressed), file);
  // What does not fit in GPX or GeoJSON is kept as NDJSON, which can be mended line by line.
  const rejectsFormat = found === 'csv' ? 'csv' : 'ndjson';
  const name = parse(file.replace(/\.gz$/i, '')).name;
  const { delimiter, columns, timeZone } = dialect;
  return {
    file,
    format: found,
    isCompressed,
    dialect: {
      ...(delimiter !== undefined && { delimiter }),
      ...(columns && { columns }),
      ...(timeZone !== undefined && { timeZone }),
    },
    defaults: {
      ...(app && { appSource: app }),
      ...(device && { deviceId: device }),
      ...(user && { userId: user }),
    },
    rejectsFile: resolve(rejects ?? join(dirname(file), `${name}.rejects.${rejectsFormat}`)),
    allowZeroPosition,
  };
}

/** The first bytes of every gzip file. */
async function hasGzipHeader(file: string): Promise<boolean> {
  const { bytesRead, buffer } = await withFile(file, (handle) => handle.read(Buffer.alloc(2), 0, 2, 0));
  return bytesRead === 2 && buffer[0] === 0x1f && buffer[1] === 0x8b;
}

async function beginningOf(file: string, isCompressed: boolean): Promise<string> {
  for await (const piece of readText({ file, isCompressed }).stream) return piece.toString('utf8', 0, 64_000);
  return '';
}

/** The text of a file, and how many of its bytes were read. */
function readText({ file, isCompressed }: Pick<Input, 'file' | 'isCompressed'>): {
  stream: AsyncIterable<Buffer>;
  bytesRead: () => number;
} {
  const bytes = createReadStream(file, { highWaterMark: 256 * 1024 });
  const bytesRead = () => bytes.bytesRead;
  return { stream: isCompressed ? unpack(bytes, file) : bytes, bytesRead };
}

async function* unpack(bytes: Readable, file: string): AsyncGenerator<Buffer> {
  try {
    // Its errors reach the loop over its last stream.
    yield* pipeline(bytes, createGunzip(), () => undefined) as AsyncIterable<Buffer>;
  } catch (error) {
    if (!(error as NodeJS.ErrnoException).code?.startsWith('Z_')) throw error;
    throw new ConfigurationError(
      `${resolve(file)} is not whole: ${(error as Error).message}. Nothing was loaded.`,
    );
  }
}

/** One line about the file, once its header is known; at once for formats without. */
function sayDetected(
  { format, isCompressed, dialect: { timeZone } }: Input,
  detected: DetectedDialect | undefined,
): string {
  const names = Object.entries(detected?.columns ?? {}).map(([name, column]) =>
    column === null ? `${name} is left out` : `${name} is ${column}`,
  );
  const facts = [
    isCompressed && 'compressed by gzip',
    detected && detected.delimiter !== ',' && `separated by ${JSON.stringify(detected.delimiter)}`,
    timeZone && `times of ${timeZone}`,
    ...names,
  ];
  return `Reading ${format}${facts.some(Boolean) ? `, ${facts.filter(Boolean).join(', ')}` : ''}.`;
}

/** Reads and checks everything, and loads nothing. */
async function look(input: Input, shiftMs: number, json: boolean): Promise<Report> {
  const limits = locationLimits({ anyAge: true, allowZeroPosition: input.allowZeroPosition });
  const rejected: Report['rejected'] = [];
  const times = { from: Number.POSITIVE_INFINITY, to: Number.NEGATIVE_INFINITY };
  let [loaded, rejectedCount] = [0, 0];
  const { options, detected } = parseOptions(input, json);
  for await (const batch of parseLocations(readText(input).stream, input.format, options)) {
    for (const parsed of batch) {
      const location = 'location' in parsed && {
        ...parsed.location,
        time: new Date(parsed.location.time.getTime() + shiftMs),
      };
      const reason = location
        ? checkLimits(location, limits)
        : 'reason' in parsed
          ? parsed.reason
          : undefined;
      if (location && reason === undefined) {
        loaded += 1;
        times.from = Math.min(times.from, location.time.getTime());
        times.to = Math.max(times.to, location.time.getTime());
        continue;
      }
      rejectedCount += 1;
      if (rejected.length < rejectsKept) rejected.push({ line: parsed.position, reason: reason ?? '' });
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

/** Parser options that print what was detected, unless `json` is set. `detected` returns it after parsing. */
function parseOptions(
  input: Input,
  json: boolean,
  onHeader: (header: string) => void = () => undefined,
): { options: ParseOptions; detected: () => Detected } {
  const { format, isCompressed, defaults, dialect } = input;
  let detected: DetectedDialect | undefined;
  const say = () => {
    if (!json) console.log(sayDetected(input, detected));
  };
  if (format !== 'csv') say();
  const options: ParseOptions = {
    ...dialect,
    defaults,
    onHeader: (header, found) => {
      detected = found;
      onHeader(header);
      say();
    },
  };
  return { options, detected: () => ({ format, isCompressed, ...detected }) };
}

/** @returns the milliseconds from the newest valid location to the present. Reads the whole file. */
async function shiftToNow(input: Input): Promise<number> {
  const { format, defaults, dialect, allowZeroPosition } = input;
  const limits = locationLimits({ anyAge: true, allowZeroPosition });
  let newest = Number.NEGATIVE_INFINITY;
  for await (const lines of parseLocations(readText(input).stream, format, { ...dialect, defaults })) {
    for (const parsed of lines) {
      if (!('location' in parsed) || checkLimits(parsed.location, limits) !== undefined) continue;
      newest = Math.max(newest, parsed.location.time.getTime());
    }
  }
  return Number.isFinite(newest) ? Date.now() - newest : 0;
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
      // If the rejects cannot be written, the import is rolled back: they would be lost.
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
    detected: detected(),
    isDryRun: false,
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

async function withFile<Result>(
  file: string,
  work: (handle: FileHandle) => Promise<Result>,
): Promise<Result> {
  await using handle = await open(file);
  return await work(handle);
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
