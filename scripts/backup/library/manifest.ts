// Format of manifest.json, which lists what a backup contains and the checksums to verify it.
import * as v from 'valibot';
import { BackupError } from '../errors.ts';

export const manifestName = 'manifest.json';

const list = <Item extends v.GenericSchema>(item: Item) => v.pipe(v.array(item), v.readonly());
const text = v.string();
export const count = v.pipe(v.number(), v.safeInteger(), v.minValue(0));
const pattern = (expression: RegExp, expected: string) =>
  v.pipe(text, v.regex(expression, `it should be ${expected}`));
export const time = v.pipe(
  text,
  v.check((value) => !Number.isNaN(Date.parse(value)), 'it should be a time'),
);

/** A file of the backup, in the folder of the manifest. */
const file = v.object({
  name: pattern(/^[\w-]+(\.[\w-]+)+$/, 'the name of a file in the same folder'),
  bytes: count,
  sha256: pattern(/^[0-9a-f]{64}$/, 'a SHA-256 in hexadecimal'),
});
const version = v.object({ version: text, major: count });

/** pg_restore restores these properties only with --create, which cannot use another database name. */
const properties = v.object({
  owner: text,
  encoding: pattern(/^\w+$/, 'the name of an encoding'),
  localeProvider: pattern(/^(libc|icu|builtin)$/, 'libc, icu or builtin'),
  collate: text,
  ctype: text,
  /** Only for the icu or builtin provider. */
  locale: v.nullable(text),
  icuRules: v.nullable(text),
  /** -1: no limit. */
  connectionLimit: v.number(),
  comment: v.nullable(text),
  /** Set by ALTER DATABASE … SET or, if there is a `role`, by ALTER ROLE … IN DATABASE … SET. */
  settings: list(v.object({ role: v.nullable(text), name: text, value: text })),
  /** null if they were never changed: PostgreSQL's defaults apply. An empty grantee is PUBLIC. */
  grants: v.nullable(
    list(
      v.object({
        grantee: text,
        privilege: pattern(/^(CREATE|CONNECT|TEMPORARY)$/, 'CREATE, CONNECT or TEMPORARY'),
        grantable: v.boolean(),
      }),
    ),
  ),
});

const databaseBackup = v.object({
  /** Key, such as `tracking` or `tracking:mextrack`. Not in the registry if a newer version added the database. */
  key: pattern(/^\w+(:\w+)?$/, 'the key of a database'),
  /** Name of the database on its server. */
  database: text,
  /** `structure`: no rows except those of the migrations table. */
  holds: v.picklist(['everything', 'structure']),
  /** Version of the pg_dump that wrote the dump. */
  pgDump: version,
  server: version,
  /** Size of the database on its server. */
  databaseBytes: count,
  seconds: v.number(),
  /** pg_dump's custom format. */
  dump: file,
  /** A JSON array of the lines with which `scripts/catalog` describes the objects of the database. */
  catalog: file,
  extensions: list(v.object({ name: text, version: text })),
  /** `tag` is null if this checkout has no file for the migration. */
  migrations: list(v.object({ tag: v.nullable(text), hash: text, createdAt: v.number() })),
  /**
   * `name` is `schema.table`, also for a continuous aggregate. `checksum` is the sum of the hashes of all rows,
   * independent of their order.
   */
  tables: list(v.object({ name: text, rows: count, checksum: pattern(/^-?\d+$/, 'a number') })),
  /** For each hypertable and continuous aggregate, the number of its chunks and how many are compressed. */
  chunks: list(v.object({ name: text, chunks: count, compressed: count })),
  /** Roles that own objects or have grants or settings in this database. */
  roles: list(text),
  properties,
});

const manifest = v.object({
  format: v.literal('atriz-backup-1'),
  startedAt: time,
  finishedAt: time,
  databases: list(databaseBackup),
});
const manifestFile = v.pipe(text, v.parseJson(undefined, 'it is not JSON'), manifest);

export type BackupFile = Readonly<v.InferOutput<typeof file>>;
export type DatabaseBackup = Readonly<v.InferOutput<typeof databaseBackup>>;
export type DatabaseProperties = DatabaseBackup['properties'];
export type Manifest = Readonly<v.InferOutput<typeof manifest>>;

export const rowsOf = ({ tables }: Pick<DatabaseBackup, 'tables'>): number =>
  tables.reduce((sum, { rows }) => sum + rows, 0);

/**
 * Checks every field: a backup may be damaged or come from somebody else, and its names become paths and identifiers.
 * @throws BackupError naming `origin` and the first problem.
 */
export function parseManifest(text: string, origin: string): Manifest {
  const { output, issues, success } = v.safeParse(manifestFile, text, { abortEarly: true });
  if (!success) {
    const place = v.getDotPath(issues[0]);
    const wrong = `${place ? `${place}: ` : ''}${issues[0].message}`;
    throw new BackupError(`${origin} is not a manifest of a backup: ${wrong}.`);
  }
  const { databases } = output;
  const twice = databases.find(({ key }, index) => databases.findIndex((one) => one.key === key) < index);
  if (twice) throw new BackupError(`${origin} is not a valid manifest: it names ${twice.key} twice.`);
  return output;
}
