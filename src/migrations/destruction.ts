// What taking a migration back would destroy, found out by doing it in a transaction and rolling back.
import type { Database } from '../pool.ts';
import { readCatalog } from './catalog.ts';
import type { SqlFile } from './journal.ts';

/** Lines such as `table public.users` and `column public.users.phone`, without the columns of lost tables. */
export async function findDestruction(session: Database, files: readonly SqlFile[]): Promise<string[]> {
  const lost: string[] = [];
  await session.query("BEGIN; SET LOCAL lock_timeout = '5s'");
  try {
    for (const file of files) {
      // Outside of a transaction nothing can be tried: what the text names must do.
      if (!file.inTransaction) lost.push(...namedDrops(file.sql));
      else {
        const before = await readHoldings(session);
        for (const { text } of file.statements) await session.sql.unsafe(text);
        const after = new Set(await readHoldings(session));
        lost.push(...before.filter((line) => !after.has(line)));
      }
    }
  } finally {
    await session.query('ROLLBACK');
  }
  const relations = lost.filter((line) => !line.startsWith('column ')).map((line) => line.split(' ')[1]);
  return lost.filter((line) => !relations.some((relation) => line.startsWith(`column ${relation}.`)));
}

async function readHoldings(session: Database): Promise<string[]> {
  const lines = await readCatalog(session);
  return lines.flatMap((line) => {
    const [kind, rest = ''] = [line.slice(0, line.indexOf(' ')), line.slice(line.indexOf(' ') + 1)];
    const [name = '', definition = ''] = rest.split(': ', 2);
    if (kind === 'column') return [`column ${name}`];
    // A continuous aggregate is a view, and the only place that keeps hours whose raw points are gone.
    return kind === 'relation' ? [`${definition.split(' ', 1)[0]} ${name}`] : [];
  });
}

function namedDrops(sql: string): string[] {
  const drops = sql.matchAll(/drop\s+(table|column|materialized\s+view)\s+(?:if\s+exists\s+)?([\w".]+)/gi);
  return [...drops].map(([, kind = '', name = '']) => `${kind.toLowerCase()} ${name.replaceAll('"', '')}`);
}
