// CREATE, DROP and ALTER DATABASE on the server whose databases are folders; TimescaleDB inside them.
import { rmSync } from 'node:fs';
import { setImmediate } from 'node:timers/promises';
import postgres from 'postgres';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { InstanceCrashed } from '../../scripts/embedded/timescaledb/instance.ts';
import { TimescaleServer } from '../../scripts/embedded/timescaledb/server.ts';
import { makeDataFolder } from '../support/data-folder.ts';
import { freePort } from '../support/free-port.ts';
import { type TemporaryCluster, temporaryCluster } from './support.ts';

let cluster: TemporaryCluster;
let maintenance: postgres.Sql;

function connect(database: string, options: postgres.Options<Record<string, never>> = {}): postgres.Sql {
  return postgres(cluster.servers.timescaledb, { database, max: 1, onnotice: () => undefined, ...options });
}

async function using<Result>(database: string, act: (sql: postgres.Sql) => Promise<Result>): Promise<Result> {
  const sql = connect(database);
  try {
    return await act(sql);
  } finally {
    await sql.end({ timeout: 1 });
  }
}

const names = async () =>
  (await maintenance`SELECT datname FROM pg_database WHERE NOT datistemplate ORDER BY 1`).map(
    ({ datname }) => datname,
  );

beforeAll(async () => {
  cluster = await temporaryCluster();
  maintenance = connect('postgres');
});

afterAll(async () => {
  await maintenance?.end({ timeout: 1 });
  await cluster?.[Symbol.asyncDispose]();
});

test('only `postgres` exists at first, and an unknown database is refused', async () => {
  expect(await names()).toEqual(['postgres']);
  await expect(using('missing', (sql) => sql`SELECT 1`)).rejects.toMatchObject({
    code: '3D000',
    message: 'database "missing" does not exist',
  });
});

test('a database is created, listed, copied as a template and dropped', async () => {
  await maintenance.unsafe('CREATE DATABASE "or igin"');
  await using('or igin', async (sql) => {
    await sql`CREATE TABLE kept AS SELECT 7 AS n`;
    expect(await sql`SELECT current_database()`).toEqual([{ current_database: 'or igin' }]);
    await expect(maintenance`CREATE DATABASE copied TEMPLATE "or igin"`).rejects.toMatchObject({
      code: '55006',
    });
  });
  await maintenance`CREATE DATABASE copied TEMPLATE "or igin"`;
  await expect(maintenance`ALTER DATABASE copied RENAME TO renamed`).rejects.toMatchObject({ code: '0A000' });
  expect(await names()).toEqual(['copied', 'or igin', 'postgres']);
  await using('copied', async (sql) => {
    expect(await sql`SELECT current_database(), n FROM kept`).toEqual([{ current_database: 'copied', n: 7 }]);
    await expect(maintenance`DROP DATABASE copied`).rejects.toMatchObject({ code: '55006' });
    let dropped: Promise<unknown> | undefined;
    await new Promise((resolve) => {
      const watching = connect('copied', { onclose: resolve });
      dropped = watching`SELECT 1`.then(() => maintenance`DROP DATABASE copied WITH (FORCE)`);
    });
    await dropped;
  });
  await expect.poll(names).toEqual(['or igin', 'postgres']);
});

test('database commands fail as on a server', async () => {
  const failing = (text: string, code: string) =>
    expect(maintenance.unsafe(text)).rejects.toMatchObject({ code });
  await failing('CREATE DATABASE postgres', '42P04');
  await failing('DROP DATABASE missing', '3D000');
  await failing('DROP DATABASE postgres', '55006');
  await failing('CREATE DATABASE a; CREATE DATABASE b', '25001');
  await failing('CREATE DATABASE a TEMPLATE missing', '3D000');
  await maintenance.unsafe('DROP DATABASE IF EXISTS missing');
  await expect(maintenance.begin((tx) => tx`CREATE DATABASE inside`)).rejects.toMatchObject({
    code: '25001',
  });
  await expect(maintenance.begin((tx) => tx.unsafe('DROP DATABASE postgres'))).rejects.toMatchObject({
    code: '25001',
  });
});

// Its thread would keep the process from ending.
test('no instance is opened of a database that is being dropped, or of a server that stops', async () => {
  const [folder, port, ignore] = [makeDataFolder('atriz-embedded-test-'), await freePort(), () => undefined];
  const options = { folder, port, backendLockTimeout: 60_000, onLog: ignore, onProgress: ignore };
  const server = await TimescaleServer.start(options);
  const sql = postgres(`postgresql://postgres:postgres@127.0.0.1:${port}/postgres`, { max: 1 });
  await sql`CREATE DATABASE gone`;
  const [kept, gone] = [server.database('postgres'), server.database('gone')];
  await gone?.open();
  const dropped = sql`DROP DATABASE gone`.execute();
  while (gone?.isOpen) await setImmediate();
  await expect(gone?.open()).rejects.toThrow(InstanceCrashed);
  await dropped;
  await sql.end({ timeout: 1 });
  await server.stop();
  await expect(kept?.open()).rejects.toThrow(InstanceCrashed);
  rmSync(folder, { recursive: true, force: true });
});

test('TimescaleDB works: hypertable, compression job, continuous aggregate', async () => {
  await maintenance`CREATE DATABASE tracking`;
  await using('tracking', async (sql) => {
    await sql`CREATE EXTENSION timescaledb`;
    await sql`CREATE TABLE reading (time timestamptz NOT NULL, device text NOT NULL, value float8)`;
    await sql`SELECT create_hypertable('reading', 'time', chunk_time_interval => INTERVAL '1 day')`;
    await sql`ALTER TABLE reading SET (timescaledb.compress, timescaledb.compress_segmentby = 'device')`;
    const [policy] = await sql`SELECT add_compression_policy('reading', INTERVAL '2 days') AS job`;
    await sql`CREATE MATERIALIZED VIEW hourly WITH (timescaledb.continuous) AS
      SELECT time_bucket('1 hour', time) AS hour, device, avg(value) AS value FROM reading GROUP BY 1, 2
      WITH NO DATA`;
    await sql`INSERT INTO reading SELECT now() - i * INTERVAL '1 hour', 'd' || i % 3, i FROM generate_series(1, 240) i`;
    await sql.unsafe(`CALL run_job(${Number(policy?.job)})`);
    const [chunks] = await sql`SELECT count(*) FILTER (WHERE is_compressed)::int AS compressed
      FROM timescaledb_information.chunks WHERE hypertable_name = 'reading'`;
    expect(chunks?.compressed).toBeGreaterThan(5);
    await sql.unsafe(`CALL refresh_continuous_aggregate('hourly', NULL, NULL)`);
    expect(await sql`SELECT count(*)::int AS n FROM hourly`).toEqual([{ n: 240 }]);
  });
  // The extension is there at the first statement after the instance was closed and opened again.
  await maintenance`CREATE DATABASE tracking_copy TEMPLATE tracking`;
  await using('tracking_copy', async (sql) => {
    await sql`INSERT INTO reading VALUES (now(), 'd9', 1)`;
    expect(await sql`SELECT count(*)::int AS n FROM reading`).toEqual([{ n: 241 }]);
  });
});
