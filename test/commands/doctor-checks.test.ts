// The checks of the doctor that every PostgreSQL knows: each finding provoked, its mend applied, and gone.
import { randomUUID } from 'node:crypto';
import { describe, expect, test, vi } from 'vitest';
import { thresholds } from '../../scripts/doctor/thresholds.ts';
import { createDatabasePool } from '../../src/index.ts';
import { isOlder } from '../../src/timescale/timescale.ts';
import { runCli } from '../support/cli.ts';
import { uniqueRolePrefix } from '../support/database.ts';
import { applyMends, doctor, examine, patient, takeOver } from '../support/doctor.ts';
import { failure } from '../support/failure.ts';
import { startOwnServer } from '../support/own-server.ts';

const { db, environment } = await patient('core');
const find = (name: string, others?: Parameters<typeof examine>[3]) => examine(db, 'core', name, others);
const warned = { severity: 'warning' };

/** Applies the mends, and looks again. */
async function mended(name: string, others?: Parameters<typeof examine>[3]) {
  await applyMends(db, await find(name, others));
  return find(name, others);
}

test('a time zone that is not UTC', async () => {
  await db.query(`ALTER DATABASE "${db.name}" SET timezone TO 'Europe/Madrid'`);
  const { code, findings } = await doctor(environment, 'core');
  expect(code).toBe(3);
  expect(findings).toMatchObject([
    {
      check: 'time-zone',
      reason: expect.stringContaining('Europe/Madrid'),
      mend: `ALTER DATABASE "${db.name}" SET timezone TO 'UTC'`,
    },
  ]);
  await applyMends(db, findings);
  expect((await doctor(environment, 'core')).code).toBe(0);
});

test('settings that change values', async () => {
  takeOver(environment);
  try {
    await db.query(`ALTER DATABASE "${db.name}" SET datestyle TO 'SQL', 'DMY'`);
    await db.query(`ALTER DATABASE "${db.name}" SET bytea_output TO 'escape'`);
    expect(await find('session-settings')).toMatchObject([
      { ...warned, reason: expect.stringContaining('escape') },
      {
        ...warned,
        reason: expect.stringContaining('SQL, DMY'),
        mend: `ALTER DATABASE "${db.name}" SET datestyle TO 'ISO', 'MDY'`,
      },
    ]);
    expect(await mended('session-settings')).toEqual([]);
  } finally {
    vi.unstubAllEnvs();
  }
});

test('of several hosts, the one that answers is asked', async () => {
  const url = new URL(environment.SHARED_DATABASE_URL ?? '');
  await db.query(`ALTER DATABASE "${db.name}" SET timezone TO 'Europe/Madrid'`);
  takeOver({ SHARED_DATABASE_URL: url.href.replace(url.host, `127.0.0.1:1,${url.host}`) });
  try {
    expect(await find('time-zone')).toMatchObject([{ reason: expect.stringContaining('Europe/Madrid') }]);
    expect(await mended('time-zone')).toEqual([]);
  } finally {
    vi.unstubAllEnvs();
  }
});

test('a time zone of a role, in all databases or in this one', async () => {
  const role = `${uniqueRolePrefix()}clerk`;
  await db.query(`CREATE ROLE ${role} LOGIN PASSWORD 'x'`);
  const url = new URL(environment.SHARED_DATABASE_URL ?? '');
  [url.username, url.password] = [role, 'x'];
  takeOver({ SHARED_DATABASE_URL: url.href });
  try {
    const alter = `ALTER ROLE "${role}"`;
    for (const where of ['', ` IN DATABASE "${db.name}"`]) {
      await db.query(`${alter}${where} SET timezone TO 'Asia/Tokyo'`);
      const findings = await find('time-zone');
      expect(findings).toMatchObject([
        {
          severity: 'error',
          reason: expect.stringContaining('Asia/Tokyo'),
          mend: `${alter}${where} RESET timezone`,
        },
      ]);
      await applyMends(db, findings);
      expect(await find('time-zone')).toEqual([]);
    }
  } finally {
    vi.unstubAllEnvs();
  }
});

describe('extensions', () => {
  test('that are older than what the server has', async () => {
    await db.query("CREATE EXTENSION hstore VERSION '1.4'");
    expect(await find('extensions')).toMatchObject([
      {
        ...warned,
        reason: expect.stringContaining('hstore is 1.4'),
        mend: 'ALTER EXTENSION "hstore" UPDATE',
      },
    ]);
    expect(await mended('extensions')).toEqual([]);
    await db.query('DROP EXTENSION hstore');
  });

  test('that are too old for this package, or that the server does not have', async () => {
    const oldestExtension = { plpgsql: '99.1' };
    expect(await find('extensions', { oldestExtension })).toMatchObject([
      {
        severity: 'error',
        reason: 'plpgsql is 1.0: this package needs 99.1 or newer',
        mend: 'ALTER EXTENSION "plpgsql" UPDATE',
        note: 'install plpgsql 99.1 or newer on the server first',
      },
    ]);
    expect([isOlder('2.9.4', '2.23'), isOlder('2.23.0-dev', '2.23'), isOlder('3', '2.23')]).toEqual([
      true,
      false,
      false,
    ]);
    const { rowCount } = await db.query("SELECT 1 FROM pg_available_extensions WHERE name = 'timescaledb'");
    const missing = {
      severity: 'error',
      reason: 'the server offers no timescaledb',
      mend: expect.stringMatching(/^npm run dev, or a server with timescaledb/),
    };
    expect(await examine(db, 'tracking', 'extensions')).toEqual(rowCount === 0 ? [missing] : []);
  });

  test('of a version with a known hole, and which version closes it', async () => {
    expect(await find('known-holes', { knownHoles: [] })).toEqual([]);
    const hole = { extension: 'plpgsql', id: 'GHSA-0', risk: 'everybody reads everything' };
    expect(await find('known-holes', { knownHoles: [{ ...hole, closedIn: '1.0' }] })).toEqual([]);
    const open = { ...hole, closedIn: '99.1' };
    expect(await find('known-holes', { knownHoles: [open, { ...open, id: 'GHSA-1' }] })).toMatchObject([
      {
        ...warned,
        reason: expect.stringMatching(
          /^plpgsql 1.0 has a known hole, closed in 99.1: everybody reads everything \(GHSA-0\); .*\(GHSA-1\)$/,
        ),
        mend: 'ALTER EXTENSION "plpgsql" UPDATE',
        note: expect.stringContaining('install plpgsql 99.1 or newer'),
      },
    ]);
  });
});

describe('indexes', () => {
  test('a foreign key without one', async () => {
    await db.query(
      'CREATE TABLE visits (id int PRIMARY KEY, user_id uuid CONSTRAINT visits_fk REFERENCES users, role_id uuid REFERENCES roles)',
    );
    await db.query('CREATE INDEX ON visits (role_id, id)');
    expect(await find('foreign-keys')).toMatchObject([
      { ...warned, mend: 'CREATE INDEX CONCURRENTLY ON public.visits (user_id)' },
    ]);
    expect(await mended('foreign-keys')).toEqual([]);
  });

  test('two that say the same; other orders, conditions and uniqueness are something else', async () => {
    await db.query('CREATE INDEX twin ON visits (user_id)');
    await db.query('CREATE INDEX ON visits (user_id DESC)');
    await db.query('CREATE INDEX ON visits (user_id) WHERE id > 0');
    await db.query('CREATE INDEX twin_of_key ON visits (id)');
    expect((await find('duplicate-indexes')).map(({ mend }) => mend)).toEqual([
      'DROP INDEX CONCURRENTLY public.twin_of_key',
      'DROP INDEX CONCURRENTLY public.twin',
    ]);
    expect(await mended('duplicate-indexes')).toEqual([]);
  });

  test('one that was left invalid', async () => {
    await db.query('CREATE TABLE doubles (id int); INSERT INTO doubles VALUES (1), (1)');
    await failure(db.query('CREATE UNIQUE INDEX CONCURRENTLY broken ON doubles (id)'));
    expect(await find('invalid-indexes')).toMatchObject([
      {
        severity: 'error',
        mend: 'REINDEX INDEX CONCURRENTLY public.broken',
        note: expect.stringContaining('DROP INDEX'),
      },
    ]);
    await db.query('DELETE FROM doubles');
    expect(await mended('invalid-indexes')).toEqual([]);
  });

  test('one that nothing reads, once the statistics are old and the table is large', async () => {
    await db.query('CREATE TABLE read_by_nobody (id int, n int)');
    await db.query('INSERT INTO read_by_nobody SELECT n, n FROM generate_series(1, 1000) AS n');
    await db.query('CREATE INDEX unused ON read_by_nobody (n)');
    await db.query('ANALYZE read_by_nobody');
    const large = { rows: 1_000, bytes: 8_192, statisticsFor: 0 };
    expect(await find('unused-indexes', { unusedIndex: large })).toMatchObject([
      { ...warned, mend: 'DROP INDEX CONCURRENTLY "public"."unused"' },
    ]);
    for (const unusedIndex of [
      { ...large, rows: 1_001 },
      { ...large, bytes: 10_000_000 },
      { ...large, statisticsFor: 10_000_000_000 },
    ]) {
      expect(await find('unused-indexes', { unusedIndex })).toEqual([]);
    }
    expect(await mended('unused-indexes', { unusedIndex: large })).toEqual([]);
  });
});

test('dead rows that nobody vacuums', async () => {
  await db.query('CREATE TABLE bloated (id int) WITH (autovacuum_enabled = false)');
  // One connection, whose statistics are there once it is closed.
  {
    await using writer = db.dedicated();
    await writer.query('INSERT INTO bloated SELECT generate_series(1, 20000)');
    await writer.query('DELETE FROM bloated WHERE id <= 15000');
  }
  await expect
    .poll(() => find('bloat'))
    .toMatchObject([
      {
        ...warned,
        reason: expect.stringMatching(/15,000 dead rows.*never vacuumed/),
        mend: 'VACUUM (ANALYZE) public.bloated',
      },
    ]);
  await applyMends(db, await find('bloat'));
  await expect.poll(() => find('bloat')).toEqual([]);
});

test('expired tokens, which db:purge-tokens removes', async () => {
  const userId = randomUUID();
  await db.query(
    "INSERT INTO users (id, email, password_hash, name) VALUES ($1, 'a@example.com', 'x', 'A')",
    [userId],
  );
  await db.query(
    `INSERT INTO auth_tokens (user_id, token_type, token_hash, expires_at, created_at)
     SELECT $1, 'access', lpad(n::text, 64, 'a'), now() - interval '1 day', now() - interval '2 days' FROM generate_series(1, 3) AS n`,
    [userId],
  );
  const tokens = { expired: 2 };
  expect(await find('tokens', { tokens })).toMatchObject([{ ...warned, mend: 'npm run db:purge-tokens' }]);
  expect(await find('tokens', { tokens: { expired: 3 } })).toEqual([]);
  expect((await runCli(['purge-tokens'], environment)).code).toBe(0);
  expect(await find('tokens', { tokens })).toEqual([]);
});

test('rows of people whom core does not know', async () => {
  const app = await patient('atriz');
  const userId = randomUUID();
  await app.db.query("INSERT INTO user_preferences (user_id, key, value) VALUES ($1, 'theme', '1')", [
    userId,
  ]);
  const { code, findings } = await doctor(app.environment, 'atriz');
  expect({ code, findings }).toMatchObject({
    code: 3,
    findings: [
      {
        check: 'orphans',
        reason: '1 row of user_preferences.user_id names 1 user whom atriz_core does not know',
        mend: `npm run db:erase-user -- ${userId}`,
      },
    ],
  });
  await app.db.query('DELETE FROM user_preferences');
  expect((await doctor(app.environment, 'atriz')).code).toBe(0);
});

describe('transactions', () => {
  const at = (seconds: number) => ({
    transactions: { idleFor: seconds, activeFor: seconds, preparedFor: seconds },
  });

  test('that are open for long', async () => {
    const session = db.dedicated();
    try {
      await session.query('BEGIN');
      await session.query('SELECT 1');
      expect(await find('transactions')).toEqual([]);
      const findings = await find('transactions', at(0));
      expect(findings).toMatchObject([
        {
          ...warned,
          reason: expect.stringContaining('idle in transaction of'),
          mend: expect.stringMatching(/^SELECT pg_terminate_backend\(\d+\)$/),
        },
      ]);
      await applyMends(db, findings);
      await expect.poll(() => find('transactions', at(0))).toEqual([]);
    } finally {
      await session.close();
    }
  });

  test('that run for long', async () => {
    const session = db.dedicated();
    try {
      // The questions of a first connection are active too, for a moment.
      await session.query('SELECT 1');
      const working = failure(session.query('SELECT pg_sleep(60)'));
      const active = () => find('transactions', { transactions: { ...at(0).transactions, idleFor: 3_600 } });
      await expect.poll(async () => (await active()).length).toBe(1);
      const findings = await active();
      expect(findings).toMatchObject([
        {
          ...warned,
          reason: expect.stringContaining('active of'),
          mend: expect.stringMatching(/^SELECT pg_terminate_backend\(\d+\)$/),
        },
      ]);
      expect(await find('transactions')).toEqual([]);
      await applyMends(db, findings);
      expect(await working).toBeInstanceOf(Error);
      await expect.poll(active).toEqual([]);
    } finally {
      await session.close();
    }
  });

  test('whose ids grow old', async () => {
    for (let count = 0; count < 3; count += 1) await db.query('CREATE TABLE burnt (); DROP TABLE burnt');
    const at = (warnAt: number, errorAt: number) => find('wraparound', { wraparound: { warnAt, errorAt } });
    expect(await at(1, 2 ** 31)).toMatchObject([{ ...warned, mend: 'VACUUM (FREEZE)' }]);
    expect(await at(1, 2)).toMatchObject([{ severity: 'error' }]);
    expect(await find('wraparound')).toEqual([]);
    // Frozen now, the oldest is younger than it was.
    const age = Number(
      /is ([\d,]+) transactions old/.exec((await at(1, 2))[0]?.reason ?? '')?.[1]?.replaceAll(',', ''),
    );
    await applyMends(db, await at(age, 2 ** 31));
    expect(await at(age, 2 ** 31)).toEqual([]);
  });
});

describe('on a server of its own', () => {
  test('connections near the limit, and a prepared transaction that nobody ends', async () => {
    const server = await startOwnServer();
    try {
      const open = () => createDatabasePool({ connectionString: server.url, max: 12 });
      {
        await using admin = open();
        await admin.query('ALTER SYSTEM SET max_prepared_transactions = 2');
        await admin.query('ALTER SYSTEM SET superuser_reserved_connections = 85');
      }
      await server.crashAndRestart();
      await using own = open();
      const look = (name: string, others?: Parameters<typeof examine>[3]) =>
        examine(own, 'core', name, others);
      expect(await look('connections')).toEqual([]);
      const sessions = Array.from({ length: 11 }, () => own.dedicated());
      await Promise.all(sessions.map((session) => session.query('SELECT 1')));
      expect(await look('connections')).toMatchObject([
        {
          ...warned,
          reason: expect.stringContaining('12 of 15 connections'),
          mend: 'ALTER SYSTEM SET max_connections = 200',
        },
      ]);
      const { connections } = thresholds;
      expect(await look('connections', { connections: { ...connections, errorAt: 0.8 } })).toMatchObject([
        { severity: 'error' },
      ]);

      await Promise.all(sessions.map((session) => session.close()));

      {
        await using session = own.dedicated();
        await session.query('BEGIN; CREATE TABLE forgotten ()');
        await session.query("PREPARE TRANSACTION 'it''s mine'");
      }
      const others = { transactions: { ...thresholds.transactions, preparedFor: 0 } };
      const findings = await look('transactions', others);
      expect(findings).toMatchObject([{ ...warned, mend: "ROLLBACK PREPARED 'it''s mine'" }]);
      await applyMends(own, findings);
      expect(await look('transactions', others)).toEqual([]);
    } finally {
      await server.stop();
    }
  });
});
