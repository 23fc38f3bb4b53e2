// Reads the contents of a database, so that a backup can be compared with the database restored from it.

import type { DatabaseTarget } from '../../src/databases.ts';
import { readApplied } from '../../src/migrations/applied.ts';
import { migrationsTable, readFolder } from '../../src/migrations/journal.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import { hasRelation } from '../../src/sql/relations.ts';
import { chunks, readTimescale, storedRelations } from '../../src/timescale/catalog.ts';
import type { Transaction } from '../../src/transaction.ts';
import { catalogLines } from '../catalog/catalog.ts';
import { readProperties } from './database-properties.ts';
import type { DatabaseBackup } from './library/manifest.ts';

export interface Contents
  extends Pick<
    DatabaseBackup,
    'server' | 'extensions' | 'migrations' | 'tables' | 'chunks' | 'roles' | 'properties'
  > {
  /** Lines of `readCatalog`, but with one line for the grants of each relation. */
  readonly catalog: readonly string[];
}

export interface Table {
  readonly schema: string;
  readonly name: string;
  /** Whether its rows are in chunks. */
  readonly chunked: boolean;
}

/**
 * Types whose values are hashed directly, which is four times as fast as hashing their text. For other types, the text
 * is hashed, because a restore changes, for example, the hash of an enum value.
 */
const hashable = [
  ...['bool', 'bpchar', 'bytea', 'date', 'float4', 'float8', 'inet', 'int2', 'int4', 'int8', 'jsonb'],
  ...['numeric', 'text', 'timestamp', 'timestamptz', 'uuid', 'varchar'],
];

/** Makes the text of rows independent of settings. Requires a transaction of `withCatalogPath`. */
export async function fixSession(transaction: Transaction): Promise<void> {
  // No parallel workers: applications use the server at the same time.
  await transaction.query(
    `SELECT set_config(name, value, true) FROM (VALUES ('DateStyle', 'ISO'),
       ('IntervalStyle', 'postgres'), ('extra_float_digits', '1'), ('bytea_output', 'hex'), ('lc_monetary', 'C'),
       ('xmlbinary', 'base64'), ('row_security', 'off'), ('statement_timeout', '0'), ('lock_timeout', '0'),
       ('idle_in_transaction_session_timeout', '0'), ('transaction_timeout', '0'),
       ('max_parallel_workers_per_gather', '0')) AS s (name, value)
     WHERE EXISTS (SELECT 1 FROM pg_settings p WHERE lower(p.name) = lower(s.name))`,
  );
}

/** Reads the contents in the transaction's snapshot, and counts the rows of `tables`. Call `fixSession` before. */
export async function readContents(
  transaction: Transaction,
  key: DatabaseTarget,
  tables: readonly Table[],
  signal: AbortSignal,
): Promise<Contents> {
  const rows = [];
  for (const table of tables) {
    signal.throwIfAborted();
    rows.push(await readTable(transaction, table));
  }
  return {
    server: await readServer(transaction),
    extensions: await readExtensions(transaction),
    migrations: await readMigrationState(transaction, key),
    tables: rows,
    chunks: await readChunks(transaction),
    roles: await readRoles(transaction),
    properties: await readProperties(transaction),
    catalog: await readLines(transaction),
  };
}

export async function readServer(db: Transaction): Promise<Contents['server']> {
  const { rows } = await db.query<Contents['server']>(
    `SELECT split_part(current_setting('server_version'), ' ', 1) AS version, current_setting('server_version_num')::int / 10000 AS major`,
  );
  return rows[0] as Contents['server'];
}

/** Tables, hypertables and continuous aggregates, without those of extensions. */
export async function readTables(db: Transaction): Promise<Table[]> {
  const { rows } = await db.query<{ schema: string; name: string }>(
    `SELECT n.nspname AS schema, c.relname AS name
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'r' AND c.relpersistence <> 't' AND n.nspname <> 'information_schema'
       AND n.nspname !~ '^(pg_|_timescaledb|timescaledb_|toolkit_)'
       AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
     ORDER BY 1, 2`,
  );
  const chunked = await readChunked(db);
  const names = new Set(chunked.map(({ schema, name }) => `${schema}.${name}`));
  const plain = rows.filter(({ schema, name }) => !names.has(`${schema}.${name}`));
  return [...plain.map((table) => ({ ...table, chunked: false })), ...chunked];
}

async function readChunked(db: Transaction): Promise<Table[]> {
  if (!(await readTimescale(db))) return [];
  const { rows } = await db.query<Table>(
    `SELECT schema, name, true AS chunked FROM ${storedRelations} AS r ORDER BY 1, 2`,
  );
  return rows;
}

async function readTable(
  db: Transaction,
  { schema, name, chunked }: Table,
): Promise<Contents['tables'][number]> {
  const relation = `${quoteIdentifier(schema)}.${quoteIdentifier(name)}`;
  // concat() instead of ::text, which could run the cast of a user-defined type. Both return the same text.
  const columns = await db.query<{ value: string }>(
    `SELECT CASE WHEN atttypid = ANY ($2::regtype[]) THEN format('t.%I', attname)
       ELSE format('CASE WHEN num_nulls(t.%1$I) = 0 THEN concat(t.%1$I) END', attname) END AS value
     FROM pg_attribute WHERE attrelid = $1::regclass AND attnum > 0 AND NOT attisdropped ORDER BY attnum`,
    [relation, hashable],
  );
  const row = `ROW(${columns.rows.map(({ value }) => value).join(', ')})`;
  // ONLY: inherited rows are counted in their own table.
  const { rows } = await db.query<{ rows: string; checksum: string }>(
    `SELECT count(*) AS rows, coalesce(sum(hash_record_extended(${row}, 0)), 0) AS checksum
     FROM ${chunked ? '' : 'ONLY '}${relation} AS t`,
  );
  const [found] = rows;
  return { name: `${schema}.${name}`, rows: Number(found?.rows), checksum: String(found?.checksum) };
}

async function readExtensions(db: Transaction): Promise<Contents['extensions']> {
  const { rows } = await db.query<{ name: string; version: string }>(
    "SELECT extname AS name, extversion AS version FROM pg_extension WHERE extname <> 'plpgsql' ORDER BY 1",
  );
  return rows;
}

async function readMigrationState(db: Transaction, key: DatabaseTarget): Promise<Contents['migrations']> {
  if (!(await hasRelation(db, migrationsTable))) return [];
  const tags = new Map(readFolder(key).migrations.map(({ when, tag }) => [when, tag]));
  const applied = await readApplied(db);
  return applied
    .map(({ hash, createdAt }) => ({ tag: tags.get(createdAt) ?? null, hash, createdAt }))
    .sort((one, other) => one.createdAt - other.createdAt);
}

async function readChunks(db: Transaction): Promise<Contents['chunks']> {
  if (!(await readTimescale(db))) return [];
  const { rows } = await db.query<Contents['chunks'][number]>(
    `SELECT r.schema || '.' || r.name AS name, count(*)::int AS chunks, (count(*) FILTER (WHERE c.is_compressed))::int AS compressed
     FROM ${storedRelations} AS r JOIN ${chunks} AS c USING (storage_schema, storage_name)
     GROUP BY 1 ORDER BY 1`,
  );
  return rows;
}

// pg_shdepend omits the bootstrap superuser, which is pinned, so the owners are also read from the catalogs.
async function readRoles(db: Transaction): Promise<string[]> {
  const { rows } = await db.query<{ name: string }>(
    `SELECT r.rolname::text AS name FROM pg_roles r WHERE r.rolname !~ '^pg_' AND r.oid IN (
       SELECT s.refobjid FROM pg_shdepend s JOIN pg_database d ON d.datname = current_database()
       WHERE s.refclassid = 'pg_authid'::regclass
         AND (s.dbid = d.oid OR (s.classid = 'pg_database'::regclass AND s.objid = d.oid))
       UNION SELECT datdba FROM pg_database WHERE datname = current_database()
       UNION SELECT relowner FROM pg_class
       UNION SELECT setrole FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase WHERE d.datname = current_database())
     ORDER BY 1`,
  );
  return rows.map(({ name }) => name);
}

// Returns lines that a restore does not change: pg_dump omits default grants, and pg_restore rebuilds invalid indexes.
async function readLines(db: Transaction): Promise<string[]> {
  const lines = (await catalogLines(db))
    .filter((line) => !line.startsWith('grant '))
    .map((line) => (line.startsWith('index ') ? line.replace(/ invalid$/, '') : line));
  const { rows } = await db.query<{ line: string }>(
    `SELECT format('grant %s.%s: %s', n.nspname, c.relname, string_agg(format('%s=%s%s', coalesce(r.rolname, 'PUBLIC'),
         a.privilege_type, CASE WHEN a.is_grantable THEN '*' END), ' ' ORDER BY r.rolname, a.privilege_type)) AS line
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     CROSS JOIN aclexplode(coalesce(c.relacl, acldefault(CASE c.relkind WHEN 'S' THEN 's' ELSE 'r' END::"char", c.relowner))) a
     LEFT JOIN pg_roles r ON r.oid = a.grantee
     WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND n.nspname <> 'information_schema'
       AND n.nspname !~ '^(pg_|_timescaledb|timescaledb_|toolkit_)'
       AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
     GROUP BY n.nspname, c.relname`,
  );
  return [...lines, ...rows.map(({ line }) => line)].sort();
}
