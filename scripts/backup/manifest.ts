// manifest.json of a backup: what it holds, and by which it is checked.
import { isDatabaseKey } from '../../src/databases.ts';
import type { Contents } from './contents.ts';
import { BackupError } from './errors.ts';

export const manifestName = 'manifest.json';

/** A file of the backup, beside the manifest. */
export interface BackupFile {
  readonly name: string;
  readonly bytes: number;
  readonly sha256: string;
}

export interface DatabaseBackup extends Omit<Contents, 'catalog'> {
  /** Key of the registry; a database that a newer version added stays unknown to an older one. */
  readonly key: string;
  /** Name of the database on its server. */
  readonly database: string;
  /** `structure`: everything but rows, of which only the record of migrations is there. */
  readonly holds: 'everything' | 'structure';
  /** Version of the pg_dump that wrote it. */
  readonly pgDump: { readonly version: string; readonly major: number };
  /** Size of the database on its server. */
  readonly databaseBytes: number;
  readonly seconds: number;
  /** pg_dump's custom format. */
  readonly dump: BackupFile;
  /** JSON: the lines of the catalog. */
  readonly catalog: BackupFile;
}

export interface Manifest {
  readonly format: 'atriz-backup-1';
  readonly startedAt: string;
  readonly finishedAt: string;
  readonly databases: readonly DatabaseBackup[];
}

export const rowsOf = ({ tables }: Pick<DatabaseBackup, 'tables'>): number =>
  tables.reduce((sum, { rows }) => sum + rows, 0);

/**
 * Checked by hand, because no validator is among the dependencies, and a backup may come from a disk
 * that fails or from somebody else: its names become paths and identifiers.
 * @throws BackupError naming `origin` and the first thing that is wrong.
 */
export function parseManifest(text: string, origin: string): Manifest {
  const manifest = parseJson(text, origin);
  const wrong = firstFault(manifest, shape, 'it');
  if (wrong !== undefined) throw new BackupError(`${origin} is not a manifest of a backup: ${wrong}.`);
  const { databases } = manifest as Manifest;
  const twice = databases.find(({ key }, index) => databases.findIndex((one) => one.key === key) < index);
  if (twice) throw new BackupError(`${origin} is not a valid manifest: it names ${twice.key} twice.`);
  return manifest as Manifest;
}

function parseJson(text: string, origin: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    throw new BackupError(`${origin} is not a manifest of a backup: it is not JSON.`);
  }
}

type Shape =
  | { readonly test: (value: unknown) => boolean; readonly expected: string }
  | { readonly list: Shape }
  | { readonly fields: Readonly<Record<string, Shape>> }
  | { readonly nullable: Shape };

const text: Shape = { test: (value) => typeof value === 'string', expected: 'a text' };
const number: Shape = { test: Number.isFinite, expected: 'a number' };
const count: Shape = {
  test: (value) => Number.isSafeInteger(value) && Number(value) >= 0,
  expected: 'a whole number from 0',
};
const pattern = (expression: RegExp, expected: string): Shape => ({
  test: (value) => typeof value === 'string' && expression.test(value),
  expected,
});
const time: Shape = {
  test: (value) => typeof value === 'string' && !Number.isNaN(Date.parse(value)),
  expected: 'a time',
};
const file: Shape = {
  fields: {
    name: pattern(/^[\w-]+(\.[\w-]+)+$/, 'the name of a file in the same folder'),
    bytes: count,
    sha256: pattern(/^[0-9a-f]{64}$/, 'a SHA-256 in hexadecimal'),
  },
};
const version: Shape = { fields: { version: text, major: count } };

const shape: Shape = {
  fields: {
    format: pattern(/^atriz-backup-1$/, '"atriz-backup-1"'),
    startedAt: time,
    finishedAt: time,
    databases: {
      list: {
        fields: {
          key: pattern(/^\w+$/, 'the key of a database'),
          database: text,
          holds: pattern(/^(everything|structure)$/, '"everything" or "structure"'),
          pgDump: version,
          server: version,
          databaseBytes: count,
          seconds: number,
          dump: file,
          catalog: file,
          extensions: { list: { fields: { name: text, version: text } } },
          migrations: { list: { fields: { tag: { nullable: text }, hash: text, createdAt: number } } },
          tables: {
            list: { fields: { name: text, rows: count, checksum: pattern(/^-?\d+$/, 'a number') } },
          },
          chunks: { list: { fields: { name: text, chunks: count, compressed: count } } },
          roles: { list: text },
          properties: {
            fields: {
              owner: text,
              encoding: pattern(/^\w+$/, 'the name of an encoding'),
              localeProvider: pattern(/^(libc|icu|builtin)$/, 'libc, icu or builtin'),
              collate: text,
              ctype: text,
              locale: { nullable: text },
              icuRules: { nullable: text },
              connectionLimit: number,
              comment: { nullable: text },
              settings: { list: { fields: { role: { nullable: text }, name: text, value: text } } },
              grants: {
                nullable: {
                  list: {
                    fields: {
                      grantee: text,
                      privilege: pattern(/^(CREATE|CONNECT|TEMPORARY)$/, 'CREATE, CONNECT or TEMPORARY'),
                      grantable: { test: (value) => typeof value === 'boolean', expected: 'true or false' },
                    },
                  },
                },
              },
            },
          },
        },
      },
    },
  },
};

function firstFault(value: unknown, expected: Shape, place: string): string | undefined {
  if ('test' in expected) return expected.test(value) ? undefined : `${place} should be ${expected.expected}`;
  if ('nullable' in expected) return value === null ? undefined : firstFault(value, expected.nullable, place);
  if ('list' in expected) {
    if (!Array.isArray(value)) return `${place} should be a list`;
    return value
      .map((item, index) => firstFault(item, expected.list, `${place}[${index}]`))
      .find((fault) => fault !== undefined);
  }
  if (typeof value !== 'object' || value === null) return `${place} should be an object`;
  const members = value as Record<string, unknown>;
  return Object.entries(expected.fields)
    .map(([name, field]) => firstFault(members[name], field, `${place}.${name}`))
    .find((fault) => fault !== undefined);
}

/** Entries of databases that this version knows. */
export const isKnown = ({ key }: DatabaseBackup): boolean => isDatabaseKey(key);
