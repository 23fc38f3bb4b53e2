// Derives the down file of a generated migration, for statements that can be reversed mechanically.

import { unfinishedMark } from '../../src/migrations/journal.ts';
import { firstCommand } from '../../src/migrations/skip-comments.ts';

const name = '("(?:[^"]|"")+")';
/** `"public"."users"` or `"users"`. */
const qualified = `((?:${name}\\.)?${name})`;

interface Rule {
  readonly pattern: RegExp;
  /** Returns the statement that undoes a match. `groups` are the groups of `pattern`. */
  readonly undo: (groups: readonly string[]) => string;
}

// The statements that drizzle-kit generates. `qualified` has three groups: the whole name and its two parts.
const rules: readonly Rule[] = [
  {
    pattern: new RegExp(`^CREATE TABLE (?:IF NOT EXISTS )?${qualified}`, 'i'),
    undo: ([, table]) => `DROP TABLE ${table};`,
  },
  {
    pattern: new RegExp(`^CREATE (TYPE|SCHEMA|SEQUENCE) ${qualified}`, 'i'),
    undo: ([, kind = '', object]) => `DROP ${kind.toUpperCase()} ${object};`,
  },
  {
    // An index is in the schema of its table.
    pattern: new RegExp(
      `^CREATE (?:UNIQUE )?INDEX (CONCURRENTLY )?(?:IF NOT EXISTS )?${name} ON ${qualified}`,
      'i',
    ),
    undo: ([, concurrently = '', index, , schema]) =>
      `DROP INDEX ${concurrently}${schema === undefined ? '' : `${schema}.`}${index};`,
  },
  // Nothing to undo: the same migration adds the constraint, so the down file drops it.
  { pattern: new RegExp(`^ALTER TABLE ${qualified} VALIDATE CONSTRAINT ${name}`, 'i'), undo: () => '' },
  {
    pattern: new RegExp(`^ALTER TABLE ${qualified} ADD COLUMN ${name}`, 'i'),
    undo: ([, table, , , column]) => `ALTER TABLE ${table} DROP COLUMN ${column};`,
  },
  {
    pattern: new RegExp(`^ALTER TABLE ${qualified} ADD CONSTRAINT ${name}`, 'i'),
    undo: ([, table, , , constraint]) => `ALTER TABLE ${table} DROP CONSTRAINT ${constraint};`,
  },
  {
    pattern: new RegExp(`^ALTER TABLE ${qualified} RENAME COLUMN ${name} TO ${name}`, 'i'),
    undo: ([, table, , , from, to]) => `ALTER TABLE ${table} RENAME COLUMN ${to} TO ${from};`,
  },
  {
    pattern: new RegExp(`^ALTER TABLE ${qualified} ALTER COLUMN ${name} SET NOT NULL`, 'i'),
    undo: ([, table, , , column]) => `ALTER TABLE ${table} ALTER COLUMN ${column} DROP NOT NULL;`,
  },
];

/** Returns the text of `<tag>.down.sql`, which undoes the statements in reverse order. */
export function deriveDown(tag: string, statements: readonly { readonly text: string }[]): string {
  const steps = statements
    .map(({ text }) => text.slice(firstCommand(text)).trim())
    .filter((text) => text !== '')
    .map(undo)
    .filter((step) => step !== '')
    .reverse();
  if (steps.length === 0) return `${unfinishedMark} what takes back ${tag}.\n`;
  const first = steps.some((step) => /^DROP INDEX CONCURRENTLY/.test(step)) ? '-- transaction: none\n' : '';
  return `${first}-- Takes back ${tag}.\n${steps.join('\n--> statement-breakpoint\n')}\n`;
}

function undo(statement: string): string {
  for (const { pattern, undo } of rules) {
    const groups = pattern.exec(statement);
    if (groups) return undo(groups);
  }
  return `${unfinishedMark} what takes back ${statement.split('\n', 1)[0]}`;
}
