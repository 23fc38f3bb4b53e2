// CREATE INDEX CONCURRENTLY that was interrupted leaves an invalid index, which looks like one and serves nobody.
import type { Database } from '../pool.ts';
import { firstCommand } from './first-command.ts';

const identifier = '(?:"(?:[^"]|"")+"|[a-z_][a-z0-9_$]*)';
const concurrently = new RegExp(
  `^create\\s+(?:unique\\s+)?index\\s+concurrently\\s+(?:if\\s+not\\s+exists\\s+)?(${identifier})\\s+on\\s+(?:only\\s+)?(?:(${identifier})\\.)?${identifier}`,
  'i',
);

/** The index that a statement creates concurrently, quoted and with its table's schema, if it does. */
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
 * What became of an index whose statement was started and never reported its end. An invalid one is
 * dropped, so that the statement can run again.
 */
export async function interruptedIndex(session: Database, statement: string): Promise<'complete' | 'absent'> {
  const index = createdIndex(statement);
  if (!index) return 'absent';
  const valid = await validity(session, index);
  if (valid === false) await session.query(`DROP INDEX CONCURRENTLY IF EXISTS ${index}`);
  return valid === true ? 'complete' : 'absent';
}

/** Names the invalid index that a failed statement left, and its mend. */
export async function invalidIndexAdvice(session: Database, statement: string): Promise<string | undefined> {
  const index = createdIndex(statement);
  if (!index || (await validity(session, index)) !== false) return undefined;
  return `The index ${index} is invalid: DROP INDEX CONCURRENTLY ${index}; the next run does so by itself.`;
}
