// The SQL that takes a change by hand back, or says where to write it down.
import type { DatabaseKey } from '../../src/databases.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';

/** An object that only one of the two catalogs has, or that they define differently. */
export interface Difference {
  /** First word of a line of `readCatalog`: `column`, `index`, `grant` … */
  readonly kind: string;
  readonly name: string;
  /** As the migrations make it; undefined where they know no such object. */
  readonly wanted: string | undefined;
  /** As it is in the live database; undefined where it is gone. */
  readonly found: string | undefined;
}

/** A mend and a note: SQL where the object can be made from its definition, else the way into a migration. */
export function mendDrift(difference: Difference, key: DatabaseKey): [mend: string, note?: string] {
  const { kind, wanted, found } = difference;
  const keep = `npm run migrate:create -- ${key} <name>`;
  if (kind === 'grant') return mendGrant(difference);
  if (wanted === undefined) {
    const drop = dropOf(difference);
    return drop
      ? [drop, `to keep it, write it into a migration: ${keep}`]
      : [keep, 'and write it down there'];
  }
  const restored = found === undefined ? createOf(difference) : alterOf(difference);
  return restored
    ? [restored]
    : [keep, 'and write it down there, or make it by hand what the migrations say'];
}

/** The parts of a quoted name: `public."a.b".c` has three. */
const partsOf = (name: string) => name.match(/("(?:[^"]|"")*"|[^.])+/g) ?? [name];
const last = (name: string) => partsOf(name).at(-1) ?? name;
const parent = (name: string) => partsOf(name).slice(0, -1).join('.');

const kindsOfRelation = [
  ['table', 'TABLE'],
  ['partitioned table', 'TABLE'],
  ['foreign table', 'FOREIGN TABLE'],
  ['sequence', 'SEQUENCE'],
  ['materialized view', 'MATERIALIZED VIEW'],
  ['view', 'VIEW'],
] as const;

function dropOf({ kind, name, found = '' }: Difference): string | undefined {
  switch (kind) {
    case 'column':
    case 'constraint':
      return `ALTER TABLE ${parent(name)} DROP ${kind.toUpperCase()} ${last(name)}`;
    case 'trigger':
    case 'rule':
      return `DROP ${kind.toUpperCase()} ${last(name)} ON ${parent(name)}`;
    case 'rowpolicy':
      return `DROP POLICY ${last(name)} ON ${parent(name)}`;
    case 'function':
      return `DROP ROUTINE ${name}`;
    case 'eventtrigger':
      return `DROP EVENT TRIGGER ${name}`;
    case 'extension':
    case 'schema':
      // The catalog has these names bare, such as uuid-ossp.
      return `DROP ${kind.toUpperCase()} ${quoteIdentifier(name)}`;
    case 'index':
    case 'type':
    case 'statistics':
      return `DROP ${kind.toUpperCase()} ${name}`;
    case 'relation': {
      const entry = kindsOfRelation.find(([words]) => found.startsWith(words));
      return entry && `DROP ${entry[1]} ${name}`;
    }
    default:
      return undefined;
  }
}

function createOf({ kind, name, wanted = '' }: Difference): string | undefined {
  switch (kind) {
    case 'column':
      return /(^| )(identity [ad]|generated)( |$)/.test(wanted)
        ? undefined
        : `ALTER TABLE ${parent(name)} ADD COLUMN ${last(name)} ${wanted}`;
    case 'constraint':
      return `ALTER TABLE ${parent(name)} ADD CONSTRAINT ${last(name)} ${wanted}`;
    case 'index':
    case 'statistics':
      return wanted;
    case 'trigger': {
      const { statement, comment } = triggerOf(wanted);
      return withComment(statement, `TRIGGER ${last(name)} ON ${parent(name)}`, comment);
    }
    case 'function': {
      const { statement, comment } = functionOf(wanted);
      return withComment(statement, `ROUTINE ${name}`, comment);
    }
    default:
      return undefined;
  }
}

/** The catalog has the comment in the same line: without it the object would still differ. */
const withComment = (statement: string | undefined, object: string, comment = ''): string | undefined =>
  statement && comment
    ? `${statement}; COMMENT ON ${object} IS '${comment.replaceAll("'", "''")}'`
    : statement;

function alterOf(difference: Difference): string | undefined {
  const { kind, name, wanted = '', found = '' } = difference;
  switch (kind) {
    case 'column':
      return alterColumn(name, columnOf(wanted), columnOf(found));
    case 'function': {
      // CREATE OR REPLACE keeps a comment.
      const isSurplus = functionOf(found).comment && !functionOf(wanted).comment;
      const create = createOf(difference);
      return create && isSurplus ? `${create}; COMMENT ON ROUTINE ${name} IS NULL` : create;
    }
    case 'trigger':
      return alterTrigger(difference);
    case 'index':
    case 'constraint':
      return [dropOf(difference), createOf(difference)].join('; ');
    case 'relation': {
      const [should, is] = [wanted, found].map((text) => / row security/.test(text));
      return should === is
        ? undefined
        : `ALTER TABLE ${name} ${should ? 'ENABLE' : 'DISABLE'} ROW LEVEL SECURITY`;
    }
    default:
      return undefined;
  }
}

interface Column {
  readonly type: string;
  readonly isRequired: boolean;
  readonly value: string | undefined;
}

function columnOf(definition: string): Column {
  const [, type = '', required, value] =
    /^(.*?)( not null)?(?: identity .)?(?: generated)?(?: default (.*))?$/s.exec(definition) ?? [];
  return { type, isRequired: required !== undefined, value };
}

function alterColumn(name: string, wanted: Column, found: Column): string {
  const column = `ALTER COLUMN ${last(name)}`;
  const changes = [
    wanted.type !== found.type && `${column} TYPE ${wanted.type} USING ${last(name)}::${wanted.type}`,
    wanted.isRequired !== found.isRequired && `${column} ${wanted.isRequired ? 'SET' : 'DROP'} NOT NULL`,
    wanted.value !== found.value &&
      `${column} ${wanted.value === undefined ? 'DROP DEFAULT' : `SET DEFAULT ${wanted.value}`}`,
  ];
  return `ALTER TABLE ${parent(name)} ${changes.filter(Boolean).join(', ')}`;
}

/** The definition and, after it, the comment. */
function functionOf(line: string): { statement?: string | undefined; comment: string } {
  const [, statement, comment = ''] = /^([\s\S]*\$function\$)\s*([\s\S]*)$/.exec(line) ?? [];
  return { statement, comment };
}

/** After the statement stands how the trigger is enabled: O as usual, D not, R and A on replicas. */
function triggerOf(line: string): { statement?: string | undefined; state: string; comment: string } {
  const [, statement, state = 'O', comment = ''] = /^(.*?\)) ([ODRA])(?: (.*))?$/s.exec(line) ?? [];
  return { statement, state, comment };
}
const enabled: Readonly<Record<string, string>> = {
  O: 'ENABLE',
  D: 'DISABLE',
  R: 'ENABLE REPLICA',
  A: 'ENABLE ALWAYS',
};

function alterTrigger(difference: Difference): string {
  const { name, wanted = '', found = '' } = difference;
  const [should, is] = [triggerOf(wanted), triggerOf(found)];
  if (should.statement === is.statement && should.state !== is.state) {
    return `ALTER TABLE ${parent(name)} ${enabled[should.state]} TRIGGER ${last(name)}`;
  }
  return [dropOf(difference), createOf(difference)].join('; ');
}

/** `reporting on TABLE public.users`: SELECT, UPDATE. A column's privileges are granted on its table. */
function mendGrant({ name, wanted, found }: Difference): [mend: string, note?: string] {
  const [, grantee = '', kind = '', object = ''] = /^(.*) on ([A-Z]+)(?: (.*))?$/s.exec(name) ?? [];
  const list = (text: string | undefined) => (text ? text.split(', ') : []);
  const surplus = list(found).filter((privilege) => !list(wanted).includes(privilege));
  const lacking = list(wanted).filter((privilege) => !list(found).includes(privilege));
  const both = (revoke: (privileges: string[]) => string, grant: (privileges: string[]) => string) =>
    [surplus.length > 0 && revoke(surplus), lacking.length > 0 && grant(lacking)].filter(Boolean).join('; ');
  const who = grantee.replace(/ by default$/, '');
  if (who !== grantee) {
    const alter = ['ALTER DEFAULT PRIVILEGES', object].filter(Boolean).join(' ');
    const mend = both(
      (privileges) => `${alter} REVOKE ${privileges.join(', ')} ON ${kind} FROM ${who}`,
      (privileges) => `${alter} GRANT ${privileges.join(', ')} ON ${kind} TO ${who}`,
    );
    return [mend, 'as the role that set it: \\ddp in psql names it'];
  }
  const role = who === 'OWNER' ? 'CURRENT_USER' : who;
  const isColumn = kind === 'COLUMN';
  const target = isColumn ? `TABLE ${parent(object)}` : `${kind} ${object}`;
  const columns = isColumn ? ` (${last(object)})` : '';
  const bare = (privileges: string[]) =>
    privileges.map((privilege) => privilege.replace(' with grant option', '') + columns).join(', ');
  const mend = both(
    (privileges) => `REVOKE ${bare(privileges)} ON ${target} FROM ${role}`,
    (privileges) => `GRANT ${bare(privileges)} ON ${target} TO ${role}`,
  );
  return [mend];
}
