// Findings about drift: the live catalog against a scratch database that only the migrations have touched.
import { randomBytes } from 'node:crypto';
import { type DatabaseKey, definitionOf } from '../../src/databases.ts';
import { sqlState, TimescaleMissingError } from '../../src/errors.ts';
import { getMigrationStatus, migrate } from '../../src/migrations/index.ts';
import type { MigrationState } from '../../src/migrations/state.ts';
import type { Pool } from '../../src/pool.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import { comparePolicies } from '../../src/tracking/policies.ts';
import { isCheckedByMatrix } from '../access/environment.ts';
import { readCatalog } from '../catalog/catalog.ts';
import { withScratchDatabase } from '../cli/pools.ts';
import { type Difference, mendDrift } from './drift-mend.ts';
import { type Check, error, type Found, warning } from './finding.ts';

export const driftChecks: readonly Check[] = [
  { name: 'drift', looksAt: 'what was changed by hand, past the migrations', run: findDrift },
];

// Kinds that another check judges, with a mend of its own: policies are compared with their declaration.
const judgedElsewhere: ReadonlySet<string> = new Set(['policy', 'compression']);
// Of a database that the access matrix arranges, its check judges the grants.
const judgedByAccess: ReadonlySet<string> = new Set([...judgedElsewhere, 'grant']);

async function findDrift(db: Pool, key: DatabaseKey): Promise<Found[]> {
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
    // 42501 insufficient_privilege: CREATE DATABASE, or CREATE EXTENSION inside of it.
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

/** The scratch database gets what is applied here, so that pending migrations do not count as drift. */
function obstacleOf({ edited, orphaned, outOfOrder, problems }: MigrationState): string | undefined {
  if (problems.length > 0) return 'the folder of migrations is not sound';
  if (edited.length > 0) return 'an applied migration was edited since';
  if (orphaned.length > 0) return 'this checkout is older than the database';
  if (outOfOrder.length > 0) return 'migrations are out of order';
  return undefined;
}

async function catalogOfMigrations(key: DatabaseKey, { applied }: MigrationState): Promise<string[]> {
  const name = `atriz_doctor_${key}_${randomBytes(4).toString('hex')}`;
  const last = applied.at(-1);
  return withScratchDatabase(key, name, async (scratch) => {
    if (last) await migrate(scratch, key, { to: last.tag });
    return readCatalog(scratch);
  });
}

/** Relations of which the check of policies says already what was changed. */
async function relationsOfPolicies(db: Pool, key: DatabaseKey): Promise<ReadonlySet<string>> {
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

/** What differs, without what only follows from something that is named already. */
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
  // PostgreSQL writes its own default privileges down only beside others, and the owner's with them.
  for (const [kind, privilege] of builtInDefaults) {
    const isWritten = [...objects.keys()].some((name) => name.endsWith(` by default on ${kind}`));
    if (!isWritten && privilege) objects.set(`grant PUBLIC by default on ${kind}`, privilege);
    objects.delete(`grant OWNER by default on ${kind}`);
  }
  return objects;
}

/** What everybody may do with new objects of a kind, unless a default privilege for all schemas says otherwise. */
const builtInDefaults = [
  ['TABLES', undefined],
  ['SEQUENCES', undefined],
  ['ROUTINES', 'EXECUTE'],
  ['TYPES', 'USAGE'],
  ['SCHEMAS', undefined],
] as const;

/** A table comes and goes with its columns, an index with its constraint, a grant with its object. */
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
      // Bare in its own line, quoted where it needs that in the names of what is in it.
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

/** A body of a function would fill the screen; --json has it whole in the mend. */
function oneLine(text: string): string {
  const line = text.replace(/\s+/g, ' ').trim();
  return line.length > 160 ? `${line.slice(0, 157)}…` : line;
}
