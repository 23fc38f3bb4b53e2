// Opens the file that import reads: detects its format, unpacks it and prints how it is read.
import { createReadStream } from 'node:fs';
import { open } from 'node:fs/promises';
import { dirname, join, parse, resolve } from 'node:path';
import { pipeline, type Readable } from 'node:stream';
import { createGunzip } from 'node:zlib';
import type { AppSource } from '../../../schema/tracking.ts';
import { ConfigurationError } from '../../../src/errors.ts';
import {
  type DetectedDialect,
  type DialectOptions,
  detectFormat,
  type LocationFormat,
} from '../../../src/tracking/import/dialect.ts';
import type { LocationDefaults, ParseOptions } from '../../../src/tracking/import/parse.ts';

/** Options of the command that describe the file. */
export interface FileOptions {
  app?: AppSource;
  device?: string;
  user?: string;
  format?: LocationFormat;
  delimiter?: string;
  columns?: Record<string, string | null>;
  timeZone?: string;
  rejects?: string;
  allowZeroPosition?: boolean;
}

/** What was detected about the file. */
export interface Detected extends Partial<DetectedDialect> {
  format: LocationFormat;
  isCompressed: boolean;
}

export interface Input {
  readonly file: string;
  readonly format: LocationFormat;
  readonly isCompressed: boolean;
  readonly defaults: LocationDefaults;
  readonly dialect: DialectOptions;
  readonly rejectsFile: string;
  readonly allowZeroPosition: boolean;
}

export async function openInput(
  file: string,
  { app, device, user, format, rejects, allowZeroPosition = false, ...dialect }: FileOptions,
): Promise<Input> {
  const isCompressed = await hasGzipHeader(file);
  const found = format ?? detectFormat(await beginningOf(file, isCompressed), file);
  // Rejects of GPX and GeoJSON are written as NDJSON, which can be corrected line by line.
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

/** Whether the file begins with the two bytes of every gzip file. */
async function hasGzipHeader(file: string): Promise<boolean> {
  await using handle = await open(file);
  const { bytesRead, buffer } = await handle.read(Buffer.alloc(2), 0, 2, 0);
  return bytesRead === 2 && buffer[0] === 0x1f && buffer[1] === 0x8b;
}

async function beginningOf(file: string, isCompressed: boolean): Promise<string> {
  for await (const piece of readText({ file, isCompressed }).stream) return piece.toString('utf8', 0, 64_000);
  return '';
}

/** Opens a file and unpacks it if necessary. `bytesRead` counts the bytes of the file itself, before unpacking. */
export function readText({ file, isCompressed }: Pick<Input, 'file' | 'isCompressed'>): {
  stream: AsyncIterable<Buffer>;
  bytesRead: () => number;
} {
  const bytes = createReadStream(file, { highWaterMark: 256 * 1024 });
  const bytesRead = () => bytes.bytesRead;
  return { stream: isCompressed ? unpack(bytes, file) : bytes, bytesRead };
}

async function* unpack(bytes: Readable, file: string): AsyncGenerator<Buffer> {
  try {
    // The callback ignores errors, because yield* throws them.
    yield* pipeline(bytes, createGunzip(), () => undefined) as AsyncIterable<Buffer>;
  } catch (error) {
    if (!(error as NodeJS.ErrnoException).code?.startsWith('Z_')) throw error;
    throw new ConfigurationError(
      `${resolve(file)} is not whole: ${(error as Error).message}. Nothing was loaded.`,
    );
  }
}

/** One line that says how the file is read. `detected` is undefined for formats without a header. */
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

/** Returns options that print how the parser reads the file, unless `json` is set. Call `detected` after parsing. */
export function parseOptions(
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
