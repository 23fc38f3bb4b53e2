// Arrays come as arrays, whatever is in them, and of types that the database made itself.
import { expect, test } from 'vitest';
import { emptyDatabase, openPool } from '../support/database.ts';

const url = await emptyDatabase('atriz');
const db = openPool('atriz', url);

test('arrays of every shape are read', async () => {
  const { rows } = await db.query(
    `SELECT '{1,NULL,3}'::int[] AS numbers, '{}'::int[] AS none, '{{1,2},{3,4}}'::int[] AS nested, '[0:1]={7,8}'::int[] AS bounds,
       ARRAY['a"b', 'c\\d', '', 'NULL', 'é,{}', NULL, ' x '] AS texts, '{t,f}'::bool[] AS flags,
       ARRAY['{"a": [1, "x"]}'::jsonb] AS objects, '{"2026-01-02 03:04:05.678+00"}'::timestamptz[] AS times,
       '{(1,1),(0,0);(3,3),(2,2)}'::box[] AS boxes, '{1.50}'::numeric[] AS exact`,
  );
  expect(rows).toEqual([
    {
      numbers: [1, null, 3],
      none: [],
      nested: [
        [1, 2],
        [3, 4],
      ],
      bounds: [7, 8],
      texts: ['a"b', 'c\\d', '', 'NULL', 'é,{}', null, ' x '],
      flags: [true, false],
      objects: [{ a: [1, 'x'] }],
      times: [new Date('2026-01-02T03:04:05.678Z')],
      boxes: ['(1,1),(0,0)', '(3,3),(2,2)'],
      exact: ['1.50'],
    },
  ]);
});

test('and written by the tag, of own types too', async () => {
  await db.query("CREATE TYPE mood AS ENUM ('glad', 'so ''so''')");
  const own = openPool('atriz', url);
  const [row] = await own.sql`SELECT ${[1, 2]}::int[] AS numbers, ${['a"b', null]}::text[] AS texts,
    ${own.sql.array(['x', 'y'])} AS array,
    ${['glad', "so 'so'"]}::mood[] AS moods`;
  expect(row).toEqual({
    numbers: [1, 2],
    texts: ['a"b', null],
    array: ['x', 'y'],
    moods: ['glad', "so 'so'"],
  });
});
