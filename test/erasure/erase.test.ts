// eraseUser and db:erase-user: what goes, what stays, what is refused.
import { randomUUID } from 'node:crypto';
import { beforeAll, expect, test } from 'vitest';
import { erasedUserId } from '../../schema/erasure.ts';
import { keptName } from '../../scripts/backup/restore/new-database.ts';
import { type DatabaseKey, databaseKeys, definitionOf } from '../../src/databases.ts';
import { ConnectionError, createDatabasePool, ValidationError } from '../../src/index.ts';
import { NotMigratedError } from '../../src/migrations/index.ts';
import { eraseUser, requireUser } from '../../src/references/index.ts';
import {
  addPeople,
  bystander,
  openPools,
  type Pools,
  refresh,
  rowsLeft,
  userIdOf,
} from '../references/people.ts';
import { runCli } from '../support/cli.ts';
import { describeWith, emptyDatabase, maintain, openPool } from '../support/database.ts';

const none = { graceMs: 0 };
let nextPerson = 0;
/** A person whom no other test touches. */
const someone = () => {
  nextPerson += 1;
  return { person: nextPerson, userId: userIdOf(nextPerson) };
};

describeWith(['timescaledb'], 'erasing a person', () => {
  let pools: Pools;
  let urls: Record<DatabaseKey, string>;
  let before: string[];
  beforeAll(async () => {
    ({ pools, urls } = await openPools());
    await addPeople(pools, 12);
    before = await rowsLeft(pools, bystander);
  });
  const cli = (...args: string[]) =>
    runCli(args, Object.fromEntries(databaseKeys.map((key) => [definitionOf(key).urlVariable, urls[key]])));

  test('leaves what others need, without them, and takes nothing from others', async () => {
    const { person, userId } = someone();
    const planned = await eraseUser(pools, userId, { dryRun: true });
    expect(await requireUser(pools.core, userId)).toBe(userId);
    const done = await eraseUser(pools, userId.toUpperCase(), none);
    // A dry run counts what is there: the real one changes exactly that.
    const { isDryRun, relations, ...totals } = planned;
    expect(done).toMatchObject({ ...totals, isDryRun: false });
    const byRule = (one: object, other: object) => JSON.stringify(one).localeCompare(JSON.stringify(other));
    expect([...done.relations].sort(byRule)).toEqual([...relations].sort(byRule));
    expect(isDryRun).toBe(true);
    const counts = done.relations.map(
      ({ database, relation, action, rows }) => `${database} ${relation} ${action} ${rows}`,
    );
    expect(counts).toEqual([
      'tracking location_events delete 9',
      'tracking location_hourly delete 3',
      'atriz user_preferences delete 1',
      'atriz user_profiles delete 1',
      'mextrack vehicle_assignments delete 1',
      'mextrack drivers delete 1',
      'mextrack vehicles anonymise 1',
      'pshop deliveries anonymise 1',
      'pshop deliveries anonymise 1',
      'pshop orders anonymise 1',
      'pshop products anonymise 1',
      'core login_attempts delete 1',
      'core login_attempts delete 1',
      'core auth_tokens delete 1',
      'core user_roles delete 1',
      'core user_metadata delete 1',
      'core users delete 1',
    ]);
    const left = await rowsLeft(pools, person);
    expect(left.map((row) => row.split(' ')[0])).toEqual([
      'vehicle_assignments',
      'vehicles',
      'deliveries',
      'deliveries',
      'order_items',
      'order_items',
      'orders',
      'products',
    ]);
    expect(left.join()).not.toMatch(/0e000000-0000-4000-8000-N|her street|Her van|by her|P-\d/);
    expect(left.filter((row) => row.includes(erasedUserId))).toHaveLength(4);
    expect(await rowsLeft(pools, bystander)).toEqual(before);
    expect(await eraseUser(pools, userId, none)).toMatchObject({ rows: 0 });
    await refresh(pools.tracking);
    expect(await rowsLeft(pools, person)).toEqual(left);
  });

  test('reaches hours whose raw points are gone, in compressed chunks of the aggregate too', async () => {
    const { person, userId } = someone();
    const { tracking } = pools;
    const hours = async () =>
      (await rowsLeft({ tracking }, person)).filter((row) => row.startsWith('location_hourly'));
    await tracking.query("SELECT drop_chunks('location_events', older_than => interval '13 days')");
    await tracking.query('ALTER MATERIALIZED VIEW location_hourly SET (timescaledb.compress = true)');
    const compressed = await tracking.query(
      "SELECT compress_chunk(chunk) FROM show_chunks('location_hourly') AS chunk",
    );
    expect(compressed.rowCount).toBeGreaterThan(0);
    expect(await hours()).toHaveLength(3);
    await eraseUser(pools, userId, none);
    expect(await hours()).toEqual([]);
    before = await rowsLeft(pools, bystander);
  });

  test('is not stopped by the limit on decompressed rows', async () => {
    const { userId } = someone();
    const tracking = openPool('tracking', urls.tracking, { max: 1 });
    await tracking.query('SET timescaledb.max_tuples_decompressed_per_dml_transaction = 1');
    try {
      // Not a DELETE: since 2.29 that removes whole batches without decompressing them.
      await expect(
        tracking.query('UPDATE location_events SET speed = 0 WHERE user_id = $1', [userId]),
      ).rejects.toThrow('tuple decompression limit exceeded');
      await eraseUser({ ...pools, tracking }, userId, none);
    } finally {
      await tracking.query('RESET timescaledb.max_tuples_decompressed_per_dml_transaction');
    }
    expect(await eraseUser(pools, userId, none)).toMatchObject({ rows: 0 });
  });

  test('works by id when the row in core is gone already', async () => {
    const { person, userId } = someone();
    await pools.core.query('DELETE FROM users WHERE id = $1', [userId]);
    const report = await eraseUser(pools, userId, { graceMs: 3_600_000 });
    expect(report.rows).toBeGreaterThan(10);
    expect((await rowsLeft(pools, person)).join()).not.toContain('0e000000-0000-4000-8000-N');
  });

  test('an e-mail that was changed or deleted before leaves no counters under its hash', async () => {
    const { core } = pools;
    const { person, userId } = someone();
    const counters = async (email: string) => {
      const { rows } = await core.query<{ count: number }>(
        `SELECT count(*)::int AS count FROM login_attempts
         WHERE encode(sha256(convert_to($1, 'UTF8')), 'hex') IN (subject, account)`,
        [email],
      );
      return rows[0]?.count;
    };
    const [former, now] = [`person${person}@example.com`, `renamed${person}@example.com`];
    expect(await counters(former)).toBe(2);
    await core.query('UPDATE users SET name = name, email = email WHERE id = $1', [userId]);
    expect(await counters(former)).toBe(2);
    await core.query('UPDATE users SET email = $2 WHERE id = $1', [userId, now]);
    expect(await counters(former)).toBe(0);
    await core.query(
      `INSERT INTO login_attempts (subject_type, subject, forgiven_at, expires_at)
       VALUES ('account', encode(sha256(convert_to($1, 'UTF8')), 'hex'), now(), now() + interval '90 days')`,
      [now],
    );
    await core.query('DELETE FROM users WHERE id = $1', [userId]);
    expect(await counters(now)).toBe(0);
    await eraseUser(pools, userId, none);
  });

  test('locks the person out first, and erases what services wrote before they noticed', async () => {
    const { person, userId } = someone();
    const seen: string[] = [];
    let late: Promise<unknown> = Promise.resolve();
    await eraseUser(pools, userId, {
      graceMs: 300,
      onProgress: ({ step }) => {
        seen.push(step);
        if (step !== 'wait') return;
        late = Promise.all([
          pools.atriz.query("INSERT INTO user_preferences (user_id, key, value) VALUES ($1, 'late', '1')", [
            userId,
          ]),
          // Hangs on the person's order only: nothing leads to it once the order is anonymous.
          pools.pshop
            .query(
              "INSERT INTO deliveries (order_id, address) SELECT id, 'late street' FROM orders WHERE user_id = $1",
              [userId],
            )
            .then(({ rowCount }) => expect(rowCount).toBe(1)),
          expect(requireUser(pools.core, userId)).rejects.toMatchObject({ reason: 'inactive' }),
          expect(
            pools.core.query('SELECT 1 FROM auth_tokens WHERE user_id = $1 AND revoked_at IS NULL', [userId]),
          ).resolves.toMatchObject({ rowCount: 0 }),
        ]);
      },
    });
    await late;
    expect(seen[0]).toBe('lock-out');
    expect(seen).toContain('wait');
    expect((await rowsLeft(pools, person)).join()).not.toContain('0e000000-0000-4000-8000-N');
    const { rowCount } = await pools.atriz.query('SELECT 1 FROM user_preferences WHERE user_id = $1', [
      userId,
    ]);
    expect(rowCount).toBe(0);
    expect((await pools.pshop.query("SELECT 1 FROM deliveries WHERE address = 'late street'")).rowCount).toBe(
      0,
    );
  });

  test('gives up on a service that goes on writing, and leaves the row in core', async () => {
    const { userId } = someone();
    const { atriz, core } = pools;
    await atriz.query(`
      CREATE FUNCTION write_again() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
        INSERT INTO user_preferences (user_id, key, value) VALUES (OLD.user_id, OLD.key, OLD.value); RETURN NULL; END $$;
      CREATE TRIGGER write_again AFTER DELETE ON user_preferences FOR EACH ROW EXECUTE FUNCTION write_again()`);
    try {
      await expect(eraseUser(pools, userId, none)).rejects.toThrow(
        `Rows of ${userId} are still being written`,
      );
      expect((await core.query('SELECT is_active FROM users WHERE id = $1', [userId])).rows).toEqual([
        { is_active: false },
      ]);
    } finally {
      await atriz.query('DROP FUNCTION write_again() CASCADE');
    }
    await eraseUser(pools, userId, none);
    expect(await eraseUser(pools, userId, none)).toMatchObject({ rows: 0 });
  });

  test('two erasures of one person at once both end well', async () => {
    const { userId } = someone();
    const planned = await eraseUser(pools, userId, { dryRun: true });
    const [one, other] = await Promise.all([eraseUser(pools, userId, none), eraseUser(pools, userId, none)]);
    expect(one.rows + other.rows).toBe(planned.rows);
    expect(await eraseUser(pools, userId, none)).toMatchObject({ rows: 0 });
  });

  test('what is not a user id changes nothing', async () => {
    for (const wrong of ["' OR true --", '', '*', '%', 'x'.repeat(100_000), erasedUserId]) {
      await expect(eraseUser(pools, wrong, none)).rejects.toThrow(ValidationError);
    }
    for (const graceMs of [-1, Number.NaN, 2 ** 31]) {
      await expect(eraseUser(pools, randomUUID(), { graceMs })).rejects.toThrow(ValidationError);
    }
    for (const lockTimeoutMs of [0, 0.5, 2 ** 31, Number.NaN]) {
      await expect(eraseUser(pools, randomUUID(), { lockTimeoutMs })).rejects.toThrow(ValidationError);
    }
    expect(await eraseUser(pools, randomUUID(), none)).toMatchObject({ rows: 0 });
    expect(await rowsLeft(pools, bystander)).toEqual(before);
  });

  test('nothing starts while a database is unreachable or not migrated', async () => {
    const { person, userId } = someone();
    const all = await rowsLeft(pools, person);
    await using unreachable = createDatabasePool({ connectionString: 'postgresql://u@127.0.0.1:1/pshop_db' });
    await expect(eraseUser({ ...pools, pshop: unreachable }, userId, none)).rejects.toThrow(ConnectionError);
    const empty = openPool('pshop', await emptyDatabase('pshop'));
    await expect(eraseUser({ ...pools, pshop: empty }, userId, none)).rejects.toThrow(NotMigratedError);
    expect(await rowsLeft(pools, person)).toEqual(all);
  });

  test('the command counts, asks, erases by e-mail, and says when nothing is left', async () => {
    const { person, userId } = someone();
    const email = `PERSON${person}@example.com`;
    const all = await rowsLeft(pools, person);
    const kept = keptName(pools.pshop.name, new Date());
    await maintain('pshop', `CREATE DATABASE "${kept}"`);
    const dry = await cli('erase-user', email, '--dry-run').finally(() =>
      maintain('pshop', `DROP DATABASE "${kept}"`),
    );
    expect(dry).toMatchObject({ code: 0, stderr: '' });
    expect(dry.stdout).toContain(
      `Databases that restores kept may still hold the person; drop them: "${kept}".`,
    );
    expect(dry.stdout).toContain(
      `rows of user ${userId} would be deleted or anonymised. Nothing was changed.`,
    );
    const asked = await cli('erase-user', email);
    expect(asked).toMatchObject({ code: 2, stderr: expect.stringContaining('add --yes to go on') });
    expect(await rowsLeft(pools, person)).toEqual(all);
    // What fails on the way says how to go on.
    await pools.pshop.query(
      "ALTER TABLE products ADD CONSTRAINT no_erasure CHECK (name <> 'Coffee' OR is_active) NOT VALID",
    );
    const failed = await cli('erase-user', email, '--yes', '--grace', '0');
    expect(failed).toMatchObject({
      code: 1,
      stderr: expect.stringContaining(`db:erase-user -- ${userId}" goes on`),
    });
    await pools.pshop.query('ALTER TABLE products DROP CONSTRAINT no_erasure');
    const done = await cli('erase-user', email, '--yes', '--grace', '0');
    expect(done).toMatchObject({ code: 0, stderr: '' });
    expect(done.stdout).toMatch(/core +users +id +delete +1\n/);
    expect(done.stdout).toContain(`User ${userId} is erased`);
    const again = await cli('erase-user', userId, '--yes', '--json');
    expect(again).toMatchObject({ code: 0, stderr: '' });
    expect(JSON.parse(again.stdout)).toMatchObject({ userId, rows: 0, isDryRun: false });
    expect(await cli('erase-user', email, '--yes')).toMatchObject({
      code: 1,
      stderr: `User ${email} does not exist in atriz_core.\n`,
    });
  });

  test('the command refuses what is not a user, and names the database that it cannot find', async () => {
    expect(await cli('erase-user', "'; DROP TABLE users --", '--yes')).toMatchObject({
      code: 2,
      stderr: `User id "'; DROP TABLE users --" is not a uuid.\n`,
    });
    expect(await cli('erase-user', "' OR '@' = '@", '--yes')).toMatchObject({ code: 1 });
    const { TRACKING_DATABASE_URL: _, ...four } = Object.fromEntries(
      databaseKeys.map((key) => [definitionOf(key).urlVariable, urls[key]]),
    );
    expect(await runCli(['erase-user', userIdOf(bystander), '--yes'], four)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('where atriz_tracking is: set TRACKING_DATABASE_URL'),
    });
    expect(await rowsLeft(pools, bystander)).toEqual(before);
  });
});
