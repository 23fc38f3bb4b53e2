// Findings about drift: compares the live catalog with that of a scratch database made by the migrations.
import { randomBytes } from 'node:crypto';
import { type DatabaseTarget, definitionOf, keyOf } from '../../src/databases.ts';
import { sqlState, TimescaleMissingError } from '../../src/errors.ts';
import { getMigrationStatus, migrate } from '../../src/migrations/index.ts';
import type { MigrationState } from '../../src/migrations/state.ts';
import type { Pool } from '../../src/pool.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import { comparePolicies } from '../../src/tracking/compare-policies.ts';
import { isCheckedByMatrix } from '../access/environment.ts';
import { readCatalog } from '../catalog/catalog.ts';
import { withScratchDatabase } from '../cli/pools.ts';
import { type Check, error, type Found, warning } from './finding.ts';

export const driftChecks: readonly Check[] = [
  {
    name: 'drift',
    usesScratch: true,
    looksAt: 'what was changed by hand, past the migrations',
    run: findDrift,
  },
];

// The policies check reports differences of these kinds, with its own mends.
const judgedElsewhere: ReadonlySet<string> = new Set(['policy', 'compression']);
// If the access matrix applies to the database, the access check reports differences of grants.
const judgedByAccess: ReadonlySet<string> = new Set([...judgedElsewhere, 'grant']);

async function findDrift(db: Pool, key: DatabaseTarget): Promise<Found[]> {
  const state = await getMigrationStatus(db, key);
  const obstacle = obstacleOf(state);
  if (obstacle) return [warning(`drift was not checked, because ${obstacle}`, `npm run db:status -- ${key}`)];
  try {
    const wanted = await catalogOfMigrations(key, state);
    const differences = compareCatalogs(wanted, await readCatalog(db));
    const mended = await relationsOfPolicies(db, key);
    const elsewhere = (await isCheckedByMatrix(db, key)) ? judgedByAccess : judgedElsewhere;
    return differences
      .filter(({ kind, name }) => !elsewhere.has(kind) && !(mended.has(name) && isOfTimescale(kind)))
      .map((difference) => error(describe(difference), ...mendDrift(difference, key)));
  } catch (failure) {
    // 42501 insufficient_privilege: the role may not create databases, or extensions in them.
    if (sqlState(failure) !== '42501') throw failure;
    return [
      warning(
        `drift was not checked, because this role may not make a scratch database (${(failure as Error).message})`,
        `ALTER ROLE ${quoteIdentifier(await roleOf(db))} CREATEDB`,
        'or run the doctor as another role',
      ),
    ];
  }
}

export async function roleOf(db: Pool): Promise<string> {
  const { rows } = await db.query<{ role: string }>('SELECT current_user AS role');
  return rows[0]?.role ?? '';
}

/** Why drift cannot be checked. Pending migrations do not matter, because only applied ones are compared. */
function obstacleOf({ edited, orphaned, outOfOrder, problems }: MigrationState): string | undefined {
  if (problems.length > 0) return 'the folder of migrations is not sound';
  if (edited.length > 0) return 'an applied migration was edited since';
  if (orphaned.length > 0) return 'this checkout is older than the database';
  if (outOfOrder.length > 0) return 'migrations are out of order';
  return undefined;
}

async function catalogOfMigrations(key: DatabaseTarget, { applied }: MigrationState): Promise<string[]> {
  const name = `atriz_doctor_${keyOf(key)}_${randomBytes(4).toString('hex')}`;
  const last = applied.at(-1);
  return withScratchDatabase(key, name, async (scratch) => {
    if (last) await migrate(scratch, key, { to: last.tag });
    return readCatalog(scratch);
  });
}

/** Relations whose differences the check of policies reports. */
async function relationsOfPolicies(db: Pool, key: DatabaseTarget): Promise<ReadonlySet<string>> {
  if (!definitionOf(key).extensions.includes('timescaledb')) return new Set();
  try {
    const found = await comparePolicies(db);
    return new Set(found.flatMap(({ relation }) => [relation, `public.${relation}`]));
  } catch (failure) {
    if (failure instanceof TimescaleMissingError) return new Set();
    throw failure;
  }
}

const isOfTimescale = (kind: string) => ['hypertable', 'aggregate', 'relation'].includes(kind);

/** The differences between two catalogs, without those that another difference causes. */
function compareCatalogs(wanted: readonly string[], found: readonly string[]): Difference[] {
  const [before, now] = [byObject(wanted), byObject(found)];
  const differences = [...new Set([...before.keys(), ...now.keys()])]
    .filter((object) => before.get(object) !== now.get(object))
    .sort()
    .map((object) => {
      const space = object.indexOf(' ');
      return {
        kind: object.slice(0, space),
        name: object.slice(space + 1),
        wanted: before.get(object),
        found: now.get(object),
      };
    });
  return differences.filter((difference) => !differences.some((other) => causes(other, difference)));
}

function byObject(lines: readonly string[]): Map<string, string> {
  const objects = new Map(
    lines.map((line) => {
      const colon = line.indexOf(': ');
      return [line.slice(0, colon), line.slice(colon + 2)] as const;
    }),
  );
  // The catalog lists the built-in default privileges of PUBLIC and the owner only after they were altered. If
  // none is listed for a kind of object, those of PUBLIC are added. Those of the owner are removed.
  for (const [kind, privilege] of builtInDefaults) {
    const isWritten = [...objects.keys()].some((name) => name.endsWith(` by default on ${kind}`));
    if (!isWritten && privilege) objects.set(`grant PUBLIC by default on ${kind}`, privilege);
    objects.delete(`grant OWNER by default on ${kind}`);
  }
  return objects;
}

/** Kind of object → the built-in default privilege of PUBLIC on new objects. */
const builtInDefaults = [
  ['TABLES', undefined],
  ['SEQUENCES', undefined],
  ['ROUTINES', 'EXECUTE'],
  ['TYPES', 'USAGE'],
  ['SCHEMAS', undefined],
] as const;

/** Whether `effect` results from `cause`, such as a column from its table, or a grant from its object. */
function causes(cause: Difference, effect: Difference): boolean {
  if (cause === effect || (cause.wanted === undefined) === (cause.found === undefined)) return false;
  const definition = effect.wanted ?? effect.found ?? '';
  switch (cause.kind) {
    case 'relation':
      return (
        effect.name.startsWith(`${cause.name}.`) ||
        (['comment', 'sequence'].includes(effect.kind) && effect.name === cause.name) ||
        (effect.kind === 'index' && definition.includes(` ON ${cause.name} `)) ||
        (effect.kind === 'grant' &&
          new RegExp(`^\\S+ on \\w+ ${literal(cause.name)}(\\.|$)`).test(effect.name))
      );
    case 'constraint':
      return effect.kind === 'index' && cause.name.split('.').at(-1) === effect.name.split('.').at(-1);
    case 'column':
      return (
        (effect.kind === 'comment' && effect.name === cause.name) ||
        (effect.kind === 'grant' && effect.name.endsWith(` on COLUMN ${cause.name}`))
      );
    case 'function':
      return effect.kind === 'grant' && effect.name.endsWith(` on ROUTINE ${cause.name}`);
    case 'schema':
      // The catalog names the schema itself unquoted, but quotes it if necessary in the names of its objects.
      return [cause.name, quoteIdentifier(cause.name)].some(
        (schema) => effect.name.startsWith(`${schema}.`) || effect.name.endsWith(` on SCHEMA ${schema}`),
      );
    default:
      return false;
  }
}

const literal = (text: string) => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

function describe({ kind, name, wanted, found }: Difference): string {
  const object = `${kind} ${name}`;
  if (wanted === undefined) return `${object} is in no migration${found ? `: ${oneLine(found)}` : ''}`;
  if (found === undefined)
    return `${object} is gone${wanted ? `; the migrations say ${oneLine(wanted)}` : ''}`;
  return `${object} is ${oneLine(found) || 'empty'}; the migrations say ${oneLine(wanted) || 'nothing'}`;
}

/** Shortens a definition for a sentence. A mend that recreates the object contains it in full. */
function oneLine(text: string): string {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length > 160 ? `${line.slice(0, 157)}…` : line;
}

/** An object that only one of the two catalogs has, or that they define differently. */
export interface Difference {
  /** First word of a line of `readCatalog`: `column`, `index`, `grant` … */
  readonly kind: string;
  readonly name: string;
  /** Definition by the migrations; undefined if they do not create the object. */
  readonly wanted: string | undefined;
  /** Definition in the live database; undefined if the object does not exist. */
  readonly found: string | undefined;
}

/** The mend is SQL if it can be derived from the definitions, else the command that creates a migration. */
export function mendDrift(difference: Difference, key: DatabaseTarget): [mend: string, note?: string] {
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

/** Splits a name at its dots, but not inside quotes: `public."a.b".c` has three parts. */
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
      // The catalog lines have these names unquoted, such as uuid-ossp.
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

/** Adds the comment, because it is part of the catalog line: without it, the object would still differ. */
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
      // CREATE OR REPLACE keeps the existing comment.
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

/** Splits a catalog line of a function into its definition and comment. */
function functionOf(line: string): { statement?: string | undefined; comment: string } {
  const [, statement, comment = ''] = /^([\s\S]*\$function\$)\s*([\s\S]*)$/.exec(line) ?? [];
  return { statement, comment };
}

/** Splits a catalog line of a trigger. Its state is tgenabled: O enabled, D disabled, R replica, A always. */
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

/** The mend of a grant such as `reporting on TABLE public.users`. A mend for a column names table and column. */
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
