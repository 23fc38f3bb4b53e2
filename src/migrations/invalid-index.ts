// Handles the invalid index that an interrupted CREATE INDEX CONCURRENTLY leaves, which no query uses.
import type { Database } from '../pool.ts';
import { firstCommand } from './skip-comments.ts';

const identifier = '(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)';
const concurrently = new RegExp(
  `^create\\s+(?:unique\\s+)?index\\s+concurrently\\s+(?:if\\s+not\\s+exists\\s+)?(${identifier})\\s+on\\s+(?:only\\s+)?(?:(${identifier})\\.)?${identifier}`,
  'i',
);

/** The index that a statement creates concurrently: quoted, with the schema of its table if the statement has one. */
function createdIndex(statement: string): string | undefined {
  const match = concurrently.exec(statement.slice(firstCommand(statement)));
  const quote = (name: string) => (name.startsWith('"') ? name : `"${name.toLowerCase()}"`);
  if (!match?.[1]) return undefined;
  return match[2] ? `${quote(match[2])}.${quote(match[1])}` : quote(match[1]);
}

async function validity(session: Database, index: string): Promise<boolean | undefined> {
  const { rows } = await session.query<{ valid: boolean }>(
    'SELECT indisvalid AS valid FROM pg_index WHERE indexrelid = to_regclass($1)',
    [index],
  );
  return rows[0]?.valid;
}

/**
 * State of an index whose statement started without a recorded end. Drops an invalid index, so that the next run can
 * create it.
 */
export async function interruptedIndex(session: Database, statement: string): Promise<'complete' | 'absent'> {
  const index = createdIndex(statement);
  if (!index) return 'absent';
  const valid = await validity(session, index);
  if (valid === false) await session.query(`DROP INDEX CONCURRENTLY IF EXISTS ${index}`);
  return valid === true ? 'complete' : 'absent';
}

/** Names the invalid index that a failed statement left, and how to remove it. */
export async function invalidIndexAdvice(session: Database, statement: string): Promise<string | undefined> {
  const index = createdIndex(statement);
  if (!index || (await validity(session, index)) !== false) return undefined;
  return `The index ${index} is invalid: DROP INDEX CONCURRENTLY ${index}; the next run does so by itself.`;
}
