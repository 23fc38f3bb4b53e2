// Whatever a file says, it is applied whole or not at all, and leaves nothing in the session for the next one.
import { describe, expect, test } from 'vitest';
import { findDestruction } from '../../scripts/catalog/destruction.ts';
import { MigrationError } from '../../src/errors.ts';
import { migrate, readHistory, readMigrations, rollback } from '../../src/migrations/index.ts';
import { readDown } from '../../src/migrations/journal.ts';
import type { Pool } from '../../src/pool.ts';
import { maintain, uniqueRolePrefix } from '../support/database.ts';
import { failure } from '../support/failure.ts';
import { emptyFolder, exists, type Folder, freshPool } from '../support/migrations.ts';

const pieces = (...statements: string[]) => `${statements.join('\n--> statement-breakpoint\n')}\n`;
const table = 'CREATE TABLE a (id int);';
const bare = 'CREATE TABLE a (id int)';
const procedure =
  'CREATE PROCEDURE commits() LANGUAGE plpgsql AS $$ BEGIN INSERT INTO a VALUES (1); COMMIT; END $$; CALL commits();';

/** Each of them ends the transaction, or waits for what nobody sends, unless the server refuses it. */
const endings = {
  'COMMIT behind a breakpoint': pieces(bare, 'COMMIT'),
  'COMMIT behind a semicolon': `${table} -- done\n  commit work ;`,
  'ROLLBACK, then more': pieces(bare, 'ROLLBACK', 'CREATE TABLE b (id int);'),
  'COMMIT beside a body with BEGIN ATOMIC': pieces(
    `${table} CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT 1; END; COMMIT;`,
  ),
  'COMMIT between identifiers that look like dollar quotes': `${table} SELECT 1 AS a$q$; COMMIT; SELECT 2 AS b$q$;`,
  'a transaction of its own': `BEGIN; ${table} COMMIT;`,
  'START TRANSACTION': pieces(table, 'START TRANSACTION', 'CREATE TABLE b (id int);'),
  'END and ABORT': pieces(table, 'END', 'ABORT'),
  'COMMIT AND CHAIN': pieces(table, 'COMMIT AND CHAIN'),
  'PREPARE TRANSACTION': pieces(table, "PREPARE TRANSACTION 'x'"),
  'a savepoint that is rolled back': pieces('SAVEPOINT s', table, 'ROLLBACK TO s'),
  'a COMMIT in a DO block': pieces(table, 'DO $$ BEGIN COMMIT; END $$;'),
  'a COMMIT in a DO block as text': pieces(table, "DO $$ BEGIN EXECUTE 'COMMIT'; END $$;"),
  'a procedure that commits': pieces(table, procedure),
  'text that would leave a quoted literal': pieces(table, "SELECT '\\'; END $$; COMMIT; SELECT '"),
  'COPY FROM STDIN behind a breakpoint': pieces(table, 'COPY a FROM STDIN;'),
  'COPY TO STDOUT': pieces(table, 'COPY a TO STDOUT;'),
};

const objects = async (pool: Pick<Pool, 'query'>) =>
  (
    await pool.query(
      'SELECT (SELECT count(*) FROM pg_class) AS relations, (SELECT count(*) FROM pg_proc) AS routines',
    )
  ).rows;

const steps = (folder: Folder) =>
  readMigrations('atriz', folder.path).map((migration) => {
    const down = readDown(migration);
    if (!down || 'problem' in down) throw new Error(`${migration.tag} has no down`);
    return { migration, down };
  });

describe('a file that ends its transaction', () => {
  test('is refused upwards, and nothing of it stays', async () => {
    const pool = await freshPool();
    await migrate(pool, 'atriz', { folder: emptyFolder().add('0000_one', 'SELECT 1;').path });
    const before = await objects(pool);
    for (const [name, sql] of Object.entries(endings)) {
      const folder = emptyFolder().add('0001_a', sql, { when: 5000 });
      const error = await failure(migrate(pool, 'atriz', { folder: folder.path }));
      expect(error, name).toBeInstanceOf(MigrationError);
      expect(String(error), name).toContain('0001_a of atriz failed and left nothing behind');
      expect(await objects(pool), name).toEqual(before);
    }
    expect((await pool.query('SELECT 1 FROM drizzle.__drizzle_migrations')).rowCount).toBe(1);
  });

  test('is refused by the look ahead at a down, and by the down', async () => {
    const pool = await freshPool();
    const victims = emptyFolder().add('0000_v', 'CREATE TABLE victims (id int);');
    await migrate(pool, 'atriz', { folder: victims.path });
    const before = await objects(pool);
    await using session = pool.dedicated();
    for (const [name, sql] of Object.entries(endings)) {
      victims.write('0000_v.down.sql', pieces('DROP TABLE victims', sql));
      const looked = await failure(findDestruction(session, 'atriz', steps(victims)));
      expect(String(looked), name).toContain('this was the look ahead at what goes');
      expect(await objects(pool), name).toEqual(before);
    }
    const ran = await failure(rollback(pool, 'atriz', { folder: victims.path }));
    expect(String(ran)).toContain('failed and left nothing behind');
    expect(await objects(pool)).toEqual(before);
  });

  test('is told which words have no place, and where', async () => {
    const folder = emptyFolder().add('0000_a', pieces(table, 'COMMIT'));
    const error = await failure(migrate(await freshPool(), 'atriz', { folder: folder.path }));
    expect(error).toMatchObject({ exitCode: 1, line: 3 });
    expect(String(error)).toMatch(
      /: BEGIN, COMMIT, .* have no place in a migration.*\n.*0000_a\.sql:3:1\n {2}3 \| COMMIT\n/,
    );
  });

  test('is refused outside of a transaction too, where the statements before it stay', async () => {
    const pool = await freshPool();
    const vacuums = [
      'COMMIT; VACUUM a',
      'SET TRANSACTION READ WRITE; COMMIT; CREATE TABLE b (id int)',
      'VACUUM a; SELECT 1',
    ];
    for (const [index, piece] of ['BEGIN', 'COPY a FROM STDIN', ...vacuums].entries()) {
      const folder = emptyFolder().add(
        `000${index}_n`,
        `-- transaction: none\n${pieces('CREATE TABLE IF NOT EXISTS a (id int);', piece)}`,
      );
      expect(String(await failure(migrate(pool, 'atriz', { folder: folder.path }))), piece).toContain(
        'stopped at statement 2 of 2',
      );
    }
    expect([await exists(pool, 'a'), await exists(pool, 'b')]).toEqual([true, false]);
  });
});

test('what only looks like it is applied: strings, nested comments, names, bodies, 10 MB, any quoting', async () => {
  const pool = await freshPool();
  const long = 'x'.repeat(10_000_000);
  const files = [
    '/* a /* nested */ comment; COMMIT; */ CREATE TABLE "commit;" (id int DEFAULT 1);',
    `INSERT INTO "commit;" SELECT length('; COMMIT; it''s') + length(E'\\'; ROLLBACK;') + length($q$'$$\\$q$);`,
    'CREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$ BEGIN RETURN 1; END; $$;\r\nSELECT f();',
    'CREATE FUNCTION g() RETURNS int BEGIN ATOMIC SELECT 1; END;',
    'SELECT 1 AS id INTO made; CREATE INDEX ON made (id); -- at the end',
    `CREATE TABLE texts AS SELECT '${long}' AS t;`,
    `INSERT INTO texts VALUES ('${'/* '.repeat(100_000)}'), ('größer\\\\ 🙂');`,
    'CREATE TABLE p (id int PRIMARY KEY); CREATE TABLE c (p int REFERENCES p DEFERRABLE INITIALLY DEFERRED); INSERT INTO c VALUES (1); INSERT INTO p VALUES (1);',
    "LOCK TABLE p; SET LOCAL work_mem = '8MB'; DO $$ BEGIN EXECUTE 'CREATE TABLE d (id int)'; END $$;",
  ];
  const folder = emptyFolder();
  for (const [index, sql] of files.entries()) folder.add(`000${index}_ok`, sql);
  expect(await migrate(pool, 'atriz', { folder: folder.path })).toHaveLength(files.length);
  const { rows } = await pool.query('SELECT length(t) AS length FROM texts ORDER BY 1');
  expect(rows).toEqual([{ length: 10 }, { length: 300_000 }, { length: 10_000_000 }]);
});

test.each([
  ['an unclosed comment', '/* '.repeat(500_000)],
  ['a long line', `SELECT ${'1 + '.repeat(1_000)} nonsense${' + 1'.repeat(1_000)};`],
])('%s is refused in a few lines', async (_, sql) => {
  const folder = emptyFolder().add('0000_a', `SELECT 1;\n${sql}`);
  const error = await failure(migrate(await freshPool(), 'atriz', { folder: folder.path }));
  expect(error).toMatchObject({ line: 2 });
  expect(String(error).length).toBeLessThan(2_000);
});

test('an error inside of the body of a function is shown at its place', async () => {
  const sql =
    '-- größer 🙂\nCREATE FUNCTION f() RETURNS int LANGUAGE plpgsql AS $$\nBEGIN\n  RETURN 1 +;\nEND $$;\n';
  const folder = emptyFolder().add('0000_f', sql);
  const error = await failure(migrate(await freshPool(), 'atriz', { folder: folder.path }));
  expect(String(error)).toMatch(
    /syntax error at end of input\n.*0000_f\.sql:4:13\n {2}4 \| {3}RETURN 1 \+;\n {4}\| {13}\^/,
  );
});

test('nothing that a file leaves in the session is there for the next one', async () => {
  const pool = await freshPool();
  const role = `${uniqueRolePrefix()}weak`;
  await maintain('atriz', `CREATE ROLE ${role}`);
  const folder = emptyFolder()
    .add(
      '0000_a',
      `CREATE TEMP TABLE t (id int); SET search_path = pg_temp; LISTEN x; SET SESSION AUTHORIZATION ${role};`,
      {
        down: `SET SESSION AUTHORIZATION ${role};`,
      },
    )
    .add('0001_b', pieces('CREATE TEMP TABLE t (id int);', `SET ROLE ${role};`), {
      down: `SET LOCAL ROLE ${role};`,
    })
    .add(
      '0002_c',
      pieces(
        'CREATE TABLE t (id int);',
        'CREATE TABLE me AS SELECT current_user AS who, session_user AS login',
      ),
      {
        down: 'DROP TABLE t, me;',
      },
    )
    .add('0003_n', `-- transaction: none\nSELECT 1 FROM t; SET SESSION AUTHORIZATION ${role};`);
  const options = { folder: folder.path };
  expect(await migrate(pool, 'atriz', options)).toHaveLength(4);
  const { rows } = await pool.query(
    'SELECT who = current_user AS who, login = current_user AS login FROM public.me',
  );
  expect(rows).toEqual([{ who: true, login: true }]);
  folder.write('0003_n.down.sql', 'SELECT 1;');
  expect(await rollback(pool, 'atriz', { ...options, count: 4 })).toHaveLength(4);
});

test("the database's timeouts, which are for applications, do not end a migration, its way back or the look ahead", async () => {
  const pool = await freshPool();
  await pool.query(`DO $$ DECLARE name text; BEGIN
    FOR name IN SELECT s.name FROM pg_settings s WHERE s.name IN ('statement_timeout', 'transaction_timeout',
      'idle_in_transaction_session_timeout', 'idle_session_timeout', 'lock_timeout') LOOP
      EXECUTE format('ALTER DATABASE %I SET %I = ''300ms''', current_database(), name);
    END LOOP; END $$`);
  const slow = pieces('SELECT pg_sleep(0.16);', 'SELECT pg_sleep(0.16);');
  const folder = emptyFolder()
    .add('0000_a', slow, { down: slow })
    .add('0001_n', `-- transaction: none\n${pieces('SELECT pg_sleep(0.32);', 'VACUUM pg_class;')}`, {
      down: 'SELECT 1;',
    });
  const options = { folder: folder.path };
  expect(await migrate(pool, 'atriz', options)).toHaveLength(2);
  await using session = pool.dedicated();
  expect(await findDestruction(session, 'atriz', steps(folder))).toEqual([]);
  expect(await rollback(pool, 'atriz', { ...options, count: 2 })).toHaveLength(2);
});

test('a file without a statement is not applied as a success, up or down', async () => {
  const pool = await freshPool();
  const nothing =
    '-- Custom SQL migration file, put your code below! --\n/* /* */ */ ;\n--> statement-breakpoint\n';
  const folder = emptyFolder().add('0000_a', table).add('0001_empty', nothing, { down: nothing });
  const options = { folder: folder.path };
  for (const dryRun of [true, false]) {
    expect(await failure(migrate(pool, 'atriz', { ...options, dryRun }))).toMatchObject({
      exitCode: 3,
      message: expect.stringMatching(/^0001_empty of atriz holds no statement, nothing was run/),
    });
  }
  expect(await exists(pool, 'a')).toBe(false);
  folder.write('0001_empty.sql', 'SELECT 1');
  expect(await migrate(pool, 'atriz', options)).toHaveLength(2);
  expect(String(await failure(rollback(pool, 'atriz', options)))).toMatch(
    /0001_empty\.down\.sql holds no statement/,
  );
});

test('the history keeps no values of rows, whatever PostgreSQL says about a failure', async () => {
  const pool = await freshPool();
  const folder = emptyFolder().add(
    '0000_t',
    `CREATE TABLE people (name text NOT NULL, kind text CONSTRAINT known CHECK (kind IS NOT NULL)); INSERT INTO people VALUES ('Jane Roe', 'x'), ('Jane Roe', 'y')`,
  );
  await migrate(pool, 'atriz', { folder: folder.path });
  const failing = [
    'CREATE UNIQUE INDEX people_name ON people (name);',
    'ALTER TABLE people ALTER COLUMN name TYPE int USING name::int;',
    "INSERT INTO people VALUES ('Jane Roe');",
    "DO $$ BEGIN RAISE EXCEPTION '%', (SELECT min(name) FROM people); END $$;",
    "DO $$ BEGIN EXECUTE (SELECT format('SELECT %I', min(name)) FROM people); END $$;",
    "CREATE FUNCTION late() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION '%', NEW.name; END $$; CREATE CONSTRAINT TRIGGER late AFTER UPDATE ON people DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION late(); UPDATE people SET kind = 'z';",
    'SELECT nonsense FROM people;',
  ];
  for (const sql of failing) {
    const next = emptyFolder().add('0001_f', sql, { when: 5000 });
    expect(String(await failure(migrate(pool, 'atriz', { folder: next.path }))), sql).toContain(
      '0001_f of atriz failed',
    );
  }
  const errors = (await readHistory(pool)).flatMap(({ error }) => error ?? []).reverse();
  expect(errors).toHaveLength(failing.length);
  expect(errors.join('\n')).not.toMatch(/Jane|Roe/);
  expect(errors[0]).toMatch(/^SQLSTATE 23505 at \S+0001_f\.sql:1, constraint people_name, table people$/);
  expect(errors[2]).toMatch(/constraint known/);
  expect(errors.at(-1)).toMatch(/^SQLSTATE 42703 at .*, column "nonsense" does not exist$/);

  await pool.query(
    "UPDATE drizzle.migration_history SET error = E'Migration x of y failed and left nothing behind: duplicate\\n  at x.sql:1:1\\n  detail: Key (name)=(Jane Roe)'",
  );
  await failure(
    migrate(pool, 'atriz', { folder: emptyFolder().add('0001_f', 'SELECT nonsense', { when: 5000 }).path }),
  );
  expect((await readHistory(pool)).at(-1)?.error).toBe('at x.sql:1:1');
});
