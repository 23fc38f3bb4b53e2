// Reads the comments of tables and columns from the migrations: Drizzle's schema objects have none.
import { loadModule, parseSync } from 'libpg-query';
import type { DatabaseKey } from '../../src/databases.ts';
import { readMigrations } from '../../src/migrations/index.ts';

/** `users` or `users.email` → its comment. */
export type Comments = ReadonlyMap<string, string>;

/** Reads the comments as they are after all migrations: a later COMMENT replaces or removes an earlier one. */
export const readComments = (key: DatabaseKey): Promise<Comments> =>
  commentsIn(readMigrations(key).map(({ sql }) => sql));

interface CommentStatement {
  objtype: string;
  object: { List?: { items: { String?: { sval: string } }[] } };
  comment?: string;
}

export async function commentsIn(files: readonly string[]): Promise<Comments> {
  await loadModule();
  const comments = new Map<string, string>();
  for (const sql of files) {
    const { stmts = [] } = parseSync(sql) as { stmts?: { stmt: { CommentStmt?: CommentStatement } }[] };
    for (const { stmt } of stmts) {
      if (!stmt.CommentStmt || !commented.has(stmt.CommentStmt.objtype)) continue;
      const { object, comment } = stmt.CommentStmt;
      const path = (object.List?.items ?? []).map((item) => item.String?.sval ?? '');
      const name = path[0] === 'public' ? path.slice(1).join('.') : path.join('.');
      if (comment) comments.set(name, comment);
      else comments.delete(name);
    }
  }
  return comments;
}

const commented = new Set(['OBJECT_TABLE', 'OBJECT_VIEW', 'OBJECT_MATVIEW', 'OBJECT_COLUMN']);
