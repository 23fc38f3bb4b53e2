// Analyses a client's SQL before it is sent to the backend.
import { type Node, type ParseResult, parseSync } from 'libpg-query';

/** Cheap checks of the text. A false positive costs a millisecond, so the patterns are broad. */
export interface StatementTraits {
  /** May change a setting that outlives the transaction. */
  changesSettings: boolean;
  /** DISCARD ALL or DEALLOCATE ALL: may drop the prepared statements of all sessions. */
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
  const matches = [
    ...sql.matchAll(/\bset\s+(?:session\s+|local\s+)?"?([a-z_]\w*(?:\.[a-z_]\w*)+)"?\s*(?:=|to)/gi),
    ...sql.matchAll(/set_config\s*\(\s*'([a-z_]\w*(?:\.[a-z_]\w*)+)'/gi),
  ];
  return matches.map((match) => match[1] ?? '');
}

/** Returns undefined for SQL with a syntax error, which the backend then reports. */
export function parseStatements(sql: string): Node[] | undefined {
  try {
    const { stmts = [] }: ParseResult = parseSync(sql);
    return stmts.flatMap(({ stmt }) => stmt ?? []);
  } catch {
    return undefined;
  }
}
