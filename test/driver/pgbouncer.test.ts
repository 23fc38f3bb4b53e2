// Behind PgBouncer in transaction mode: everything at run time works; migrations ask for the server itself.
import { eq } from 'drizzle-orm';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { users } from '../../schema/core.ts';
import { createPlainTracking } from '../../scripts/simulation/plain-tracking.ts';
import { authenticate, createUser, issueToken, verifyToken } from '../../src/auth/index.ts';
import { parseDatabaseUrl } from '../../src/driver/database-url.ts';
import { createDatabasePool, type DatabaseKey, type Pool, withTransaction } from '../../src/index.ts';
import { migrate } from '../../src/migrations/index.ts';
import { requireUsers } from '../../src/references/index.ts';
import {
  createLocationWriter,
  getRecentLocations,
  importLocations,
  recordLocations,
} from '../../src/tracking/index.ts';
import { environmentFor, runCli } from '../support/cli.ts';
import { describeWith, emptyDatabase, migratedDatabase, serverUrl } from '../support/database.ts';
import { failure } from '../support/failure.ts';
import { type PgBouncer, startPgBouncer } from '../support/pgbouncer.ts';
import { point, track } from '../support/tracking-points.ts';

describeWith(['pgbouncer'], 'behind PgBouncer in transaction mode', () => {
  let bouncer: PgBouncer;
  const pools: Pool[] = [];
  const pool = <Key extends DatabaseKey>(database: Key, direct: string) => {
    const opened = createDatabasePool({ key: database, connectionString: proxied(direct), max: 20 });
    pools.push(opened);
    return opened;
  };
  const proxied = (direct: string) => bouncer.url(parseDatabaseUrl(direct, 'direct').database);

  beforeAll(async () => {
    bouncer = await startPgBouncer(serverUrl('core', 'postgres'), 3);
  });
  afterAll(async () => {
    for (const opened of pools) await opened.close();
    await bouncer?.stop();
  });

  test('twenty clients share three sessions: query, the tag, Drizzle, cursors, COPY, transactions', async () => {
    const db = pool('core', await migratedDatabase('core'));
    const work = Array.from({ length: 60 }, async (_, n) => {
      const email = `person-${n}@example.com`;
      const [user] = await db.orm.insert(users).values({ email, passwordHash: 'x', name: 'P' }).returning();
      const id = user?.id ?? '';
      expect(await db.orm.select({ id: users.id }).from(users).where(eq(users.email, email))).toEqual([
        { id },
      ]);
      expect(await db.sql`SELECT id FROM users WHERE email = ${email}`).toMatchObject([{ id }]);
      expect((await db.query('SELECT $1::int[] AS list', [[n, n]])).rows).toEqual([{ list: [n, n] }]);
      const seen = await withTransaction(db, async (transaction) => {
        const [one] = (await transaction.query('SELECT pg_backend_pid() AS pid')).rows;
        await withTransaction(transaction, (savepoint) =>
          savepoint.query('UPDATE users SET name = $1 WHERE id = $2', [`P${n}`, id]),
        );
        const [two] = (await transaction.query('SELECT pg_backend_pid() AS pid')).rows;
        expect(two).toEqual(one);
        return one?.pid;
      });
      const counted: number[] = [];
      for await (const rows of db.sql<{ n: number }[]>`SELECT generate_series(1, 5) AS n`.cursor(2)) {
        counted.push(...rows.map((row) => row.n));
      }
      expect(counted).toEqual([1, 2, 3, 4, 5]);
      return seen;
    });
    const sessions = new Set(await Promise.all(work));
    expect(sessions.size).toBeLessThanOrEqual(3);
    expect((await db.query('SELECT 1 FROM pg_prepared_statements')).rowCount).toBe(0);
  });

  test('logins, tokens and references', async () => {
    const db = pool('core', await migratedDatabase('core'));
    const credentials = { email: 'who@example.com', password: 'a long password' };
    const user = await createUser(db, { ...credentials, name: 'W' });
    expect(await authenticate(db, credentials)).toMatchObject({ ok: true, user: { id: user.id } });
    const { token } = await issueToken(db, { userId: user.id, type: 'access' });
    expect(await verifyToken(db, token, 'access')).toMatchObject({ userId: user.id });
    expect(await requireUsers(db, [user.id])).toEqual([user.id]);
  });

  test('points by arrays, by COPY, imported, and by the writer, once each though sessions end', async () => {
    const url = await emptyDatabase('atriz');
    await using direct = createDatabasePool({ connectionString: url, max: 2 });
    await createPlainTracking(direct);
    const db = pool('tracking', url);
    const single = point();
    await recordLocations(db, [single]);
    await recordLocations(db, track(2_000));
    expect(await getRecentLocations(db, single.deviceId)).toHaveLength(1);
    const imported = point();
    expect(await importLocations(db, [imported])).toMatchObject({ loaded: 1 });
    expect(await getRecentLocations(db, imported.deviceId)).toHaveLength(1);

    await direct.query('TRUNCATE location_events');
    const writer = createLocationWriter(db, { retryDelayMs: { min: 5, max: 50 }, batchSize: 1_500 });
    const events = track(20_000, 200);
    const written = Promise.all(events.map((event) => writer.write(event)));
    for (let ended = 0; ended < 3; ) {
      const { rows } = await direct.query(
        `SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND pid <> pg_backend_pid() AND query ~ 'COPY|location_writers' LIMIT 1`,
      );
      if (rows.length > 0 || writer.stats.pending === 0) ended += 1;
    }
    await written;
    await writer.close();
    const { rows } = await direct.query<{ n: number }>(
      "SELECT (metadata->>'n')::int AS n FROM location_events ORDER BY n",
    );
    expect(rows.map(({ n }) => n)).toEqual(events.map((_, n) => n));
  });

  test('migrations say that they need the URL of the server itself', async () => {
    const url = await emptyDatabase('core');
    expect(await failure(migrate(pool('core', url), 'core'))).toMatchObject({
      name: 'ConfigurationError',
      message: expect.stringContaining("migrations need the server's own URL"),
    });
    const cli = await runCli(['migrate', 'core'], environmentFor('core', proxied(url)));
    expect(cli).toMatchObject({ code: 2, stderr: expect.stringContaining("the server's own URL") });
  });
});
