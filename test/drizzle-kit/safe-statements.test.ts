// What is rewritten is found by its form alone: names with schemas, quotes and parentheses are read right.
import { expect, test } from 'vitest';
import { deriveDown } from '../../scripts/drizzle-kit/down-stub.ts';
import { safeStatements } from '../../scripts/drizzle-kit/safe-statements.ts';

const hypertables = new Set(['metrics.points']);

test('names with a schema, and parentheses in names, strings and expressions', () => {
  const { inside, outside, moved } = safeStatements(
    [
      'ALTER TABLE "odd ("")"."t" ADD CONSTRAINT "c" CHECK ("t"."a" <> \')\');',
      'CREATE INDEX "i" ON "metrics"."points" USING btree ("a)",lower(\'(\' || b) DESC NULLS FIRST) WHERE (a > 1);',
      'ALTER TABLE "metrics"."points" ADD CONSTRAINT "f" FOREIGN KEY ("a") REFERENCES "public"."t"("id");',
      'ALTER TABLE "t" ADD CONSTRAINT "u" UNIQUE("a");',
    ],
    hypertables,
  );
  expect(outside).toEqual([
    'ALTER TABLE "odd ("")"."t" ADD CONSTRAINT "c" CHECK ("t"."a" <> \')\') NOT VALID;',
    'ALTER TABLE "odd ("")"."t" VALIDATE CONSTRAINT "c";',
    expect.stringMatching(/NULLS FIRST\) WITH \(timescaledb\.transaction_per_chunk\) WHERE \(a > 1\);$/),
  ]);
  expect(inside).toEqual([
    expect.stringMatching(
      /^-- TimescaleDB cannot .*\n-- squawk-ignore .*adding-foreign-key-constraint\nALTER TABLE/,
    ),
    'ALTER TABLE "t" ADD CONSTRAINT "u" UNIQUE("a");',
  ]);
  expect(moved.map(({ table, kind }) => `${table} ${kind}`)).toEqual([
    'odd (").t checkConstraints',
    'metrics.points indexes',
  ]);
  expect(deriveDown('0001_x', outside.map((text) => ({ text: String(text) })).slice(0, 2))).toBe(
    '-- Takes back 0001_x.\nALTER TABLE "odd ("")"."t" DROP CONSTRAINT "c";\n',
  );
});

test('the down of a concurrent index is outside of a transaction, in the schema of the table', () => {
  const text = 'CREATE INDEX CONCURRENTLY "i" ON "metrics"."t" USING btree ("a");';
  expect(deriveDown('0001_x', [{ text }])).toBe(
    '-- transaction: none\n-- Takes back 0001_x.\nDROP INDEX CONCURRENTLY "metrics"."i";\n',
  );
});
