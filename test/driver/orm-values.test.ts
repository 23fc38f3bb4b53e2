// Drizzle gives the same value by every way of reading: select, returning, relations, transactions.
import { relations, sql } from 'drizzle-orm';
import {
  bigint,
  boolean,
  date,
  integer,
  jsonb,
  numeric,
  pgTable,
  timestamp,
  varchar,
} from 'drizzle-orm/pg-core';
import { expect, test } from 'vitest';
import { createDatabasePool } from '../../src/index.ts';
import { withTransaction } from '../../src/transaction.ts';
import { emptyDatabase } from '../support/database.ts';

const owners = pgTable('owners', { id: integer('id').primaryKey() });
const values = pgTable('values', {
  id: integer('id').primaryKey(),
  ownerId: integer('owner_id').notNull(),
  json: jsonb('json').notNull(),
  money: numeric('money', { precision: 12, scale: 2 }).notNull(),
  prices: numeric('prices', { precision: 12, scale: 2 }).array().notNull(),
  big: bigint('big', { mode: 'bigint' }).notNull(),
  local: timestamp('local', { mode: 'string' }).notNull(),
  zoned: timestamp('zoned', { mode: 'string', withTimezone: true }).notNull(),
  times: timestamp('times', { mode: 'string' }).array().notNull(),
  moment: timestamp('moment', { withTimezone: true }).notNull(),
  day: date('day').notNull(),
  flag: boolean('flag').notNull(),
  name: varchar('name', { length: 9 }),
});
const schema = {
  owners,
  values,
  ownersRelations: relations(owners, ({ many }) => ({ values: many(values) })),
  valuesRelations: relations(values, ({ one }) => ({
    owner: one(owners, { fields: [values.ownerId], references: [owners.id] }),
  })),
};
const jsons = ['123', 'true', '{"a":1}', 'plain', 123, true, null, [1, '2', { b: '3' }], { c: '4' }];
const rows = jsons.map((json, index) => ({
  id: index,
  ownerId: 1,
  json: json === null ? sql`'null'::jsonb` : json,
  money: index % 2 ? '7.50' : '12.00',
  prices: ['7.50', '12.00'],
  big: 9_007_199_254_740_993n,
  local: '2026-01-02 03:04:05.123456',
  zoned: '2026-01-02 03:04:05.123456+00',
  times: ['2026-01-02 03:04:05.123456'],
  moment: new Date('2026-01-02T03:04:05.123Z'),
  day: '2026-01-02',
  flag: index % 2 === 0,
  name: index % 2 ? null : 'name',
}));
const expected = rows.map((row, index) => ({ ...row, json: jsons[index] }));

const db = createDatabasePool({ connectionString: await emptyDatabase('pshop'), schema, max: 2 });
await db.query(`
  CREATE TABLE owners (id int PRIMARY KEY);
  INSERT INTO owners VALUES (1);
  CREATE TABLE values (id int PRIMARY KEY, owner_id int NOT NULL, json jsonb NOT NULL, money numeric(12, 2) NOT NULL,
    prices numeric(12, 2)[] NOT NULL, big bigint NOT NULL, local timestamp NOT NULL, zoned timestamptz NOT NULL,
    times timestamp[] NOT NULL, moment timestamptz NOT NULL, day date NOT NULL, flag boolean NOT NULL, name varchar(9))`);

test('a value is the same by returning, select, a query at any depth, and in transactions', async () => {
  try {
    expect(await db.orm.insert(values).values(rows).returning()).toEqual(expected);
    type Orm = Pick<typeof db.orm, 'select' | 'query'>;
    const readAll = async (orm: Orm) => {
      expect(await orm.select().from(values).orderBy(values.id)).toEqual(expected);
      expect(await orm.query.values.findMany({ orderBy: values.id })).toEqual(expected);
      const owner = await orm.query.owners.findFirst({ with: { values: { orderBy: values.id } } });
      expect(owner).toEqual({ id: 1, values: expected });
      const deep = await orm.query.values.findFirst({
        columns: { money: true },
        orderBy: sql`money`,
        with: { owner: { with: { values: { orderBy: values.id, columns: { name: false } } } } },
      });
      expect(deep).toEqual({
        money: '7.50',
        owner: { id: 1, values: expected.map(({ name, ...rest }) => rest) },
      });
      const [joined] = await orm.select().from(owners).leftJoin(values, sql`${values.id} = 100`);
      expect(joined).toEqual({ owners: { id: 1 }, values: null });
    };
    await readAll(db.orm);
    await db.orm.transaction(async (outer) => {
      await readAll(outer);
      await outer.transaction(readAll);
    });
    await withTransaction(db, (transaction) => readAll(transaction.orm as never));
  } finally {
    await db.close();
  }
});
