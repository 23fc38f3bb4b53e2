// Compares the matrix with a live database, in both directions. Each difference comes with the SQL that mends it.

import type { Pool } from '../../src/pool.ts';
import { withCatalogPath } from '../../src/sql/catalog-path.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import type { Transaction } from '../../src/transaction.ts';
import { readAccess } from './catalog.ts';
import { compareGrants, wantedGrants } from './grants.ts';
import type { Change, LiveAccess } from './live-access.ts';
import { type DatabaseAccess, matrixRoles, relationName } from './matrix.ts';
import { compareFilters, compareRowPolicies } from './row-policies.ts';
import { compareForeign, noteAccess } from './server-grants.ts';

/** The order of changes: an owner must exist before it gets objects, and a change of owner rewrites the grants. */
export const stages = ['role', 'owner', 'grant'] as const;

export interface AccessDifference extends Change {
  readonly stage: (typeof stages)[number];
}

export interface AccessReport {
  readonly differences: readonly AccessDifference[];
  /** Findings about things that the matrix does not cover. */
  readonly notes: readonly string[];
}

/** The differences between a database and the matrix; empty if there are none. Read-only. */
export async function checkAccess(db: Pool, matrix: DatabaseAccess): Promise<readonly AccessDifference[]> {
  return (await examineAccess(db, matrix)).differences;
}

/** Like `checkAccess`, with notes for the operator. */
export function examineAccess(db: Pool, matrix: DatabaseAccess): Promise<AccessReport> {
  const examine = async (transaction: Transaction) => {
    const live = await readAccess(transaction, matrix);
    return { differences: compareAccess(matrix, live), notes: noteAccess(live) };
  };
  return withCatalogPath(db, examine, { readOnly: true });
}

export function compareAccess(matrix: DatabaseAccess, live: LiveAccess): AccessDifference[] {
  const staged = (stage: AccessDifference['stage'], changes: readonly Change[]) =>
    changes.map((change) => ({ stage, ...change }));
  return [
    ...staged('role', [...compareRoles(matrix, live), ...compareMemberships(live)]),
    ...staged('owner', compareOwners(matrix, live)),
    ...staged('grant', [
      ...compareGrants(wantedGrants(matrix, live), live.grants, matrix.owner),
      ...compareForeign(matrix, live),
      ...compareSettings(matrix, live),
      ...compareRowSecurity(matrix, live),
      ...compareViews(matrix, live),
      ...compareRowPolicies(matrix, live),
      ...compareFilters(live),
      ...comparePaths(live),
      ...compareJobs(live),
    ]),
  ];
}

const exists = (live: LiveAccess, role: string) => live.roles.some(({ name }) => name === role);

function compareRoles(matrix: DatabaseAccess, live: LiveAccess): Change[] {
  const missing = matrixRoles(matrix).filter((role) => !exists(live, role));
  return [
    ...missing.map((role) => ({
      what: `the role ${role} does not exist`,
      mend: `CREATE ROLE ${quoteIdentifier(role)} LOGIN`,
    })),
    ...live.roles
      .filter(({ wrongAttributes }) => wrongAttributes.length > 0)
      .map(({ name, wrongAttributes }) => ({
        what: `the role ${name} should be ${wrongAttributes.join(', ')}`,
        mend: `ALTER ROLE ${quoteIdentifier(name)} ${wrongAttributes.join(' ')}`,
      })),
  ];
}

function compareMemberships({ memberships }: LiveAccess): Change[] {
  return memberships.map(({ role, member, grantor }) => ({
    what: `${member} is a member of ${role}`,
    mend: `REVOKE ${quoteIdentifier(role)} FROM ${quoteIdentifier(member)} GRANTED BY ${quoteIdentifier(grantor)} CASCADE`,
    loser: member,
  }));
}

function compareOwners({ owner }: DatabaseAccess, live: LiveAccess): Change[] {
  return live.objects
    .filter((object) => object.owner !== owner && !ownedByDatabaseOwner(object))
    .map(({ target, owner: current, kind, name }) => {
      const wanted = kind === 'schema' && name === 'public' ? 'pg_database_owner' : owner;
      return {
        what: `${target} belongs to ${current} instead of ${wanted}`,
        mend: `ALTER ${target} OWNER TO ${quoteIdentifier(wanted)}`,
      };
    });
}

// By default, the schema public belongs to pg_database_owner. The database owner is an implicit member of this role.
const ownedByDatabaseOwner = ({ kind, name, owner }: LiveAccess['objects'][number]) =>
  kind === 'schema' && name === 'public' && owner === 'pg_database_owner';

function compareSettings({ access }: DatabaseAccess, live: LiveAccess): Change[] {
  const database = quoteIdentifier(live.database);
  const wanted = access
    .filter(({ role }) => exists(live, role))
    .flatMap(({ role, settings = {} }) =>
      Object.entries(settings).map(([name, value]) => ({ role, name, value })),
    );
  const same = (one: (typeof wanted)[number], other: (typeof wanted)[number]) =>
    one.role === other.role && one.name === other.name;
  const alter = (role: string) => `ALTER ROLE ${quoteIdentifier(role)} IN DATABASE ${database}`;
  const own = live.settings.filter(({ here, role }) => here && role !== '');
  const missing = wanted
    .filter((rule) => own.find((found) => same(rule, found))?.value !== rule.value)
    .map(({ role, name, value }) => ({
      what: `${name} of ${role} is not ${value}`,
      mend: `${alter(role)} SET ${name} = ${value}`,
    }));
  const extra = own
    .filter((found) => !wanted.some((rule) => same(rule, found)))
    .map(({ role, name, value }) => ({
      what: `${name} of ${role} is set to ${value}`,
      mend: `${alter(role)} RESET ${name}`,
    }));
  const wider = live.settings
    .filter((found) => !own.includes(found))
    .map(({ role, here, name, value }) => ({
      what: `${name} of ${role === '' ? 'all roles' : role} is set to ${value}${here ? '' : ' in all databases'}`,
      mend: here
        ? `ALTER DATABASE ${database} RESET ${name}`
        : `ALTER ROLE ${role === '' ? 'ALL' : quoteIdentifier(role)} RESET ${name}`,
      loser: role === '' ? 'PUBLIC' : role,
    }));
  return [...missing, ...extra, ...wider];
}

function compareRowSecurity({ rowSecurity }: DatabaseAccess, live: LiveAccess): Change[] {
  return live.relations
    .filter(({ relkind }) => relkind === 'r' || relkind === 'p')
    .flatMap(({ schema, name, target, rowSecurity: found }) => {
      const wanted = schema === 'public' && rowSecurity.has(name);
      if (wanted === found) return [];
      return [
        {
          what: `row security of ${schema}.${name} is ${found ? 'on' : 'off'}`,
          mend: `ALTER ${target} ${wanted ? 'ENABLE' : 'DISABLE'} ROW LEVEL SECURITY`,
        },
      ];
    });
}

/** A view in a rule must be a security barrier and, if the rule allows INSERT, check the inserted rows. */
function compareViews({ access }: DatabaseAccess, live: LiveAccess): Change[] {
  const rules = new Map(
    access.flatMap(({ relations = [] }) =>
      relations.map(([relation, privileges]) => [relationName(relation), privileges] as const),
    ),
  );
  return live.relations.flatMap(({ schema, name, relkind, target, options }) => {
    const privileges = rules.get(`${schema}.${name}`);
    if (!privileges || relkind !== 'v') return [];
    const wanted = [
      'security_barrier=true',
      ...(privileges.includes('INSERT') ? ['check_option=cascaded'] : []),
    ];
    const missing = wanted.filter((option) => !options.includes(option));
    if (missing.length === 0) return [];
    return [
      {
        what: `${schema}.${name} is without ${missing.join(', ')}`,
        mend: `ALTER ${target} SET (${missing.join(', ')})`,
      },
    ];
  });
}

/** A SECURITY DEFINER routine has its owner's rights, so its names must not depend on the caller's search_path. */
function comparePaths({ routines, brokenPaths }: LiveAccess): Change[] {
  const open = routines.filter(({ ownersRights, settled }) => ownersRights && !settled);
  return [
    ...open.map(({ schema, target }) => ({
      what: `${target} runs with the rights of its owner and the search_path of its caller`,
      // pg_temp last: a temporary table of the caller must not shadow ours.
      mend: `ALTER ${target} SET search_path = pg_catalog, ${quoteIdentifier(schema)}, pg_temp`,
    })),
    ...brokenPaths.map((target) => ({
      what: `${target} has a search_path that an earlier "access apply" set`,
      mend: `ALTER ${target} RESET search_path`,
    })),
  ];
}

function compareJobs({ jobs, objects }: LiveAccess): Change[] {
  const owner = objects.find(({ kind }) => kind === 'database')?.owner ?? '';
  return jobs.map(({ id, owner: current, table, tell }) => ({
    what: `TimescaleDB's job ${id} runs as ${current} instead of ${owner}`,
    // ALTER TABLE … OWNER TO and alter_job do not change the owner of a job; alter_job notifies the scheduler.
    mend: `UPDATE ${table} SET owner = '${quoteIdentifier(owner).replaceAll("'", "''")}'::regrole WHERE id = ${id}; SELECT ${tell}`,
  }));
}
