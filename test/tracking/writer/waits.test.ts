// What a writer waits for instead of losing events: everything but what the server says of their values.
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, beforeEach, describe, expect, onTestFinished, test } from 'vitest';
import { createDatabasePool, type Pool } from '../../../src/pool.ts';
import { createLocationWriter, type LocationInput } from '../../../src/tracking/index.ts';
import { uniqueRolePrefix } from '../../support/database.ts';
import { failure } from '../../support/failure.ts';
import { expiredCertificate, startTlsProxy, validCertificate } from '../../support/tls-proxy.ts';
import { plainTracking } from '../../support/tracking.ts';
import { point, track } from '../../support/tracking-points.ts';

describe('a writer waits', () => {
  let db: Pool;
  let url: string;
  let role: string;
  beforeAll(async () => {
    ({ db, url } = await plainTracking({ max: 2 }));
    role = `${uniqueRolePrefix()}writer`;
    await db.query(
      `CREATE ROLE "${role}" LOGIN PASSWORD 'secret'; GRANT ALL ON ALL TABLES IN SCHEMA public TO "${role}"`,
    );
  });
  beforeEach(() => db.query('TRUNCATE location_events, location_writers'));
  // A role that still has rights here could not be dropped.
  afterAll(() => db.query(`DROP OWNED BY "${role}"`));

  const stored = async () =>
    (
      await db.query<{ n: number }>("SELECT (metadata->>'n')::int AS n FROM location_events ORDER BY n")
    ).rows.map(({ n }) => n);
  const urlOf = (from: string) => {
    const own = new URL(from);
    own.username = role;
    own.password = 'secret';
    return own.href;
  };
  const quick = { connections: 1, retryDelayMs: { min: 10, max: 40 } };

  /** Writes 50 events while something is broken, mends it after a few attempts, and expects all of them. */
  async function survives(pool: Pool, mend: () => unknown) {
    const codes: unknown[] = [];
    const writer = createLocationWriter(pool, {
      ...quick,
      onRetry: ({ error }) => codes.push((error as { code?: unknown }).code),
    });
    const events = track(50);
    const all = Promise.all(events.map((event) => writer.write(event)));
    while (codes.length < 3) await sleep(5);
    await mend();
    await all;
    expect(await stored()).toEqual(events.map((_, n) => n));
    expect(writer.stats).toMatchObject({ written: 50, rejected: 0, pending: 0 });
    await writer.close();
    return codes[0];
  }

  test.each([
    // A server that trusts its clients asks for no password.
    ['a login', '28000', 'ALTER ROLE $role NOLOGIN', 'ALTER ROLE $role LOGIN'],
    [
      'a right',
      '42501',
      'REVOKE INSERT ON location_events FROM $role',
      'GRANT INSERT ON location_events TO $role',
    ],
    [
      'a right to its own table',
      '42501',
      'REVOKE ALL ON location_writers FROM $role',
      'GRANT ALL ON location_writers TO $role',
    ],
    [
      'a table',
      '42P01',
      'ALTER TABLE location_events RENAME TO away',
      'ALTER TABLE away RENAME TO location_events',
    ],
    [
      'a column',
      '42703',
      'ALTER TABLE location_events RENAME speed TO kmh',
      'ALTER TABLE location_events RENAME kmh TO speed',
    ],
    [
      'a default of a column that no event has',
      '23502',
      'ALTER TABLE location_events ADD tenant int NOT NULL',
      'ALTER TABLE location_events DROP tenant',
    ],
    [
      'the mend of a constraint on its own table',
      '23514',
      'ALTER TABLE location_writers ADD CONSTRAINT wrong CHECK (last_batch < 1) NOT VALID',
      'ALTER TABLE location_writers DROP CONSTRAINT wrong',
    ],
  ])('for %s (%s)', async (_, code, breaks, mends) => {
    const pool = createDatabasePool({ connectionString: urlOf(url), max: 2 });
    onTestFinished(() => pool.close());
    const run = (text: string) => db.query(text.replace('$role', `"${role}"`));
    await run(breaks);
    expect(await survives(pool, () => run(mends))).toBe(code);
  });

  test('for a certificate', async () => {
    const proxy = await startTlsProxy(url, expiredCertificate);
    const pool = createDatabasePool({
      connectionString: proxy.url,
      ssl: { ca: [expiredCertificate, validCertificate], rejectUnauthorized: true },
      max: 2,
    });
    onTestFinished(async () => {
      await pool.close();
      await proxy.stop();
    });
    expect(await survives(pool, () => proxy.use(validCertificate))).toBe('CERT_HAS_EXPIRED');
  });

  test('but not for a pool that its owner closed', async () => {
    const pool = createDatabasePool({ connectionString: url, max: 2 });
    const writer = createLocationWriter(pool, quick);
    await writer.write(point());
    await pool.close();
    expect(await failure(writer.write(point()))).toMatchObject({ code: 'CONNECTION_ENDED' });
    await writer.close();
  });

  test.each([
    ['the server cancels', { statementTimeoutMs: 500 }, {}],
    ['no answer comes', {}, { attemptTimeoutMs: 1_000 }],
  ])('for no batch that is too much at once: %s', async (_, poolOptions, options) => {
    await db.query(
      `CREATE FUNCTION slow() RETURNS trigger LANGUAGE plpgsql AS
         'BEGIN IF (SELECT count(*) FROM added) > 250 THEN PERFORM pg_sleep(20); END IF; RETURN NULL; END';
       CREATE TRIGGER slow AFTER INSERT ON location_events
         REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION slow()`,
    );
    const pool = createDatabasePool({ connectionString: url, max: 2, ...poolOptions });
    onTestFinished(async () => {
      await db.query('DROP TRIGGER slow ON location_events; DROP FUNCTION slow');
      await pool.close();
    });
    const writer = createLocationWriter(pool, { ...quick, ...options });
    // Enough for a COPY, whose halves are single statements.
    const events: LocationInput[] = track(500);
    await Promise.all(events.map((event) => writer.write(event)));
    expect(await stored()).toEqual(events.map((_, n) => n));
    expect(writer.stats).toMatchObject({ written: 500, rejected: 0 });
    expect(writer.stats.batches).toBeGreaterThan(1);
    await writer.close();
  });
});
