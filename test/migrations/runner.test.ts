// The runner: in order, once, alone, whole migrations only.
import { describe, expect, test } from 'vitest';
import { MigrationError, OutOfStepError, ValidationError } from '../../src/errors.ts';
import { createDatabasePool } from '../../src/index.ts';
import {
  getMigrationStatus,
  isInStep,
  MigrationLockError,
  markApplied,
  migrate,
  repair,
  rollback,
} from '../../src/migrations/index.ts';
import { emptyDatabase, migratedDatabase, openSessionPool, testWith } from '../support/database.ts';
import { failure } from '../support/failure.ts';
import { copyOfFolder, emptyFolder, exists, freshPool, tags } from '../support/migrations.ts';

describe('up', () => {
  test('a failed migration leaves nothing of itself and is shown with file, line and caret; the earlier ones stay', async () => {
    const pool = await freshPool();
    const sql = 'CREATE TABLE half (id int);\n--> statement-breakpoint\n\nSELECT 1,\n  nonsense;\n';
    const folder = copyOfFolder('atriz').add('0002_broken', sql);
    const error = await failure(migrate(pool, 'atriz', { folder: folder.path }));
    expect(error).toBeInstanceOf(MigrationError);
    expect(error).toMatchObject({ database: 'atriz', migration: '0002_broken', line: 5, exitCode: 1 });
    expect(String(error)).toMatch(
      /0002_broken of atriz failed and left nothing behind: column "nonsense" does not exist\n {2}at \S+0002_broken\.sql:5:3\n {2}5 \| {3}nonsense;\n {4}\| {3}\^/,
    );
    expect(await exists(pool, 'half')).toBe(false);
    const state = await getMigrationStatus(pool, 'atriz', folder.path);
    expect([tags(state.applied), tags(state.pending)]).toEqual([
      ['0000_tables', '0001_triggers_and_comments'],
      ['0002_broken'],
    ]);
    // The lock is free again.
    folder.write('0002_broken.sql', 'CREATE TABLE whole (id int);');
    expect(tags(await migrate(pool, 'atriz', { folder: folder.path }))).toEqual(['0002_broken']);
  });

  test('goes as far as told, and a dry run goes nowhere', async () => {
    const pool = await freshPool();
    expect(tags(await migrate(pool, 'atriz', { dryRun: true }))).toEqual([
      '0000_tables',
      '0001_triggers_and_comments',
    ]);
    expect(await exists(pool, 'drizzle.__drizzle_migrations')).toBe(false);
    expect(tags(await migrate(pool, 'atriz', { to: '0000_tables' }))).toEqual(['0000_tables']);
    expect(await failure(migrate(pool, 'atriz', { to: '0009_nope' }))).toBeInstanceOf(ValidationError);
    expect(tags(await migrate(pool, 'atriz'))).toEqual(['0001_triggers_and_comments']);
    expect(await migrate(pool, 'atriz')).toEqual([]);
  });

  test('a migration that was merged late is refused, and applied when allowed', async () => {
    const pool = await freshPool();
    const folder = emptyFolder()
      .add('0000_a', 'CREATE TABLE a (id int);')
      .add('0002_c', 'CREATE TABLE c (id int);');
    await migrate(pool, 'atriz', { folder: folder.path });
    folder.add('0001_b', 'CREATE TABLE b (id int);', { when: 1500 });
    const error = await failure(migrate(pool, 'atriz', { folder: folder.path }));
    expect(error).toBeInstanceOf(OutOfStepError);
    expect(error).toMatchObject({
      exitCode: 3,
      message: expect.stringMatching(/0001_b .*older than the latest.*--allow-out-of-order/),
    });
    expect(await exists(pool, 'b')).toBe(false);
    expect(tags((await getMigrationStatus(pool, 'atriz', folder.path)).outOfOrder)).toEqual(['0001_b']);
    expect(tags(await migrate(pool, 'atriz', { folder: folder.path, allowOutOfOrder: true }))).toEqual([
      '0001_b',
    ]);
    expect(isInStep(await getMigrationStatus(pool, 'atriz', folder.path))).toBe(true);
  });

  test('one byte changed in an applied file stops everything until it is accepted; line endings do not', async () => {
    const pool = await freshPool();
    const folder = copyOfFolder('atriz');
    await migrate(pool, 'atriz', { folder: folder.path });
    folder.add('0002_next', 'CREATE TABLE next (id int);');
    const original = folder.read('0000_tables.sql');
    folder.write('0000_tables.sql', original.replaceAll('\n', '\r\n'));
    expect(isInStep(await getMigrationStatus(pool, 'atriz', folder.path))).toBe(false);
    expect((await getMigrationStatus(pool, 'atriz', folder.path)).edited).toEqual([]);

    folder.write('0000_tables.sql', original.replace('user_profiles', 'user_profilez'));
    const error = await failure(migrate(pool, 'atriz', { folder: folder.path }));
    expect(error).toMatchObject({
      exitCode: 3,
      message: expect.stringMatching(/0000_tables of atriz was edited.*repair atriz/),
    });
    expect(await exists(pool, 'next')).toBe(false);

    const repaired = await repair(pool, 'atriz', { folder: folder.path });
    expect(repaired).toMatchObject([{ migration: { tag: '0000_tables' } }]);
    expect(repaired[0]?.recordedHash).not.toBe(repaired[0]?.migration.hash);
    expect(tags(await migrate(pool, 'atriz', { folder: folder.path }))).toEqual(['0002_next']);
  });

  test('eight migrators at once apply each migration once', async () => {
    const url = await emptyDatabase('pshop');
    const applied = await Promise.all(
      Array.from({ length: 8 }, () => migrate(openSessionPool('pshop', url), 'pshop')),
    );
    expect(applied.map((migrations) => migrations.length).sort()).toEqual([0, 0, 0, 0, 0, 0, 0, 2]);
  });

  test('a transaction-pooling URL is refused with the reason', async () => {
    const pool = openSessionPool('atriz', `${await emptyDatabase('atriz')}?pgbouncer=true`);
    expect(await failure(migrate(pool, 'atriz'))).toMatchObject({
      exitCode: 2,
      message: expect.stringContaining('transaction-pooling proxy'),
    });
  });
});

describe('the lock', () => {
  test('who waits says for whom, and gives up after the time it was given', async () => {
    const url = await emptyDatabase('atriz');
    const slow = emptyFolder().add('0000_slow', 'SELECT pg_advisory_xact_lock(1);');
    const gate = openSessionPool('atriz', url, { max: 1 });
    await gate.query('SELECT pg_advisory_lock(1)');
    const holder = createDatabasePool({ connectionString: url, applicationName: 'the slow one' });
    const running = migrate(holder, 'atriz', { folder: slow.path, lockTimeoutMs: 0 });
    const pool = openSessionPool('atriz', url);
    await expect.poll(() => exists(pool, 'drizzle.migration_history')).toBe(true);

    const impatient = await failure(migrate(pool, 'atriz', { folder: slow.path, waitMs: 0 }));
    expect(impatient).toBeInstanceOf(MigrationLockError);
    expect(String(impatient)).toMatch(/being migrated by pid \d+ \(the slow one.*since .*Z\)/);
    const told: string[] = [];
    const onWait = (who: string) => {
      told.push(who);
      void gate.query('SELECT pg_advisory_unlock(1)').then();
    };
    expect(await migrate(pool, 'atriz', { folder: slow.path, onWait })).toEqual([]);
    expect(told).toHaveLength(1);
    expect(tags(await running)).toEqual(['0000_slow']);
    await holder.close();
  });

  test('a locked table: the migration tries again, then names the blocker, and leaves nothing half-done', async () => {
    const url = await migratedDatabase('atriz');
    const pool = openSessionPool('atriz', url);
    const folder = copyOfFolder('atriz').add(
      '0002_alter',
      'CREATE TABLE before (id int);\n--> statement-breakpoint\nALTER TABLE user_profiles ADD COLUMN x int;',
    );
    const blocker = createDatabasePool({ connectionString: url, applicationName: 'the blocker', max: 1 });
    await blocker.query('BEGIN; LOCK TABLE user_profiles');
    const attempts: number[] = [];
    const options = {
      folder: folder.path,
      lockTimeoutMs: 800,
      lockRetries: 1,
      onBlocked: (_: string | undefined, attempt: number) => attempts.push(attempt),
    };
    const error = await failure(migrate(pool, 'atriz', options));
    expect(String(error)).toMatch(
      /0002_alter of atriz could not get a lock in 2 attempts.*blocked by pid \d+ \(the blocker.*idle in transaction/,
    );
    expect(attempts).toEqual([1]);
    expect(await exists(pool, 'before')).toBe(false);
    await blocker.query('ROLLBACK');
    expect(tags(await migrate(pool, 'atriz', options))).toEqual(['0002_alter']);
    await blocker.close();
  });
});

describe('outside of a transaction', () => {
  const none = (...statements: string[]) =>
    `-- transaction: none\n${statements.join('\n--> statement-breakpoint\n')}\n`;

  test('statements run one by one, concurrent indexes too', async () => {
    const pool = await freshPool();
    const folder = emptyFolder()
      .add('0000_t', 'CREATE TABLE t (id int);')
      .add(
        '0001_i',
        none('INSERT INTO t VALUES (1);', 'CREATE INDEX CONCURRENTLY "t_id" ON "t" (id);', 'VACUUM t;'),
      );
    expect(tags(await migrate(pool, 'atriz', { folder: folder.path }))).toEqual(['0000_t', '0001_i']);
    expect(await exists(pool, 't_id')).toBe(true);
    expect((await pool.query('SELECT * FROM drizzle.migration_progress')).rowCount).toBe(0);
  });

  test('a failure says where it stopped, and the next run resumes there', async () => {
    const pool = await freshPool();
    const folder = emptyFolder().add(
      '0000_n',
      none('CREATE TABLE t (id int);', 'INSERT INTO t VALUES (1);', 'INSERT INTO tt VALUES (2);'),
    );
    const error = await failure(migrate(pool, 'atriz', { folder: folder.path }));
    expect(String(error)).toMatch(
      /stopped at statement 3 of 3, where the next run resumes.*"tt" does not exist/,
    );
    expect((await getMigrationStatus(pool, 'atriz', folder.path)).applied).toEqual([]);
    // What ran may not change, what failed may.
    const before = folder.read('0000_n.sql');
    folder.write('0000_n.sql', before.replace('VALUES (1)', 'VALUES (7)'));
    expect(String(await failure(migrate(pool, 'atriz', { folder: folder.path })))).toContain(
      'was edited in one of the 2 statements',
    );
    folder.write('0000_n.sql', before.replace('INTO tt', 'INTO t'));
    expect(tags(await migrate(pool, 'atriz', { folder: folder.path }))).toEqual(['0000_n']);
    expect((await pool.query('SELECT array_agg(id ORDER BY id) AS ids FROM t')).rows).toEqual([
      { ids: [1, 2] },
    ]);
  });

  test('a name that is taken is not mistaken for an index that the statement made', async () => {
    const pool = await freshPool();
    const folder = emptyFolder()
      .add('0000_t', 'CREATE TABLE t (a int, b int); CREATE INDEX idx ON t (a);')
      .add('0001_i', none('CREATE INDEX CONCURRENTLY idx ON t (b);'));
    for (let run = 0; run < 2; run += 1) {
      expect(String(await failure(migrate(pool, 'atriz', { folder: folder.path })))).toContain(
        'already exists',
      );
    }
    expect(tags((await getMigrationStatus(pool, 'atriz', folder.path)).pending)).toEqual(['0001_i']);
  });

  test('progress is forgotten when a migration is marked, so that a later up runs all of it', async () => {
    const pool = await freshPool();
    const folder = emptyFolder().add('0000_n', none('CREATE TABLE a (id int);', 'SELECT nonsense;'), {
      down: 'DROP TABLE IF EXISTS a;',
    });
    const options = { folder: folder.path };
    await failure(migrate(pool, 'atriz', options));
    await markApplied(pool, 'atriz', '0000_n', options);
    await rollback(pool, 'atriz', options);
    expect(await exists(pool, 'a')).toBe(false);
    folder.write('0000_n.sql', none('CREATE TABLE a (id int);', 'SELECT 1;'));
    await migrate(pool, 'atriz', options);
    expect(await exists(pool, 'a')).toBe(true);
  });

  test('an index left invalid is named with its mend, and mended by the next run', async () => {
    const pool = await freshPool();
    const folder = emptyFolder()
      .add('0000_t', 'CREATE TABLE t (id int);\n--> statement-breakpoint\nINSERT INTO t VALUES (1), (1);')
      .add('0001_u', none('CREATE UNIQUE INDEX CONCURRENTLY t_unique ON t (id);'));
    const error = await failure(migrate(pool, 'atriz', { folder: folder.path }));
    expect(String(error)).toContain('The index "t_unique" is invalid: DROP INDEX CONCURRENTLY "t_unique"');
    await pool.query('DELETE FROM t');
    expect(tags(await migrate(pool, 'atriz', { folder: folder.path }))).toEqual(['0001_u']);
    const { rows } = await pool.query(
      "SELECT indisvalid FROM pg_index WHERE indexrelid = 't_unique'::regclass",
    );
    expect(rows).toEqual([{ indisvalid: true }]);
  });
});

testWith(['timescaledb'], 'an index of a hypertable is built chunk by chunk', async () => {
  const pool = openSessionPool('tracking', await emptyDatabase('tracking'));
  const folder = emptyFolder().add(
    '0000_h',
    "CREATE EXTENSION timescaledb; CREATE TABLE h (time timestamptz NOT NULL, v int); SELECT create_hypertable('h', 'time');" +
      "INSERT INTO h VALUES ('2026-01-01', 1), ('2026-02-01', 2);",
  );
  const index = 'CREATE INDEX i ON h USING btree (v) WITH (timescaledb.transaction_per_chunk);';
  folder.add('0001_i', index);
  // Sent to TimescaleDB in the transaction of the migration, it would crash the server.
  expect(String(await failure(migrate(pool, 'tracking', { folder: folder.path })))).toMatch(
    /left nothing behind: CREATE INDEX .* cannot run inside a transaction block.*whose first line is "-- transaction: none"/s,
  );
  folder.write('0001_i.sql', `-- transaction: none\n${index}\n`);
  folder.write('0001_i.down.sql', 'DROP INDEX i;\n');
  expect(tags(await migrate(pool, 'tracking', { folder: folder.path }))).toEqual(['0001_i']);
  const { rows } = await pool.query("SELECT indisvalid FROM pg_index WHERE indexrelid = 'i'::regclass");
  expect(rows).toEqual([{ indisvalid: true }]);
  await rollback(pool, 'tracking', { folder: folder.path });
  expect((await pool.query("SELECT to_regclass('i') AS i")).rows).toEqual([{ i: null }]);
});

test('what exists already, as after drizzle-kit push, is told with the command that records it', async () => {
  const pool = await freshPool();
  await pool.query('CREATE TABLE pushed (id int)');
  const folder = emptyFolder().add('0000_pushed', 'CREATE TABLE pushed (id int);');
  const refused = migrate(pool, 'atriz', { folder: folder.path });
  await expect(refused).rejects.toThrow(
    /"pushed" already exists[\s\S]*npm run migrate -- mark atriz 0000_pushed$/,
  );
  await markApplied(pool, 'atriz', '0000_pushed', { folder: folder.path });
  expect(await migrate(pool, 'atriz', { folder: folder.path })).toEqual([]);
});

test('a byte order mark is refused before anything runs', async () => {
  const folder = emptyFolder().add('0000_a', '\uFEFFSELECT 1;');
  expect(await failure(migrate(await freshPool(), 'atriz', { folder: folder.path }))).toMatchObject({
    exitCode: 3,
    message: expect.stringContaining('byte order mark'),
  });
});

test('a SET of one file is none of the next one', async () => {
  const pool = await freshPool();
  const folder = emptyFolder()
    .add('0000_s', 'CREATE SCHEMA s;\n--> statement-breakpoint\nSET search_path = s;')
    .add('0001_t', 'CREATE TABLE t (id int);');
  await migrate(pool, 'atriz', { folder: folder.path });
  expect([await exists(pool, 'public.t'), await exists(pool, 's.t')]).toEqual([true, false]);
});

test('a failing COMMIT names its migration', async () => {
  const pool = await freshPool();
  const folder = emptyFolder().add(
    '0000_d',
    `CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (p int REFERENCES p DEFERRABLE INITIALLY DEFERRED);
     INSERT INTO c VALUES (1);`,
  );
  expect(String(await failure(migrate(pool, 'atriz', { folder: folder.path })))).toMatch(
    /0000_d of atriz failed at its COMMIT: .*foreign key.*\n.*0000_d\.sql/,
  );
});
