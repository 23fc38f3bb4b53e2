// The schema knows every column that names a person, and says what becomes of it in an erasure.
import { getTableName, is } from 'drizzle-orm';
import { getTableConfig, PgTable, pgTable, text, uuid } from 'drizzle-orm/pg-core';
import { expect, test } from 'vitest';
import { coreUserId, isCoreUserId, primaryId } from '../../schema/columns.ts';
import { deleteRows, keepRows } from '../../schema/erasure.ts';
import { databaseKeys, definitionOf } from '../../src/databases.ts';
import { ConfigurationError } from '../../src/errors.ts';
import { erasureRules, nameOf, referenceColumns } from '../../src/references/schema.ts';

const tablesOf = (key: (typeof databaseKeys)[number]) =>
  Object.values(definitionOf(key).schema).filter((value) => is(value, PgTable));

test('finds the columns that point to core, in tables and in the aggregate', () => {
  const found = (['core', 'tracking', 'atriz', 'mextrack', 'pshop'] as const).flatMap((key) =>
    referenceColumns(key).map(({ relation, column }) => `${key} ${nameOf(relation)}.${column.name}`),
  );
  expect(found).toEqual([
    'tracking location_events.user_id',
    'tracking location_hourly.user_id',
    'atriz user_profiles.user_id',
    'atriz user_preferences.user_id',
    'mextrack vehicles.user_id',
    'mextrack drivers.user_id',
    'pshop products.user_id',
    'pshop orders.user_id',
    'pshop deliveries.user_id',
  ]);
});

test.each(databaseKeys)(
  'every uuid of %s is a key, a foreign key, a device, a token family or a person',
  (key) => {
    const others = tablesOf(key).flatMap((table) => {
      const { columns, foreignKeys } = getTableConfig(table);
      const references = new Set(foreignKeys.flatMap((each) => each.reference().columns));
      return columns
        .filter((column) => column.getSQLType() === 'uuid' && !column.primary && !references.has(column))
        .filter((column) => !isCoreUserId(column) && !['device_id', 'family_id'].includes(column.name))
        .map((column) => `${getTableName(table)}.${column.name}`);
    });
    expect(others).toEqual([]);
  },
);

test.each(databaseKeys)('every table of %s, and every column that names a person, has a rule', (key) => {
  expect(erasureRules(key).length).toBeGreaterThan(0);
});

test('in core, every table that points to users is erased by that column', () => {
  const missing = tablesOf('core').flatMap((table) =>
    getTableConfig(table)
      .foreignKeys.filter((each) => getTableName(each.reference().foreignTable) === 'users')
      .flatMap((each) => each.reference().columns)
      .filter(
        (column) => !erasureRules('core').some((rule) => rule.action !== 'keep' && rule.column === column),
      )
      .map((column) => `${getTableName(table)}.${column.name}`),
  );
  expect(missing).toEqual([]);
});

test('a table or a column without a rule is refused by name, whatever the column is called', () => {
  const shifts = pgTable('shifts', {
    id: primaryId(),
    userId: coreUserId(),
    assignedBy: coreUserId('assigned_by').notNull(),
  });
  const notes = pgTable('notes', { id: primaryId(), text: text('text') });
  const missing = (schema: Record<string, unknown>) => () => erasureRules('mextrack', schema);
  expect(missing({ shifts, notes })).toThrow(/shifts, notes, shifts\.user_id, shifts\.assigned_by /);
  const byUser = deleteRows(shifts, shifts.userId);
  expect(missing({ shifts, erasure: [byUser] })).toThrow(/what becomes of shifts\.assigned_by when/);
  expect(missing({ shifts, erasure: [byUser] })).toThrow(ConfigurationError);
  const all = [byUser, deleteRows(shifts, shifts.assignedBy), keepRows(notes, 'a test')];
  expect(erasureRules('mextrack', { shifts, notes, erasure: all })).toBe(all);
});

test('coreUserId is a uuid like any other to Drizzle', () => {
  const table = pgTable('t', { mine: coreUserId().notNull(), theirs: uuid('user_id').notNull() });
  expect([isCoreUserId(table.mine), isCoreUserId(table.theirs)]).toEqual([true, false]);
  expect(table.mine.getSQLType()).toBe(table.theirs.getSQLType());
});
