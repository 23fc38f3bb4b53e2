// Expands the rules of the matrix to grants on the objects of a database, and compares them with the live grants.
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import { extensionGrants } from './extension.ts';
import { type Grant, grant } from './grant.ts';
import type { Change, LiveAccess, LiveRelation } from './live-access.ts';
import {
  type Access,
  type DatabaseAccess,
  type RelationPrivilege,
  relationName,
  type TablePrivilege,
} from './matrix.ts';

/** Every grant that the matrix requires; all others are forbidden. */
export function wantedGrants(matrix: DatabaseAccess, live: LiveAccess): Grant[] {
  const existing = new Set(live.roles.map(({ name }) => name));
  const rules = matrix.access.filter(({ role }) => existing.has(role));
  const database = live.objects.filter(({ kind }) => kind === 'database');
  return [
    ...rules.flatMap((rule) => [
      ...database.map(({ target }) => grant(target, rule.role, 'CONNECT')),
      ...schemaGrants(rule, live),
      ...live.relations.flatMap((relation) => relationGrants(rule, relation, matrix)),
      ...routineGrants(rule, live),
    ]),
    ...live.routines
      .filter(({ constructs }) => constructs)
      .map(({ target }) => grant(target, 'PUBLIC', 'EXECUTE')),
    ...(existing.has(matrix.owner) ? rules.flatMap((rule) => defaultGrants(rule, matrix)) : []),
    ...(existing.has(matrix.owner) ? extensionGrants(rules, live.extensionObjects, matrix.owner) : []),
  ];
}

/** The table of migrations, which assertMigrated reads when an application starts. */
const migrationsTable = 'drizzle.__drizzle_migrations';

function schemaGrants({ role, relations = [] }: Access, live: LiveAccess): Grant[] {
  const named = relations.map(([relation]) => relationName(relation).split('.', 1)[0]);
  const wanted = new Set(['public', migrationsTable.split('.', 1)[0], ...named]);
  return live.objects
    .filter(({ kind, name }) => kind === 'schema' && wanted.has(name))
    .map(({ target }) => grant(target, role, 'USAGE'));
}

function relationGrants(rule: Access, relation: LiveRelation, { secrets }: DatabaseAccess): Grant[] {
  const { schema, name, relkind, grantTarget } = relation;
  if (relkind === 'S') return sequenceGrants(rule, relation);
  return privilegesOn(rule, `${schema}.${name}`).flatMap((privilege) => {
    const [verb, ...columns] = typeof privilege === 'string' ? [privilege] : privilege;
    const isSecret = (column: string) => schema === 'public' && secrets.has(`${name}.${column}`);
    const open =
      verb === 'SELECT' && !rule.secrets && relation.columns.some(isSecret)
        ? relation.columns.filter((column) => !isSecret(column))
        : columns;
    if (open.length === 0) return [grant(grantTarget, rule.role, verb)];
    return open.map((column) => grant(grantTarget, rule.role, verb, column));
  });
}

function privilegesOn(
  { relations = [], everyTable = [] }: Access,
  name: string,
): readonly RelationPrivilege[] {
  if (name === migrationsTable) return ['SELECT'];
  const single = relations.find(([relation]) => relationName(relation) === name);
  return single?.[1] ?? (name.startsWith('public.') ? everyTable : []);
}

const inserts = ({ everyTable = [] }: Access) => everyTable.includes('INSERT');

function sequenceGrants(rule: Access, { schema, grantTarget }: LiveRelation): Grant[] {
  if (schema !== 'public' || !inserts(rule)) return [];
  return ['USAGE', 'SELECT'].map((privilege) => grant(grantTarget, rule.role, privilege));
}

function routineGrants({ role, functions }: Access, live: LiveAccess): Grant[] {
  if (!functions) return [];
  return live.routines
    .filter(({ schema, constructs }) => schema === 'public' && !constructs)
    .map(({ target }) => grant(target, role, 'EXECUTE'));
}

/**
 * Default privileges on objects of later migrations. If the schema has secret columns, roles without `secrets` get no
 * default privileges on tables: `apply` grants the columns of each new table.
 */
function defaultGrants(rule: Access, { owner, secrets }: DatabaseAccess): Grant[] {
  const on = (target: string, privileges: readonly string[]) =>
    privileges.map((privilege) => ({
      ...grant(target, rule.role, privilege),
      defaultPrivilegesOf: owner,
      inSchema: 'public',
    }));
  const tables: readonly TablePrivilege[] = secrets.size === 0 || rule.secrets ? (rule.everyTable ?? []) : [];
  return [
    ...on('TABLES', tables),
    ...on('SEQUENCES', inserts(rule) ? ['USAGE', 'SELECT'] : []),
    ...on('FUNCTIONS', rule.functions ? ['EXECUTE'] : []),
  ];
}

/** Returns changes that revoke extra grants and grant options or grant missing ones, grouped by role and target. */
export function compareGrants(wanted: readonly Grant[], found: readonly Grant[], owner: string): Change[] {
  const key = ({ defaultPrivilegesOf, inSchema, target, column, grantee, privilege }: Grant) =>
    JSON.stringify([defaultPrivilegesOf, inSchema, target, column, grantee, privilege]);
  const wantedKeys = new Set(wanted.map(key));
  const foundKeys = new Set(found.map(key));
  // Skip grants to the owner: a REVOKE after the change of owner would remove the new owner's privileges.
  const extra = found.filter((live) => !wantedKeys.has(key(live)) && live.grantee !== owner);
  const passedOn = found.filter((live) => live.grantable && wantedKeys.has(key(live)));
  const missing = wanted.filter((rule) => !foundKeys.has(key(rule)));
  return [
    ...groupGrants(extra).map((group) => describe(group, 'has', 'REVOKE')),
    ...groupGrants(passedOn).map((group) => describe(group, 'may pass on', 'REVOKE GRANT OPTION FOR')),
    ...groupGrants(missing).map((group) => describe(group, 'lacks', 'GRANT')),
  ];
}

/** The grants of one change. They are on the same target, or on targets of the same bundle. */
type GrantGroup = [Grant, ...Grant[]];

function groupGrants(grants: readonly Grant[]): GrantGroup[] {
  const groups = new Map<string, GrantGroup>();
  for (const one of grants) {
    const { defaultPrivilegesOf, inSchema, target, column, grantee, bundle, privilege } = one;
    const about = bundle === undefined ? [target] : [bundle, privilege];
    const key = JSON.stringify([defaultPrivilegesOf, inSchema, about, grantee, column === '']);
    const group = groups.get(key);
    if (group) group.push(one);
    else groups.set(key, [one]);
  }
  return [...groups.values()];
}

/** Returns text such as `SELECT ("id", "email"), INSERT`. */
function listPrivileges(grants: readonly Grant[]): string {
  const columns = new Map<string, string[]>();
  for (const { privilege, column } of grants) {
    const onColumns = columns.get(privilege) ?? [];
    columns.set(privilege, column === '' ? onColumns : [...onColumns, column]);
  }
  return [...columns]
    .map(([privilege, names]) =>
      names.length > 0 ? `${privilege} (${names.map(quoteIdentifier).join(', ')})` : privilege,
    )
    .join(', ');
}

function describe(group: GrantGroup, verb: string, command: string): Change {
  const { defaultPrivilegesOf, inSchema, grantee, bundle } = group[0];
  const privileges = listPrivileges(group);
  const { named, listed: target } = nameTargets([...new Set(group.map((one) => one.target))], bundle);
  const role = grantee === 'PUBLIC' ? 'PUBLIC' : quoteIdentifier(grantee);
  const whom = command === 'GRANT' ? `TO ${role}` : `FROM ${role} CASCADE`;
  const statement = `${command} ${privileges} ON ${target} ${whom}`;
  const loser = command === 'GRANT' ? {} : { loser: grantee };
  if (defaultPrivilegesOf === '') {
    const ofExtension = bundle === undefined ? {} : { ofExtension: true };
    return {
      what: `${grantee} ${verb} ${privileges} on ${named}`,
      mend: statement,
      ...loser,
      ...ofExtension,
    };
  }
  const schema = inSchema === '' ? '' : ` IN SCHEMA ${quoteIdentifier(inSchema)}`;
  return {
    what: `${grantee} ${verb} ${privileges} on later ${target} of ${defaultPrivilegesOf}${inSchema && ` in ${inSchema}`}`,
    mend: `ALTER DEFAULT PRIVILEGES FOR ROLE ${quoteIdentifier(defaultPrivilegesOf)}${schema} ${statement}`,
    ...loser,
  };
}

/** `named` is for messages: a long list becomes a count and an example. `listed` is SQL: `ROUTINE a(int), b(int)`. */
function nameTargets(targets: readonly string[], bundle = ''): { named: string; listed: string } {
  const [first = '', ...others] = targets;
  const keyword = `${first.split(' ', 1)[0]} `;
  const listed = [first, ...others.map((target) => target.slice(keyword.length))].join(', ');
  return { named: others.length > 1 ? `${targets.length} ${bundle}, such as ${first}` : listed, listed };
}
