// What is published of each query, for traces and logs.
import { subscribe, unsubscribe } from 'node:diagnostics_channel';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { sql } from 'drizzle-orm';
import { afterAll, beforeAll, beforeEach, expect, test } from 'vitest';
import { type NoticeMessage, type Pool, type QueryMessage, withTransaction } from '../../src/index.ts';
import { testPool } from '../support/database.ts';
import { emptyFolder } from '../support/environment.ts';

let db: Pool;
let heard: QueryMessage[] = [];
const hear = (message: unknown) => {
  if ((message as QueryMessage).database === db.name) heard.push(message as QueryMessage);
};
beforeAll(async () => {
  db = await testPool('core');
  subscribe('@atriz/database:query', hear);
});
afterAll(() => unsubscribe('@atriz/database:query', hear));
beforeEach(() => {
  heard = [];
});

const message = (text: string, rows: number | null, error?: unknown) => ({
  database: db.name,
  text,
  rows,
  durationMs: expect.any(Number),
  error,
});

test('each way to ask: its text, how long, how many rows; values stay out', async () => {
  await db.query('SELECT generate_series(1, $1::int)', [3]);
  await db.sql`SELECT ${'secret'}::text AS said, ${1}::int`;
  await db.orm.execute(sql`SELECT ${'secret'}::text`);
  await db.query("INSERT INTO roles (name) VALUES ('a'), ('b')");
  expect(heard).toEqual([
    message('SELECT generate_series(1, $1::int)', 3),
    message('SELECT $1::text AS said, $2::int', 1),
    message('SELECT $1::text', 1),
    message("INSERT INTO roles (name) VALUES ('a'), ('b')", 2),
  ]);
  expect(heard.every(({ durationMs }) => durationMs > 0)).toBe(true);
});

test('a query that fails, with its error; those of a transaction, and what is undone with it', async () => {
  const refused = db.query('SELECT nothing');
  await expect(refused).rejects.toMatchObject({ code: '42703' });
  const undone = withTransaction(db, async (transaction) => {
    await transaction.query('SELECT 1');
    await transaction.sql`SELECT 1 / ${0}::int`;
  });
  await expect(undone).rejects.toMatchObject({ code: '22012' });
  expect(heard).toEqual([
    message('SELECT nothing', null, expect.objectContaining({ code: '42703' })),
    message('SELECT 1', 1),
    message('SELECT 1 / $1::int', null, expect.objectContaining({ code: '22012' })),
  ]);
});

test('cursors, files and COPY are one query each', async () => {
  const steps: number[] = [];
  for await (const rows of db.sql`SELECT generate_series(1, 5)`.cursor(2)) steps.push(rows.length);
  expect(steps).toEqual([2, 2, 1]);
  for await (const _ of db.sql`SELECT generate_series(1, 5)`.cursor(2)) break;
  // A cursor that is left early is published when the server has closed it.
  await expect.poll(() => heard.length).toBe(2);
  const counted: number[] = [];
  await db.sql`SELECT generate_series(1, 3)`.cursor(2, (rows) => void counted.push(rows.length));
  expect(counted).toEqual([2, 1]);
  const file = join(emptyFolder, 'question.sql');
  writeFileSync(file, 'SELECT 7 AS n');
  expect(await db.sql.file(file)).toMatchObject([{ n: 7 }]);
  await withTransaction(db, async ({ sql: tag }) => {
    expect(await (tag as unknown as typeof db.sql).file(file)).toMatchObject([{ n: 7 }]);
  });
  await expect(db.sql.file(join(emptyFolder, 'nowhere.sql'))).rejects.toMatchObject({ code: 'ENOENT' });
  const stream = await db.sql`COPY (SELECT 1) TO STDOUT`.readable();
  for await (const _ of stream) {
    // Read to its end.
  }
  await expect.poll(() => heard.at(-1)?.text).toBe('COPY (SELECT 1) TO STDOUT');
  expect(heard.map(({ text }) => text)).toEqual([
    'SELECT generate_series(1, 5)',
    'SELECT generate_series(1, 5)',
    'SELECT generate_series(1, 3)',
    'SELECT 7 AS n',
    'SELECT 7 AS n',
    '',
    'COPY (SELECT 1) TO STDOUT',
  ]);
  expect(await db.query('SELECT 1 AS n')).toMatchObject({ rows: [{ n: 1 }] });
});

test('notices of the server, with their database', async () => {
  const notices: NoticeMessage[] = [];
  const listen = (notice: unknown) => {
    if ((notice as NoticeMessage).database === db.name) notices.push(notice as NoticeMessage);
  };
  subscribe('@atriz/database:notice', listen);
  try {
    await db.query(`DO $$ BEGIN RAISE WARNING 'beware' USING DETAIL = 'of this', ERRCODE = '01ABC'; END $$`);
    await db.query('DROP TABLE IF EXISTS nowhere');
  } finally {
    unsubscribe('@atriz/database:notice', listen);
  }
  expect(notices).toEqual([
    { database: db.name, severity: 'WARNING', code: '01ABC', message: 'beware', detail: 'of this' },
    expect.objectContaining({ severity: 'NOTICE', message: 'table "nowhere" does not exist, skipping' }),
  ]);
});
