// What the server must know about a client's SQL before the backend sees it.
import { loadModule, parseSync } from 'libpg-query';
import { isRecord } from '../files.ts';

/** Cheap checks of the text. A false positive costs a millisecond, so the patterns are broad. */
export interface Traits {
  /** May change a setting beyond the transaction. */
  settings: boolean;
  /** May drop prepared statements of every session: DISCARD ALL, DEALLOCATE ALL. */
  dropsStatements: boolean;
  discards: boolean;
  advisory: boolean;
  temporary: boolean;
  readsDatabases: boolean;
  customNames: string[];
}

export function traitsOf(sql: string): Traits {
  return {
    settings:
      /(?:^|[;$'/]|\b(?:begin|then|else|loop|as))\s*(?:set|reset|discard)\s/im.test(sql) ||
      /set_config/i.test(sql),
    dropsStatements: /\b(?:discard\s+all|deallocate)\b/i.test(sql),
    discards: /\bdiscard\s+all\b/i.test(sql),
    advisory: /advisory/i.test(sql),
    temporary: /\btemp(?:orary)?\b|\bwith\s+hold\b|\binto\s+temp/i.test(sql),
    readsDatabases: /pg_database/i.test(sql),
    customNames: customNames(sql),
  };
}

function customNames(sql: string): string[] {
  const names: string[] = [];
  for (const match of sql.matchAll(
    /\bset\s+(?:session\s+|local\s+)?"?([a-z_]\w*(?:\.[a-z_]\w*)+)"?\s*(?:=|to)/gi,
  )) {
    names.push(match[1] ?? '');
  }
  for (const match of sql.matchAll(/set_config\s*\(\s*'([a-z_]\w*(?:\.[a-z_]\w*)+)'/gi))
    names.push(match[1] ?? '');
  return names;
}

export interface ParsedStatement {
  /** The node's type, e.g. CopyStmt. */
  kind: string;
  node: Record<string, unknown>;
}

export async function loadParser(): Promise<void> {
  await loadModule();
}

/** undefined for SQL that does not parse: the backend says what is wrong with it, in its own words. */
export function parseStatements(sql: string): ParsedStatement[] | undefined {
  let tree: unknown;
  try {
    tree = parseSync(sql);
  } catch {
    return undefined;
  }
  if (!isRecord(tree) || !Array.isArray(tree.stmts)) return undefined;
  return tree.stmts.flatMap((entry: unknown) => {
    const statement = isRecord(entry) ? entry.stmt : undefined;
    if (!isRecord(statement)) return [];
    const [kind] = Object.keys(statement);
    const node = kind === undefined ? undefined : statement[kind];
    return kind !== undefined && isRecord(node) ? [{ kind, node }] : [];
  });
}
