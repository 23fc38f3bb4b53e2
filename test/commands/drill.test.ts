// drill: proves a backup by restoring it beside, and names what differs.
import { createHash } from 'node:crypto';
import { readFileSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { expect, inject, test } from 'vitest';
import type { DatabaseKey } from '../../src/databases.ts';
import { definitionOf } from '../../src/databases.ts';
import {
  databasesBeside,
  everythingIn,
  readManifest,
  temporaryFolder,
  writeManifest,
} from '../support/backups.ts';
import { environmentFor, runCli } from '../support/cli.ts';
import { describeWith, migratedDatabase, openPool, plainKeys } from '../support/database.ts';

const nameOf = (url = '') => decodeURIComponent(url.split('/').at(-1) ?? '');

async function migratedEnvironment(keys: readonly DatabaseKey[]): Promise<Record<string, string>> {
  const urls = await Promise.all(keys.map(async (key) => environmentFor(key, await migratedDatabase(key))));
  return Object.assign({}, ...urls);
}

describeWith(['pg_dump'], 'with pg_dump', () => {
  test('the plain databases come back the same, and nothing is left', async () => {
    const environment = await migratedEnvironment(plainKeys);
    expect(await runCli(['seed', ...plainKeys], environment)).toMatchObject({ code: 0 });
    const to = join(temporaryFolder(), 'backups');
    const result = await runCli(['drill', '--to', to, '--json'], environment);
    expect(result).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(result.stdout)).toMatchObject(
      plainKeys.map((key) => ({
        key,
        problems: [],
        rows: expect.any(Number),
        restoreSeconds: expect.any(Number),
      })),
    );
    expect(everythingIn(to)).toEqual(['drills.json']);
    for (const key of plainKeys) {
      expect(await databasesBeside(key, nameOf(environment[definitionOf(key).urlVariable]))).toEqual([]);
    }
    const reported = await runCli(['report', '--json'], environment, { cwd: dirname(to) });
    const { backups } = JSON.parse(reported.stdout) as { backups: { drills: Record<string, unknown> } };
    expect(backups.drills).toEqual(
      Object.fromEntries(plainKeys.map((key) => [key, { at: expect.any(String), problems: 0 }])),
    );
    const shown = await runCli(['drill', 'core', '--to', to], environment);
    expect(shown.stdout).toMatch(/core +\d+ +[\d.]+ MB .* the same/);
  });

  test('every kind of column, table and name has a checksum that survives', async () => {
    const url = await migratedDatabase('atriz');
    const pool = openPool('atriz', url);
    await pool.query(`CREATE SCHEMA "odd schema"; CREATE TYPE mood AS ENUM ('glad', 'sad'); CREATE TYPE pair AS (a int, b text);
      CREATE TABLE "odd schema"."odd ""table" (t text, mood mood, pair pair, many int[], span tstzrange, at point, doc json, docb jsonb,
        bytes bytea, amount numeric, half float4, mac macaddr, search tsvector, twice int GENERATED ALWAYS AS (2) STORED, gone int);
      ALTER TABLE "odd schema"."odd ""table" DROP COLUMN gone;
      INSERT INTO "odd schema"."odd ""table" (t, mood, pair, many, span, at, doc, docb, bytes, amount, half, mac, search) SELECT
        nullif('x' || i % 3, 'x0'), 'sad', ROW(i, NULL::text)::pair, ARRAY[i, NULL], tstzrange(now(), NULL), point(i, 1), '{"a" :1}', '{"a" :1}',
        '\\x00ff', i / 3.0, 'NaN', '08:00:2b:01:02:03', 'a b' FROM generate_series(1, 100) i;
      CREATE TABLE nothing (); INSERT INTO nothing DEFAULT VALUES;
      CREATE TABLE parts (id int) PARTITION BY RANGE (id); CREATE TABLE part PARTITION OF parts DEFAULT; INSERT INTO parts VALUES (1);
      CREATE TABLE base (id int); CREATE TABLE derived () INHERITS (base); INSERT INTO base VALUES (1); INSERT INTO derived VALUES (2);
      CREATE UNLOGGED TABLE quick (id int); INSERT INTO quick VALUES (1);
      CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM base; CREATE SEQUENCE numbers; CREATE VIEW v AS SELECT 1 AS one;
      GRANT SELECT ON base TO pg_monitor; REVOKE SELECT ON base FROM pg_monitor;
      ALTER TABLE base ENABLE ROW LEVEL SECURITY; CREATE POLICY own ON base USING (id > 0)`);
    const to = temporaryFolder();
    const environment = environmentFor('atriz', url);
    const made = await runCli(['backup', 'atriz', '--to', to, '--json'], environment);
    const tables = readManifest(JSON.parse(made.stdout).folder).databases[0]?.tables.map(
      ({ name, rows }) => `${name} ${rows}`,
    );
    expect(tables).toEqual(
      expect.arrayContaining([
        'odd schema.odd "table 100',
        'public.nothing 1',
        'public.part 1',
        'public.base 1',
        'public.derived 1',
        'public.quick 1',
      ]),
    );
    expect(await runCli(['drill', '--from', 'latest', '--to', to], environment)).toMatchObject({
      code: 0,
      stderr: '',
    });
  });

  test('--from a backup whose manifest or catalog says something else: exit 3, and what differs', async () => {
    const environment = await migratedEnvironment(['core']);
    const made = await runCli(['backup', 'core', '--to', temporaryFolder(), '--json'], environment);
    const { folder } = JSON.parse(made.stdout);
    const catalog = join(folder, 'core.catalog.json');
    const lines = (JSON.parse(readFileSync(catalog, 'utf8')) as string[]).filter(
      (line) => !line.startsWith('index public.users_email_key'),
    );
    const text = JSON.stringify([...lines, 'rowpolicy public.users.mine: r']);
    writeFileSync(catalog, text);
    const manifest = readManifest(folder);
    writeManifest(folder, {
      ...manifest,
      databases: manifest.databases.map((database) => ({
        ...database,
        catalog: {
          ...database.catalog,
          bytes: text.length,
          sha256: createHash('sha256').update(text).digest('hex'),
        },
        migrations: database.migrations.slice(1),
        tables: database.tables.map((table) =>
          table.name === 'public.roles' ? { ...table, checksum: '1' } : table,
        ),
        properties: {
          ...database.properties,
          connectionLimit: 7,
          settings: [{ role: null, name: 'work_mem', value: '5MB' }],
        },
      })),
    });
    const result = await runCli(['drill', '--from', folder, '--json'], environment);
    expect(result.code).toBe(3);
    expect(JSON.parse(result.stdout)[0].problems).toEqual([
      'table public.roles has the right number of rows, and other contents',
      expect.stringMatching(/^migrations: not in the backup: /),
      'catalog: not restored: rowpolicy public.users.mine: r',
      expect.stringMatching(/^catalog: not in the backup: index public.users_email_key/),
    ]);
    const shown = await runCli(['drill', 'core', '--from', folder], environment);
    expect(shown).toMatchObject({
      code: 3,
      stdout: expect.stringContaining('DIFFERS'),
      stderr: expect.stringContaining('public.roles'),
    });
    expect(await databasesBeside('core', nameOf(environment.SHARED_DATABASE_URL))).toEqual([]);
  });
});

// The same server holds the plain databases and TimescaleDB there, so that one pg_dump fits both.
const isNative = inject('server').kind !== 'embedded';
describeWith(
  isNative ? ['pg_dump', 'timescaledb'] : ['pg_dump', 'timescaledb', 'concurrent-sessions'],
  'tracking on a native server',
  () => {
    test('chunks, compressed ones too, aggregate and policies come back, and a restore swaps them in', async () => {
      const url = await migratedDatabase('tracking');
      const environment = environmentFor('tracking', url);
      const pool = openPool('tracking', url);
      await pool.query(
        `INSERT INTO location_events (time, device_id, user_id, app_source, latitude, longitude, speed)
       SELECT now() - i * interval '10 minutes', '0e000000-0000-4000-8000-000000000001', '0a000000-0000-4000-8000-000000000001', 'mextrack', 1, 1, i % 90
       FROM generate_series(1, 2000) i`,
      );
      await pool.query(
        "SELECT compress_chunk(c) FROM show_chunks('location_events', older_than => interval '7 days') c",
      );
      await pool.query(
        "CALL refresh_continuous_aggregate('location_hourly', NULL, now() - interval '1 day')",
      );
      await pool.close();
      const to = temporaryFolder();
      expect(await runCli(['drill', 'tracking', '--to', to], environment)).toMatchObject({
        code: 0,
        stderr: '',
      });
      expect(await runCli(['backup', 'tracking', '--to', to], environment)).toMatchObject({ code: 0 });
      const [tracking] = readManifest(join(to, everythingIn(to)[0] ?? '')).databases;
      expect(tracking?.tables).toContainEqual({
        name: 'public.location_events',
        rows: 2000,
        checksum: expect.any(String),
      });
      expect(tracking?.chunks).toContainEqual({
        name: 'public.location_events',
        chunks: expect.any(Number),
        compressed: expect.any(Number),
      });
      const restored = await runCli(
        ['restore', 'latest', '--in', to, '--yes', '--drop-old', '--force'],
        environment,
      );
      expect(restored).toMatchObject({ code: 0, stderr: '' });
      expect(await databasesBeside('tracking', nameOf(url))).toEqual([]);
    });
  },
);
