// Several clients on the one backend of a WASM database: each must believe that it has a server of its own.
import postgres from 'postgres';
import { afterAll, beforeAll, expect, describe as group, test, vi } from 'vitest';
import { query, sync } from '../../scripts/embedded/timescaledb/messages.ts';
import {
  bind,
  describe,
  errorOf,
  execute,
  parse,
  RawClient,
  statusOf,
  type TemporaryCluster,
  temporaryCluster,
  types,
} from './support.ts';

let cluster: TemporaryCluster;
const clients: postgres.Sql[] = [];
const raw: RawClient[] = [];

function client(options: postgres.Options<Record<string, never>> = {}): postgres.Sql {
  const sql = postgres(`${cluster.servers.timescaledb}/postgres`, {
    max: 1,
    onnotice: () => undefined,
    ...options,
  });
  clients.push(sql);
  return sql;
}

async function rawClient(): Promise<RawClient> {
  const opened = await RawClient.open(cluster.servers.timescaledb, 'postgres');
  raw.push(opened);
  return opened;
}

beforeAll(async () => {
  cluster = await temporaryCluster({ backendLockTimeout: 2_000 });
  await client()`SELECT 1`;
});

afterAll(async () => {
  await Promise.all(clients.map((sql) => sql.end({ timeout: 1 })));
  await Promise.all(raw.map((opened) => opened.close()));
  await cluster?.[Symbol.asyncDispose]();
});

group('the backend lock', () => {
  test('a pool of five answers concurrent queries, each with its own result', async () => {
    const pool = client({ max: 5 });
    const answers = await Promise.all(Array.from({ length: 60 }, (_, i) => pool`SELECT ${i}::int AS i`));
    expect(answers.map(([row]) => row?.i)).toEqual(Array.from({ length: 60 }, (_, i) => i));
  });

  test('transactions of several clients run one after the other and see no half of one another', async () => {
    const pool = client({ max: 4 });
    await pool`CREATE TABLE counter (n int NOT NULL)`;
    await pool`INSERT INTO counter VALUES (0)`;
    await Promise.all(
      Array.from({ length: 8 }, () =>
        pool.begin(async (tx) => {
          const [row] = await tx`SELECT n FROM counter`;
          await tx`SELECT pg_sleep(0.005)`;
          await tx`UPDATE counter SET n = ${Number(row?.n) + 1}`;
        }),
      ),
    );
    expect(await pool`SELECT n FROM counter`).toEqual([{ n: 8 }]);
  });

  test('an error in a transaction fails what follows until ROLLBACK, and no other client', async () => {
    const [failing, other] = [await rawClient(), client()];
    failing.send(query('BEGIN'));
    await failing.answer();
    failing.send(query('SELECT 1/0'));
    expect(statusOf(await failing.answer())).toBe('E');
    failing.send(query('SELECT 1'));
    expect(errorOf(await failing.answer())?.C).toBe('25P02');
    const waiting = other`SELECT 1 AS one`.execute();
    failing.send(query('ROLLBACK'));
    expect(statusOf(await failing.answer())).toBe('I');
    expect(await waiting).toEqual([{ one: 1 }]);
  });

  test('a client that goes away in a transaction leaves it rolled back', async () => {
    const [leaver, other] = [await rawClient(), client()];
    leaver.send(query('BEGIN; CREATE TABLE left_behind (n int)'));
    await leaver.answer();
    await leaver.close();
    expect(await other`SELECT to_regclass('left_behind') AS found`).toEqual([{ found: null }]);
  });

  test('a client that waits for the backend lock is told which session owns it: first by a notice, then by an error', async () => {
    const notices: postgres.Notice[] = [];
    const [owner, waiter] = [
      client({ connection: { application_name: 'the owner' } }),
      client({ onnotice: (notice) => notices.push(notice) }),
    ];
    await waiter`SELECT 1`;
    await owner.begin(async (tx) => {
      await tx`SELECT 1`;
      await expect(waiter`SELECT set_config('lock_timeout', '0', false)`).rejects.toMatchObject({
        code: '55P03',
        detail: expect.stringContaining('the owner'),
      });
      expect(notices).toMatchObject([
        {
          severity: 'NOTICE',
          code: '55P03',
          detail: expect.stringMatching(/^Session \d+ \(the owner\) has/),
        },
      ]);
    });
    expect(await waiter`SELECT 1 AS one`).toEqual([{ one: 1 }]);
  });
});

test('DEALLOCATE of one client leaves the prepared statements of another', async () => {
  const [one, other] = [client(), client()];
  const ask = () => one`SELECT ${1}::int AS value`;
  expect(await ask()).toEqual([{ value: 1 }]);
  await other.unsafe('PREPARE mine AS SELECT 2; DEALLOCATE mine');
  expect(await ask()).toEqual([{ value: 1 }]);
  await other.unsafe('DEALLOCATE ALL');
  expect(await ask()).toEqual([{ value: 1 }]);
});

group('settings', () => {
  test('SET, SET ROLE and custom settings of one client do not leak to another', async () => {
    const [left, right] = [client(), client({ connection: { TimeZone: 'Asia/Tokyo' } })];
    await left`CREATE ROLE reader`;
    await left`SET timezone = 'Europe/Rome'`;
    await left`SET app.tenant = 'left'`;
    await left`SELECT set_config(${'app.other'}, ${'x'}, false)`;
    await left`SET ROLE reader`;
    const ask = (sql: postgres.Sql) =>
      sql`SELECT current_setting('timezone') AS zone, current_setting('app.tenant', true) AS tenant,
          current_setting('app.other', true) AS other, current_user AS role, current_setting('search_path') AS path`;
    const path = '"$user", public';
    for (let round = 0; round < 2; round++) {
      expect(await ask(left)).toEqual([
        { zone: 'Europe/Rome', tenant: 'left', other: 'x', role: 'reader', path },
      ]);
      const [own] = await ask(right);
      expect(own).toMatchObject({ zone: 'Asia/Tokyo', role: 'postgres', path });
      expect(own?.tenant ?? '').toBe('');
      expect(own?.other ?? '').toBe('');
    }
  });

  test('RESET goes back to what the startup packet asked for', async () => {
    const sql = client({ connection: { TimeZone: 'Asia/Tokyo' } });
    await sql`SET timezone = 'Europe/Rome'`;
    await sql`RESET timezone`;
    expect(await sql`SHOW timezone`).toEqual([{ TimeZone: 'Asia/Tokyo' }]);
  });

  test('a SET that is rolled back is forgotten', async () => {
    const sql = client();
    await sql
      .begin(async (tx) => {
        await tx`SET timezone = 'Europe/Rome'`;
        throw new Error('undo');
      })
      .catch(() => undefined);
    expect(await sql`SHOW timezone`).toEqual([{ TimeZone: 'UTC' }]);
  });

  test('a role logs in with its own password, has only its rights, and may COPY into its table', async () => {
    const owner = client();
    await owner`CREATE ROLE writer LOGIN PASSWORD 'secret'`;
    await owner`CREATE TABLE written (n int, id uuid DEFAULT gen_random_uuid())`;
    await owner`GRANT INSERT, SELECT ON written TO writer`;
    await owner`SET SESSION AUTHORIZATION writer`;
    expect(await owner`SELECT session_user AS role`).toEqual([{ role: 'writer' }]);
    await owner`RESET SESSION AUTHORIZATION`;
    expect(await owner`SELECT session_user AS role`).toEqual([{ role: 'postgres' }]);
    const writer = client({ username: 'writer', password: 'secret' });
    expect(await writer`SELECT current_user AS role`).toEqual([{ role: 'writer' }]);
    await expect(writer`SELECT * FROM pg_authid`).rejects.toMatchObject({ code: '42501' });
    const copy = await writer`COPY written (n) FROM STDIN`.writable();
    copy.end('1\n2\n');
    await new Promise((resolve, reject) => copy.on('finish', resolve).on('error', reject));
    expect(await writer`SELECT count(*)::int AS n FROM written`).toEqual([{ n: 2 }]);
    expect(await writer`SELECT pg_has_role('pg_read_server_files', 'member') AS may`).toEqual([
      { may: false },
    ]);
    await expect(client({ username: 'writer', password: 'wrong' })`SELECT 1`).rejects.toMatchObject({
      code: '28P01',
    });
    await expect(client({ username: 'nobody' })`SELECT 1`).rejects.toMatchObject({ code: '28000' });
  });
});

group('prepared statements', () => {
  test('two clients use the same statement name for different statements', async () => {
    const [left, right] = [await rawClient(), await rawClient()];
    left.send(parse('s', "SELECT 'left'"), sync);
    right.send(parse('s', "SELECT 'right'"), sync);
    await Promise.all([left.answer(), right.answer()]);
    for (const [own, name] of [
      [left, 'left'],
      [right, 'right'],
      [left, 'left'],
    ] as const) {
      own.send(bind('', 's'), execute(), sync);
      const answer = await own.answer();
      expect(types(answer)).toBe('2DCZ');
      expect(answer[1]?.bytes.toString('latin1')).toContain(name);
    }
    left.send(parse('s', 'SELECT 1'), sync);
    expect(errorOf(await left.answer())).toMatchObject({
      C: '42P05',
      M: 'prepared statement "s" already exists',
    });
  });

  test('the unnamed statement of a client survives those of others', async () => {
    const [left, right] = [await rawClient(), await rawClient()];
    left.send(parse('', "SELECT 'left'"), describe(''), sync);
    await left.answer();
    right.send(parse('', "SELECT 'right'"), bind('', ''), execute(), sync);
    expect(types(await right.answer())).toBe('12DCZ');
    left.send(bind('', ''), execute(), sync);
    const answer = await left.answer();
    expect(types(answer)).toBe('2DCZ');
    expect(answer[1]?.bytes.toString('latin1')).toContain('left');
    const third = await rawClient();
    third.send(bind('', ''), execute(), sync);
    expect(errorOf(await third.answer())?.C).toBe('26000');
  });

  test('DISCARD ALL of one client leaves the statements of others', async () => {
    const [left, right] = [await rawClient(), client()];
    left.send(parse('kept', 'SELECT 7'), sync);
    await left.answer();
    await right`DISCARD ALL`.simple();
    left.send(bind('', 'kept'), execute(), sync);
    expect(types(await left.answer())).toBe('2DCZ');
  });
});

group('across sessions', () => {
  test('an advisory lock excludes the other clients until it is released', async () => {
    const [left, right] = [client(), client()];
    const attempt = () => right`SELECT pg_try_advisory_lock(42)`;
    await left`SELECT pg_advisory_lock(42)`;
    expect(await attempt()).toEqual([{ pg_try_advisory_lock: false }]);
    expect(await right`SELECT pg_try_advisory_lock(43)`).toEqual([{ pg_try_advisory_lock: true }]);
    await right`SELECT pg_advisory_unlock(43)`;
    const order: string[] = [];
    const waiting = right`SELECT pg_advisory_lock(42)`.then(() => order.push('right has it'));
    await left`SELECT pg_sleep(0.1)`;
    order.push('left lets go');
    await left`SELECT pg_advisory_unlock(42)`;
    await waiting;
    expect(order).toEqual(['left lets go', 'right has it']);
    await right.end();
    expect(await left`SELECT pg_try_advisory_lock(42)`).toEqual([{ pg_try_advisory_lock: true }]);
    await left`SELECT pg_advisory_unlock_all()`;
  });

  test('LISTEN is refused, alone or among other statements; NOTIFY and UNLISTEN do nothing', async () => {
    const sql = client();
    for (const text of ['LISTEN news', 'SELECT 1; LISTEN "news"']) {
      await expect(sql.unsafe(text)).rejects.toMatchObject({ code: '0A000' });
    }
    await expect(sql.unsafe('LISTEN news', [], { prepare: true })).rejects.toMatchObject({ code: '0A000' });
    await sql.notify('news', 'hello');
    await sql.unsafe('UNLISTEN *');
    expect(await sql`SELECT 'listen' AS word`).toEqual([{ word: 'listen' }]);
  });

  test('concurrent indexes are made and dropped, and refused in a transaction', async () => {
    const sql = client();
    await sql`CREATE TABLE indexed (n int)`;
    await sql`CREATE INDEX CONCURRENTLY indexed_n ON indexed (n)`;
    expect(await sql`SELECT indisvalid FROM pg_index WHERE indexrelid = 'indexed_n'::regclass`).toEqual([
      { indisvalid: true },
    ]);
    await sql`DROP INDEX CONCURRENTLY indexed_n`;
    await expect(
      sql.begin((transaction) => transaction`CREATE INDEX CONCURRENTLY again ON indexed (n)`),
    ).rejects.toMatchObject({ code: '25001' });
    await sql`DROP TABLE indexed`;
  });

  test('a running statement is cancelled, its transaction is aborted and the client goes on', async () => {
    const onBegin = vi.fn();
    const [sql, bystander] = [client({ onnotice: onBegin }), client()];
    await bystander`SELECT 1`;
    await sql`CREATE TABLE kept (n int)`;
    const running = sql.unsafe("DO $$ BEGIN RAISE NOTICE 'begun'; PERFORM pg_sleep(60); END $$").execute();
    onBegin.mockImplementation(() => running.cancel());
    await expect(running).rejects.toMatchObject({ code: '57014' });
    expect(await sql`SELECT count(*)::int AS n FROM kept`).toEqual([{ n: 0 }]);
    expect(await bystander`SELECT 1 AS one`).toEqual([{ one: 1 }]);
  });

  test('statement_timeout ends a statement', async () => {
    const sql = client({ connection: { statement_timeout: 200 } });
    await expect(sql`SELECT pg_sleep(30)`).rejects.toMatchObject({ code: '57014' });
    expect(await sql`SELECT 1 AS one`).toEqual([{ one: 1 }]);
  });

  test('an instance that crashes ends its clients, and has all that was committed afterwards', async () => {
    const sql = client();
    await sql`CREATE TABLE survivor AS SELECT generate_series(1, 1000) AS n`;
    const doomed = await rawClient();
    // The build's own device throws where nothing was attached to it, in the midst of a statement.
    doomed.send(query("BEGIN; DELETE FROM survivor; COPY survivor FROM '/dev/blob'"));
    expect(errorOf(await doomed.answer('E'))).toMatchObject({ S: 'FATAL', C: '57P02' });
    expect(await doomed.next()).toBeUndefined();
    const again = client();
    expect(await again`SELECT count(*)::int AS n FROM survivor`).toEqual([{ n: 1000 }]);
  });
});
