// Analyses a client's SQL before it is sent to the backend.
import { loadModule, parseSync } from 'libpg-query';
import { isRecord } from '../files.ts';

/** Cheap checks of the text. A false positive costs a millisecond, so the patterns are broad. */
export interface StatementTraits {
  /** May change a setting that outlives the transaction. */
  changesSettings: boolean;
  /** DISCARD ALL or DEALLOCATE: may drop prepared statements of all sessions. */
  dropsStatements: boolean;
  discardsAll: boolean;
  usesAdvisoryLocks: boolean;
  usesTemporaryObjects: boolean;
  customNames: string[];
}

export function traitsOf(sql: string): StatementTraits {
  return {
    changesSettings:
      /(?:^|[;$'/]|\b(?:begin|then|else|loop|as))\s*(?:set|reset|discard)\s/im.test(sql) ||
      /set_config/i.test(sql),
    dropsStatements: /\b(?:discard|deallocate(?:\s+prepare)?)\s+all\b/i.test(sql),
    discardsAll: /\bdiscard\s+all\b/i.test(sql),
    usesAdvisoryLocks: /advisory/i.test(sql),
    usesTemporaryObjects: /\btemp(?:orary)?\b|\bwith\s+hold\b|\binto\s+temp/i.test(sql),
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
  /** The type of the node, e.g. CopyStmt. */
  kind: string;
  node: Record<string, unknown>;
}

export async function loadParser(): Promise<void> {
  await loadModule();
}

/** Returns undefined for SQL with a syntax error, which the backend then reports. */
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
