// Finds what taking migrations back would destroy, by running their down files in a transaction that is rolled back.

import type { DatabaseTarget } from '../../src/databases.ts';
import type { RollbackStep } from '../../src/migrations/runner.ts';
import { prepareSession } from '../../src/migrations/session.ts';
import { describeSqlError } from '../../src/migrations/sql-error.ts';
import { runInside } from '../../src/migrations/transaction-guard.ts';
import type { Database } from '../../src/pool.ts';
import { catalogLines } from './catalog.ts';

/** Returns lines such as `table public.users` and `column public.users.phone`. Omits columns of lost tables. */
export async function findDestruction(
  session: Database,
  key: DatabaseTarget,
  steps: readonly RollbackStep[],
): Promise<string[]> {
  // The first step outside of a transaction and all later steps cannot be tried. Search their SQL for DROP instead.
  const tried = steps.findIndex(({ down }) => !down.inTransaction);
  const [first, rest] = tried < 0 ? [steps, []] : [steps.slice(0, tried), steps.slice(tried)];
  const lost = [...(await tryOut(session, key, first)), ...rest.flatMap(({ down }) => namedDrops(down.sql))];
  const relations = lost.filter((line) => !line.startsWith('column ')).map((line) => line.split(' ').at(-1));
  return lost.filter((line) => !relations.some((relation) => line.startsWith(`column ${relation}.`)));
}

async function tryOut(
  session: Database,
  key: DatabaseTarget,
  steps: readonly RollbackStep[],
): Promise<string[]> {
  if (steps.length === 0) return [];
  await prepareSession(session, {});
  await session.query('BEGIN');
  try {
    const before = await readHoldings(session);
    for (const { migration, down } of steps) {
      for (const statement of down.statements) {
        await runInside(session, statement.text).catch((error: unknown) => {
          const afterwards = 'left nothing behind: this was the look ahead at what goes';
          throw describeSqlError(error, down, statement, { key, tag: migration.tag, afterwards });
        });
      }
    }
    const after = new Set(await readHoldings(session));
    return before.filter((line) => !after.has(line));
  } finally {
    await session.query('ROLLBACK').catch(() => undefined);
  }
}

/** Matches relations and columns with data. Views count: a continuous aggregate keeps hours whose points are gone. */
const holdings = /^(?:relation (\S+): (table|view|materialized view)|column ([^\s:]+))/;

async function readHoldings(session: Database): Promise<string[]> {
  // Does not change the search_path, because the down files run between the two reads.
  const lines = await catalogLines(session);
  return lines.flatMap((line) => {
    const [, relation, kind, column] = holdings.exec(line) ?? [];
    if (column) return [`column ${column}`];
    return relation ? [`${kind} ${relation}`] : [];
  });
}

function namedDrops(sql: string): string[] {
  const drops = sql.matchAll(/drop\s+(table|column|materialized\s+view)\s+(?:if\s+exists\s+)?([\w".]+)/gi);
  return [...drops].map(([, kind = '', name = '']) => `${kind.toLowerCase()} ${name.replaceAll('"', '')}`);
}
