// Handles the invalid index that an interrupted CREATE INDEX CONCURRENTLY leaves behind. No query uses such an index.
import type { Database } from '../pool.ts';
import { firstCommand } from './skip-comments.ts';
import { indexPerChunk } from './transaction-guard.ts';

const identifier = '(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)';
const create = new RegExp(
  `^create\\s+(?:unique\\s+)?index\\s+(concurrently\\s+)?(?:if\\s+not\\s+exists\\s+)?(${identifier})\\s+on\\s+(?:only\\s+)?(?:(${identifier})\\.)?${identifier}`,
  'i',
);

interface CreatedIndex {
  /** Quoted. With the schema of the index's table, if the statement names that schema. */
  readonly name: string;
  /** The statement that drops it. A hypertable has no DROP INDEX CONCURRENTLY. */
  readonly drop: string;
}

/** The index that a statement creates in several transactions; undefined for other statements. */
function createdIndex(statement: string): CreatedIndex | undefined {
  const match = create.exec(statement.slice(firstCommand(statement)));
  const quote = (name: string) => (name.startsWith('"') ? name : `"${name.toLowerCase()}"`);
  if (!match?.[2] || !(match[1] || indexPerChunk.test(statement))) return undefined;
  const name = match[3] ? `${quote(match[3])}.${quote(match[2])}` : quote(match[2]);
  return { name, drop: `DROP INDEX ${match[1] ? 'CONCURRENTLY ' : ''}${name}` };
}

async function validity(session: Database, { name }: CreatedIndex): Promise<boolean | undefined> {
  const { rows } = await session.query<{ valid: boolean }>(
    'SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = to_regclass($1)',
    [name],
  );
  return rows[0]?.valid;
}

/**
 * Returns `complete` if the index of an interrupted statement is valid. Drops an invalid index, so that the statement
 * can run again. Returns `absent` also for a statement that does not create an index in several transactions.
 */
export async function interruptedIndex(session: Database, statement: string): Promise<'complete' | 'absent'> {
  const index = createdIndex(statement);
  if (!index) return 'absent';
  const valid = await validity(session, index);
  if (valid === false) await session.query(index.drop);
  return valid === true ? 'complete' : 'absent';
}

/** Says which invalid index a failed statement left and how to remove it. Undefined if there is none. */
export async function invalidIndexAdvice(session: Database, statement: string): Promise<string | undefined> {
  const index = createdIndex(statement);
  if (!index || (await validity(session, index)) !== false) return undefined;
  return `The index ${index.name} is invalid: ${index.drop}; the next run does so by itself.`;
}
