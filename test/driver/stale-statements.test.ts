// A schema that changes under prepared statements: every query ends, with its rows or with the server's error.
import { expect, test } from 'vitest';
import { sqlState } from '../../src/errors.ts';
import { withTransaction } from '../../src/index.ts';
import { emptyDatabase, openSessionPool } from '../support/database.ts';
import { failure } from '../support/failure.ts';

const url = await emptyDatabase('core');
const other = openSessionPool('core', url, { max: 1 });
await other.query('CREATE TABLE things (id int, data jsonb); INSERT INTO things VALUES (1)');

const read = 'SELECT * FROM things WHERE id = $1';
let column = 0;
const addColumn = async () => {
  column += 1;
  await other.query(`ALTER TABLE things ADD COLUMN c${column} int`);
  return `c${column}`;
};

test.each([1, 2, 10])('many queries at once on %i connections see the new column', async (max) => {
  const db = openSessionPool('core', url, { max });
  const all = () =>
    Promise.all(
      Array.from({ length: 60 }, async (_, index) =>
        index % 2 ? await db.sql`SELECT * FROM things WHERE id = ${1}` : (await db.query(read, [1])).rows,
      ),
    );
  await all();
  for (let round = 0; round < 3; round += 1) {
    const added = await addColumn();
    for (const [row] of await all()) expect(row).toHaveProperty(added, null);
  }
});

test('parameters are encoded once', async () => {
  const db = openSessionPool('core', url, { max: 1 });
  const write = (data: { n: number }) =>
    db.sql`INSERT INTO things (data) VALUES (${db.sql.json(data)}) RETURNING *`;
  await write({ n: 1 });
  await addColumn();
  expect(await Promise.all([write({ n: 2 }), write({ n: 3 })])).toMatchObject([
    [{ data: { n: 2 } }],
    [{ data: { n: 3 } }],
  ]);
});

test('a transaction ends with the error, because it is aborted; the next one goes on', async () => {
  const db = openSessionPool('core', url, { max: 1 });
  const work = () =>
    withTransaction(db, (transaction) => Promise.all([1, 1, 1].map((id) => transaction.query(read, [id]))));
  await work();
  await addColumn();
  expect(sqlState(await failure(work()))).toBe('0A000');
  expect(await work()).toHaveLength(3);
});

test('a reserved connection runs them again', async () => {
  const db = openSessionPool('core', url, { max: 1 });
  const sql = await db.sql.reserve();
  try {
    const all = () => Promise.all([1, 1, 1, 1].map((id) => sql`SELECT * FROM things WHERE id = ${id}`));
    await all();
    const added = await addColumn();
    for (const [row] of await all()) expect(row).toHaveProperty(added, null);
  } finally {
    sql.release();
  }
});
