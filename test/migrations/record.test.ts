// The way back, and the record: down, redo, history, state, the boot guard.
import { describe, expect, test } from 'vitest';
import { OutOfStepError, ValidationError } from '../../src/errors.ts';
import {
  assertMigrated,
  getMigrationStatus,
  isInStep,
  markApplied,
  migrate,
  NotMigratedError,
  readHistory,
  readMigrations,
  redo,
  rollback,
  unmarkApplied,
} from '../../src/migrations/index.ts';
import { createDatabasePool } from '../../src/pool.ts';
import { migratedDatabase, openSessionPool } from '../support/database.ts';
import { failure } from '../support/failure.ts';
import { copyOfFolder, emptyFolder, exists, freshPool, tags } from '../support/migrations.ts';

describe('down', () => {
  test('takes back the latest, a number of them, or down to one; up again restores them', async () => {
    const pool = await freshPool();
    const folder = emptyFolder();
    for (const name of ['a', 'b', 'c', 'd']) {
      folder.add(`000${folder.entries.length}_${name}`, `CREATE TABLE ${name} (id int);`, {
        down: `DROP TABLE ${name};`,
      });
    }
    const options = { folder: folder.path };
    await migrate(pool, 'atriz', options);
    expect(tags(await rollback(pool, 'atriz', options))).toEqual(['0003_d']);
    expect(tags(await rollback(pool, 'atriz', { ...options, count: 2 }))).toEqual(['0002_c', '0001_b']);
    expect(await Promise.all(['a', 'b', 'd'].map((name) => exists(pool, name)))).toEqual([
      true,
      false,
      false,
    ]);
    await migrate(pool, 'atriz', options);
    expect(tags(await rollback(pool, 'atriz', { ...options, to: '0001_b' }))).toEqual(['0003_d', '0002_c']);
    expect(tags(await rollback(pool, 'atriz', { ...options, count: 9 }))).toEqual(['0001_b', '0000_a']);
    expect(await rollback(pool, 'atriz', options)).toEqual([]);
  });

  test('one that cannot be taken back stops before anything runs', async () => {
    const pool = await freshPool();
    const folder = emptyFolder()
      .add('0000_a', 'CREATE TABLE a (id int);', { down: '-- irreversible: the rows would be lost\n' })
      .add('0001_b', 'CREATE TABLE b (id int);')
      .add('0002_c', 'CREATE TABLE c (id int);', { down: 'DROP TABLE c;' });
    await migrate(pool, 'atriz', { folder: folder.path });
    const missing = await failure(rollback(pool, 'atriz', { folder: folder.path, count: 2 }));
    expect(String(missing)).toMatch(
      /0001_b of atriz cannot be taken back: .*0001_b\.down\.sql does not exist\. "npm run db:generate -- atriz" writes it/,
    );
    folder.write('0001_b.down.sql', '-- write by hand: what takes back 0001_b.\n');
    const stub = await failure(rollback(pool, 'atriz', { folder: folder.path, count: 2 }));
    expect(String(stub)).toMatch(/0001_b of atriz cannot be taken back: .*0001_b\.down\.sql is a stub\./);
    folder.write(
      '0001_b.down.sql',
      '-- Takes back 0001_b.\n-- irreversible: b has the only copy.\nSELECT 1;\n',
    );
    const second = await failure(rollback(pool, 'atriz', { folder: folder.path, count: 2 }));
    expect(String(second)).toContain('0001_b of atriz cannot be taken back: b has the only copy.');
    folder.write('0001_b.down.sql', 'DROP TABLE b;');
    const marked = await failure(rollback(pool, 'atriz', { folder: folder.path, count: 3 }));
    expect(String(marked)).toContain('0000_a of atriz cannot be taken back: the rows would be lost.');
    expect(await Promise.all(['a', 'b', 'c'].map((name) => exists(pool, name)))).toEqual([true, true, true]);
  });
});

describe('redo', () => {
  test('takes back and applies the latest, and nothing else', async () => {
    const pool = await freshPool();
    const folder = emptyFolder()
      .add('0000_a', 'CREATE TABLE a (id int);', { down: 'DROP TABLE a;' })
      .add('0002_z', 'CREATE TABLE z (id int);', { down: 'DROP TABLE z;' });
    const options = { folder: folder.path };
    await migrate(pool, 'atriz', options);
    await pool.query('INSERT INTO z VALUES (1)');
    folder.add('0001_late', 'CREATE TABLE late (id int);', { when: 1500 });
    expect(tags(await redo(pool, 'atriz', options))).toEqual(['0002_z']);
    expect((await pool.query('SELECT * FROM z')).rowCount).toBe(0);
    expect(await exists(pool, 'late')).toBe(false);

    await pool.query('INSERT INTO z VALUES (2)');
    folder.write('0000_a.sql', 'CREATE TABLE aa (id int);');
    expect(await failure(redo(pool, 'atriz', options))).toBeInstanceOf(OutOfStepError);
    expect((await pool.query('SELECT * FROM z')).rowCount).toBe(1);
  });
});

test('nothing is taken back beneath a newer migration that this checkout does not know, or that nobody agreed to', async () => {
  const pool = await freshPool();
  const folder = emptyFolder()
    .add('0000_a', 'CREATE TABLE a (id int);', { down: 'DROP TABLE a;' })
    .add('0001_b', 'CREATE TABLE b (id int);', { down: 'DROP TABLE b;' });
  await migrate(pool, 'atriz', { folder: folder.path });
  const surprise = await failure(rollback(pool, 'atriz', { folder: folder.path, expected: ['0000_a'] }));
  expect(String(surprise)).toContain('was migrated meanwhile');
  const older = emptyFolder().add('0000_a', 'CREATE TABLE a (id int);', { down: 'DROP TABLE a;' });
  expect(await failure(rollback(pool, 'atriz', { folder: older.path }))).toMatchObject({
    exitCode: 3,
    message: expect.stringContaining('newer migration that has no file here'),
  });
  expect(await exists(pool, 'a')).toBe(true);
});

test('the history tells who did what, failures too', async () => {
  const pool = await freshPool();
  const folder = emptyFolder()
    .add('0000_a', 'CREATE TABLE a (id int);', { down: 'DROP TABLE a;' })
    .add('0001_b', 'SELECT nonsense;');
  expect(await readHistory(pool)).toEqual([]);
  await failure(migrate(pool, 'atriz', { folder: folder.path }));
  await rollback(pool, 'atriz', { folder: folder.path });
  await markApplied(pool, 'atriz', '0001_b', { folder: folder.path });
  const history = await readHistory(pool);
  expect(history.map(({ tag, action, result }) => `${action} ${tag} ${result}`)).toEqual([
    'mark 0001_b done',
    'down 0000_a done',
    'up 0001_b failed',
    'up 0000_a done',
  ]);
  expect(history[2]?.error).toContain('nonsense');
  expect(history[0]).toMatchObject({
    databaseUser: expect.any(String),
    osUser: expect.any(String),
    host: expect.any(String),
  });
  expect(history[0]?.startedAt).toBeInstanceOf(Date);
});

describe('state', () => {
  test('reading it changes nothing, even in an empty database', async () => {
    const pool = await freshPool();
    const { applied, pending } = await getMigrationStatus(pool, 'atriz');
    expect([applied.length, pending.length]).toEqual([0, 2]);
    expect((await pool.query("SELECT to_regnamespace('drizzle') AS drizzle")).rows).toEqual([
      { drizzle: null },
    ]);
  });

  test('the record of a migration whose file was deleted can be removed, by the name that the history knows', async () => {
    const pool = await freshPool();
    const folder = copyOfFolder('atriz').add('0002_more', 'CREATE TABLE more (id int);');
    await migrate(pool, 'atriz', { folder: folder.path });
    await unmarkApplied(pool, 'atriz', '0002_more');
    expect(isInStep(await getMigrationStatus(pool, 'atriz'))).toBe(true);
    expect(await exists(pool, 'more')).toBe(true);
    expect((await readHistory(pool))[0]).toMatchObject({
      tag: '0002_more',
      action: 'unmark',
      result: 'done',
    });
    await expect(unmarkApplied(pool, 'atriz', '0002_more')).rejects.toThrow(
      /No migration "0002_more" of atriz is recorded as applied: the records are 0000_tables, 0001_/,
    );
    // Applied by drizzle-kit: the history does not know it.
    await markApplied(pool, 'atriz', '0002_more', { folder: folder.path });
    await pool.query('DELETE FROM drizzle.migration_history');
    const [row] = (await getMigrationStatus(pool, 'atriz')).orphaned;
    expect(row?.tag).toBeUndefined();
    await unmarkApplied(pool, 'atriz', row?.hash.slice(0, 12) ?? '');
    expect((await getMigrationStatus(pool, 'atriz')).orphaned).toEqual([]);
  });

  test('a row without a file is orphaned, and a marked one is applied without having run', async () => {
    const pool = await freshPool();
    const folder = copyOfFolder('atriz').add('0002_more', 'CREATE TABLE more (id int);');
    await migrate(pool, 'atriz');
    await markApplied(pool, 'atriz', '0002_more', { folder: folder.path });
    expect(await exists(pool, 'more')).toBe(false);
    expect(isInStep(await getMigrationStatus(pool, 'atriz', folder.path))).toBe(true);
    expect((await getMigrationStatus(pool, 'atriz')).orphaned).toMatchObject([{ tag: '0002_more' }]);
    expect(await failure(markApplied(pool, 'atriz', '0002_more', { folder: folder.path }))).toBeInstanceOf(
      ValidationError,
    );
  });

  test.each([
    [
      'a file that the journal names is gone',
      'names 0001_b, but',
      (folder: ReturnType<typeof emptyFolder>) => folder.remove('0001_b.sql'),
    ],
    [
      'a file that the journal does not know',
      'is not in the journal',
      (folder: ReturnType<typeof emptyFolder>) => folder.write('0009_x.sql', ''),
    ],
    [
      'a number that exists twice',
      'number of 0001_c exists twice',
      (folder: ReturnType<typeof emptyFolder>) => folder.add('0001_c', ''),
    ],
    [
      'a time that exists twice',
      'the "when" of another',
      (folder: ReturnType<typeof emptyFolder>) => folder.add('0002_c', '', { when: 2000 }),
    ],
    [
      'a journal with merge marks',
      'cannot be read',
      (folder: ReturnType<typeof emptyFolder>) => folder.write('meta/_journal.json', '<<<<<<< HEAD'),
    ],
    [
      'a journal of another kind',
      'not a journal of drizzle-kit',
      (folder: ReturnType<typeof emptyFolder>) => folder.write('meta/_journal.json', '{"entries":[{}]}'),
    ],
    [
      'a journal that is gone',
      '_journal.json does not exist',
      (folder: ReturnType<typeof emptyFolder>) => folder.remove('meta/_journal.json'),
    ],
  ])('%s: named, and nothing runs', async (_, reason, damage) => {
    const folder = emptyFolder()
      .add('0000_a', 'CREATE TABLE a (id int);')
      .add('0001_b', 'CREATE TABLE b (id int);');
    damage(folder);
    const pool = await freshPool();
    expect(() => readMigrations('atriz', folder.path)).toThrow(reason);
    expect(await failure(migrate(pool, 'atriz', { folder: folder.path }))).toMatchObject({
      exitCode: 3,
      message: expect.stringContaining(reason),
    });
    expect(await exists(pool, 'a')).toBe(false);
  });
});

describe('assertMigrated', () => {
  test('lets an application start on a migrated database', async () => {
    const url = await migratedDatabase('atriz');
    await expect(assertMigrated(openSessionPool('atriz', url))).resolves.toBeUndefined();
    const unnamed = createDatabasePool({ connectionString: url });
    await expect(assertMigrated(unnamed)).rejects.toThrow(ValidationError);
    await expect(assertMigrated(unnamed, 'atriz')).resolves.toBeUndefined();
    await unnamed.close();
  });

  test('throws a typed error that lists what is pending', async () => {
    const error = await failure(assertMigrated(await freshPool(), 'atriz'));
    expect(error).toBeInstanceOf(NotMigratedError);
    expect(String(error)).toContain('atriz is not migrated: pending 0000_tables, 0001_triggers_and_comments');
    expect((error as NotMigratedError).state.pending).toHaveLength(2);
  });
});
