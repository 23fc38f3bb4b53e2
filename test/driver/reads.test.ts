// What counts as a read: in doubt nothing does.
import { describe, expect, test } from 'vitest';
import { isRead, textOf } from '../../src/driver/reads.ts';
import { openPool, serverUrl } from '../support/database.ts';

describe('isRead', () => {
  test.each([
    'SELECT 1',
    '  select * from users where id = $1;\n',
    '(SELECT 1) UNION (SELECT 2)',
    'VALUES (1), (2)',
    'TABLE users',
    'WITH recent AS (SELECT * FROM users) SELECT count(*) FROM recent',
    'SELECT updated_at, deleted, "format" FROM pg_catalog.pg_class',
  ])('%s is one', (text) => expect(isRead(text)).toBe(true));

  test.each([
    'INSERT INTO users DEFAULT VALUES',
    'WITH gone AS (DELETE FROM users RETURNING id) SELECT * FROM gone',
    'with new as (insert into users default values returning id) select * from new',
    'SELECT * FROM users FOR UPDATE',
    'SELECT * FROM users FOR KEY SHARE SKIP LOCKED',
    'SELECT * INTO copy FROM users',
    "SELECT nextval('numbers')",
    "SELECT set_config('x', 'y', false)",
    'SELECT pg_advisory_lock(1)',
    'SELECT pg_catalog.pg_advisory_lock (1)',
    'SELECT "pg_notify"($1, $2)',
    "SELECT * FROM dblink('...', 'DELETE FROM users')",
    'SELECT lo_unlink(1)',
    'SELECT 1; DROP TABLE users',
    '/* a comment before it */ SELECT 1',
    'EXPLAIN ANALYZE DELETE FROM users',
    'SHOW transaction_read_only',
    'BEGIN',
    'COPY users TO STDOUT',
    'REFRESH MATERIALIZED VIEW totals',
    '',
  ])('%s is none', (text) => expect(isRead(text)).toBe(false));
});

test('a tagged query is judged with its fragments and identifiers, and without its values', () => {
  const { sql } = openPool('core', serverUrl('core', 'postgres'));
  const text = (query: unknown) => textOf(query as Parameters<typeof textOf>[0]);
  const lock = sql`FOR UPDATE`;
  expect(isRead(text(sql`SELECT * FROM ${sql('users')} WHERE name = ${'delete'}`))).toBe(true);
  expect(isRead(text(sql`SELECT * FROM ${sql('users')} WHERE id IN ${sql(['insert', 'x'])}`))).toBe(true);
  expect(isRead(text(sql`SELECT * FROM users ${lock}`))).toBe(false);
  expect(isRead(text(sql`SELECT * FROM users ${[sql`ORDER BY id`, sql`${lock}`]}`))).toBe(false);
  expect(isRead(text(sql`SELECT ${sql('pg_advisory_lock')}(1)`))).toBe(false);
});
