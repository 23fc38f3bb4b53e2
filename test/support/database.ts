// Databases for one test file: cloned or migrated on first use, dropped after the file.
import { describe, inject, test } from 'vitest';
import { dropDatabase } from '../../scripts/cli/pools.ts';
import { type DatabaseKey, databaseKeys, definitionOf } from '../../src/databases.ts';
import { withDatabase } from '../../src/driver/database-url.ts';
import { createDatabasePool, type DatabasePoolOptions, type PoolOf } from '../../src/pool.ts';
import { afterAllElse, afterFile } from './after-file.ts';
import { templateName } from './names.ts';
import { type Capability, capabilities as descriptions, hasTemplate } from './server.ts';
import { cloneTemplate, pristine } from './templates.ts';

/** A describe block that needs something of the server, and says so where it is skipped. */
export function describeWith(needs: readonly Capability[], name: string, body: () => void): void {
  const { missing, title } = skipReason(needs, name);
  describe.skipIf(missing)(title, body);
}

/** The same for one test. */
export function testWith(needs: readonly Capability[], name: string, body: () => Promise<void>): void {
  const { missing, title } = skipReason(needs, name);
  test.skipIf(missing)(title, body);
}

function skipReason(needs: readonly Capability[], name: string): { missing: boolean; title: string } {
  const missing = needs.filter((need) => !inject('server').capabilities.includes(need));
  const reason = missing.map((need) => descriptions[need]).join('; ');
  return { missing: missing.length > 0, title: reason ? `${name} (skipped: ${reason})` : name };
}

/** URL of the server that holds a database, with the database's name replaced. */
export function serverUrl(key: DatabaseKey, database: string): string {
  const server = inject('server');
  return withDatabase(definitionOf(key).extensions.length > 0 ? server.tracking : server.plain, database);
}

let counter = 0;

/** A name that no other test uses. The database is dropped after the file, whether it exists or not. */
export function uniqueName(key: DatabaseKey): string {
  counter += 1;
  const name = `atriz_test_${inject('run')}_${process.pid}_${counter}_${key}`;
  afterFile(async () => {
    await using maintenance = createDatabasePool({ connectionString: serverUrl(key, 'postgres'), max: 1 });
    await dropDatabase(maintenance, name);
  });
  return name;
}

/** What the role names of a test begin with: roles are the server's. They are dropped after the file. */
export function uniqueRolePrefix(): string {
  counter += 1;
  const prefix = `atriz_test_${inject('run')}_${process.pid}_${counter}_`;
  afterAllElse(() => dropRoles(prefix));
  return prefix;
}

/** On the plain server; the embedded tracking server keeps its roles in each database. */
async function dropRoles(prefix: string): Promise<void> {
  await maintain(
    'core',
    // All at once: one may have made another a member of a third.
    `DO $$ DECLARE names text; BEGIN
       SELECT string_agg(quote_ident(rolname), ', ') INTO names FROM pg_roles WHERE starts_with(rolname, '${prefix}');
       IF names IS NOT NULL THEN EXECUTE 'DROP ROLE ' || names; END IF;
     END $$`,
  );
}

export async function maintain(key: DatabaseKey, text: string): Promise<void> {
  await using pool = createDatabasePool({ connectionString: serverUrl(key, 'postgres'), max: 1 });
  await pool.query(text);
}

/** An empty database. @returns its URL. */
export async function emptyDatabase(key: DatabaseKey): Promise<string> {
  const name = uniqueName(key);
  await maintain(key, `CREATE DATABASE "${name}" ${pristine}`);
  return serverUrl(key, name);
}

/** A migrated database. @returns its URL. */
export async function migratedDatabase(key: DatabaseKey): Promise<string> {
  const name = uniqueName(key);
  await using pool = createDatabasePool({ connectionString: serverUrl(key, 'postgres'), max: 1 });
  await cloneTemplate(pool, templateName(inject('run'), key), name);
  return serverUrl(key, name);
}

/** The same database, through the proxy where the tests' pools go through one. */
function pooledUrl(url: string): string {
  const { plain, proxy } = inject('server');
  const server = /^[^/]*\/\/[^/]*/;
  const direct = server.exec(plain)?.[0] ?? '';
  if (!proxy || !url.startsWith(`${direct}/`)) return url;
  return `${url.replace(direct, server.exec(proxy)?.[0] ?? '')}${url.includes('?') ? '&' : '?'}pgbouncer=true`;
}

/** A pool that is closed after the file. */
export const openPool = <Key extends DatabaseKey>(
  key: Key,
  url: string,
  options?: DatabasePoolOptions,
): PoolOf<Key> => openSessionPool(key, pooledUrl(url), options);

/** One that goes to the server itself, for migrations and whatever else needs a session. */
export function openSessionPool<Key extends DatabaseKey>(
  key: Key,
  url: string,
  options: DatabasePoolOptions = {},
): PoolOf<Key> {
  // A busy machine may start a database of the embedded server slowly.
  const pool = createDatabasePool({ key, connectionString: url, connectTimeoutMs: 120_000, ...options });
  afterFile(() => pool.close());
  return pool;
}

/** A pool on a migrated database of its own. */
export async function testPool<Key extends DatabaseKey>(key: Key): Promise<PoolOf<Key>> {
  return openPool(key, await migratedDatabase(key));
}

/** The keys of the databases that need no extension, and of those that the server can hold. */
export const plainKeys = databaseKeys.filter((key) => definitionOf(key).extensions.length === 0);
export const possibleKeys = (): DatabaseKey[] =>
  databaseKeys.filter((key) => hasTemplate(key, inject('server').capabilities));
