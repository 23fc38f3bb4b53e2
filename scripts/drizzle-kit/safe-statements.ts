// Rewrites the indexes and constraints that drizzle-kit generates for existing tables, so that they block no writes.

const name = '"((?:[^"]|"")+)"';
const table = `(?:${name}\\.)?${name}`;

// The forms in which drizzle-kit writes statements.
const createTable = new RegExp(`^CREATE TABLE (?:IF NOT EXISTS )?${table}`);
const createIndex = new RegExp(
  `^CREATE (UNIQUE )?INDEX (?:CONCURRENTLY )?(?:IF NOT EXISTS )?${name} ON ${table} USING`,
);
const addConstraint = new RegExp(`^ALTER TABLE ${table} ADD CONSTRAINT ${name} (CHECK|FOREIGN KEY)\\b`);

/** An object that a later migration creates, as drizzle-kit's snapshot names it. */
export interface MovedObject {
  /** With its schema: `public.users`. */
  readonly table: string;
  readonly kind: 'indexes' | 'checkConstraints' | 'foreignKeys';
  readonly name: string;
}

interface SafeStatements {
  /** Statements for the migration itself, which runs in a transaction. */
  readonly inside: readonly string[];
  /** Statements for a migration with `-- transaction: none`. */
  readonly outside: readonly string[];
  /** The objects that `outside` creates. */
  readonly moved: readonly MovedObject[];
}

/**
 * @param statements The statements of one migration, without the breakpoints.
 * @param hypertables The names of hypertables, with their schema.
 */
export function safeStatements(
  statements: readonly string[],
  hypertables: ReadonlySet<string>,
): SafeStatements {
  const created = new Set(
    statements.flatMap((text) => {
      const match = createTable.exec(text);
      return match ? [qualified(match[1], match[2])] : [];
    }),
  );
  const parts = statements.map((text): SafeStatements => {
    const object = addedObject(text);
    if (!object) return { inside: [text], outside: [], moved: [] };
    if (created.has(object.table)) return { inside: [inTransaction(text)], outside: [], moved: [] };
    const outside = hypertables.has(object.table) ? perChunk(text) : concurrently(text);
    if (outside) return { inside: [], outside, moved: [object] };
    return { inside: [accepted(inTransaction(text), object)], outside: [], moved: [] };
  });
  return {
    inside: parts.flatMap(({ inside }) => inside),
    outside: parts.flatMap(({ outside }) => outside),
    moved: parts.flatMap(({ moved }) => moved),
  };
}

const unescaped = (name = '') => name.replaceAll('""', '"');
const qualified = (schema: string | undefined, relation: string | undefined) =>
  `${unescaped(schema ?? 'public')}.${unescaped(relation)}`;

function addedObject(text: string): MovedObject | undefined {
  const index = createIndex.exec(text);
  if (index) return { table: qualified(index[3], index[4]), kind: 'indexes', name: unescaped(index[2]) };
  const constraint = addConstraint.exec(text);
  if (!constraint) return undefined;
  return {
    table: qualified(constraint[1], constraint[2]),
    kind: constraint[4] === 'CHECK' ? 'checkConstraints' : 'foreignKeys',
    name: unescaped(constraint[3]),
  };
}

/** Removes CONCURRENTLY, which PostgreSQL refuses in a transaction. An index on a new table blocks nobody. */
const inTransaction = (text: string) =>
  createIndex.test(text) ? text.replace('INDEX CONCURRENTLY ', 'INDEX ') : text;

// Adds no IF NOT EXISTS, which would accept the invalid index of an interrupted run.
function concurrently(text: string): string[] {
  if (createIndex.test(text)) return [inTransaction(text).replace('INDEX ', 'INDEX CONCURRENTLY ')];
  const [, schema, relation, constraint] = addConstraint.exec(text) ?? [];
  const on = schema === undefined ? `"${relation}"` : `"${schema}"."${relation}"`;
  return [text.replace(/;?\s*$/, ' NOT VALID;'), `ALTER TABLE ${on} VALIDATE CONSTRAINT "${constraint}";`];
}

/** Uses TimescaleDB's form of CONCURRENTLY. Returns undefined for unique indexes and constraints: they have none. */
function perChunk(text: string): string[] | undefined {
  const plain = inTransaction(text);
  const match = createIndex.exec(plain);
  if (!match || match[1]) return undefined;
  const end = endOfColumns(plain, match[0].length);
  const rest = plain.slice(end);
  const options = rest.startsWith(' WITH (')
    ? rest.replace(' WITH (', ' WITH (timescaledb.transaction_per_chunk, ')
    : ` WITH (timescaledb.transaction_per_chunk)${rest}`;
  return [
    '-- A hypertable has no CONCURRENTLY: this blocks the writes of one chunk at a time.\n' +
      `-- squawk-ignore require-concurrent-index-creation\n${plain.slice(0, end)}${options}`,
  ];
}

/** Returns the offset after the first pair of parentheses at or after `from`. */
function endOfColumns(text: string, from: number): number {
  let depth = 0;
  for (const match of text.slice(from).matchAll(/"(?:[^"]|"")*"|'(?:[^']|'')*'|[()]/g)) {
    if (match[0] === '(') depth += 1;
    if (match[0] === ')') depth -= 1;
    if (match[0] === ')' && depth === 0) return from + match.index + 1;
  }
  return text.length;
}

/** Adds the reason and a squawk-ignore to a statement that TimescaleDB must run in one step. */
function accepted(text: string, { kind }: MovedObject): string {
  const rules = {
    indexes: 'require-concurrent-index-creation',
    checkConstraints: 'constraint-missing-not-valid',
    foreignKeys: 'constraint-missing-not-valid, adding-foreign-key-constraint',
  };
  const why =
    kind === 'indexes'
      ? 'A unique index of a hypertable has no form that lets writes through.'
      : 'TimescaleDB cannot validate a constraint later where a hypertable has compression.';
  return `-- ${why}\n-- squawk-ignore ${rules[kind]}\n${text}`;
}
