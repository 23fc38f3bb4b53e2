// The access matrix: which role may do what in which database. apply, check and show all read it.
import { getTableName } from 'drizzle-orm';
import { getTableConfig, type PgColumn, PgTable } from 'drizzle-orm/pg-core';
import * as core from '../../schema/core.ts';
import { locationSources, locationWriters } from '../../schema/tracking.ts';
import {
  type DatabaseKey,
  type DatabaseTarget,
  databaseKeys,
  definitionOf,
  keyOf,
} from '../../src/databases.ts';

export type TablePrivilege = 'SELECT' | 'INSERT' | 'UPDATE' | 'DELETE';
/** On the whole relation, or on some columns of it. */
export type RelationPrivilege = TablePrivilege | readonly [TablePrivilege, ...columns: string[]];
/** A table of the schema public, or `schema.name`. */
type Relation = PgTable | string;

/** Privileges of a role in one database, in addition to CONNECT. Everything else is forbidden. */
export interface Access {
  readonly role: string;
  /** What the role may do, as a text for `db:access show`. */
  readonly may: string;
  /** On every table and view of the schema public, including those of later migrations. */
  readonly everyTable?: readonly TablePrivilege[];
  /** Privileges on single relations. They replace those of `everyTable`. */
  readonly relations?: readonly (readonly [Relation, readonly RelationPrivilege[]])[];
  /** May also read the secret columns of the schema. */
  readonly secrets?: boolean;
  /** May execute the functions of the schema public. */
  readonly functions?: boolean;
  /** Default settings of the role's sessions in this database. */
  readonly settings?: Readonly<Record<string, string>>;
}

export interface DatabaseAccess {
  readonly key: DatabaseTarget;
  /** Owns the database and all that is in it. Migrations and TimescaleDB's jobs run as this role. */
  readonly owner: string;
  readonly access: readonly Access[];
  /** Secret columns of the schema public, as `table.column`. */
  readonly secrets: ReadonlySet<string>;
  /** Tables of the schema public that have row security. */
  readonly rowSecurity: ReadonlySet<string>;
}

const read = ['SELECT'] as const;
const write = ['SELECT', 'INSERT', 'UPDATE', 'DELETE'] as const;
const append = ['SELECT', 'INSERT'] as const;

const applications = databaseKeys.filter((key) => definitionOf(key).application);
const applicationRole = (key: string) => `${key}_app`;

/** Rules for databases that several roles share. An application's own database needs no entry. */
const shared: Partial<Record<DatabaseKey, readonly Access[]>> = {
  core: [
    ...applications.map((key) => ({
      role: applicationRole(key),
      may: 'reads users without secrets, roles, user_roles',
      relations: [
        [core.users, read],
        [core.roles, read],
        [core.userRoles, read],
      ] as const,
    })),
    {
      role: 'atriz_auth',
      may: 'verifies and issues: reads and writes, secrets too',
      everyTable: write,
      relations: [
        // No DELETE: the owner erases users, in all databases at once.
        [core.users, ['SELECT', 'INSERT', 'UPDATE']],
        [core.roles, read],
        [core.userMetadata, read],
      ],
      secrets: true,
      functions: true,
    },
  ],
  tracking: locationSources.map((key) => ({
    role: applicationRole(key),
    may: 'reads and adds its own points, reads its own hours',
    relations: [
      [`${key}.location_events`, append],
      [`${key}.location_hourly`, read],
      [locationWriters, write],
    ],
    // The application's views come first; public is for location_writers and TimescaleDB's functions.
    settings: { search_path: `${key}, public` },
  })),
};

/**
 * Names of the only TimescaleDB functions that PUBLIC may execute. Queries call them, or plans and real-time aggregates
 * call them with the reader's rights. They read only their arguments, except cagg_watermark, which returns the end of
 * the stored hours.
 */
export const extensionFunctions: ReadonlySet<string> = new Set([
  ...['time_bucket', 'time_bucket_ng', 'time_bucket_gapfill', 'locf', 'interpolate'],
  ...['first', 'last', 'histogram'],
  ...['generate_uuidv7', 'to_uuidv7', 'to_uuidv7_boundary'],
  ...['uuid_timestamp', 'uuid_timestamp_micros', 'uuid_version'],
  ...['cagg_watermark', 'to_timestamp', 'to_timestamp_without_timezone', 'to_date'],
  ...['bloom1_contains', 'bloom1_contains_any', 'bloom1_contains_any_hashes', 'bloom1_hash'],
]);

/**
 * The rules of one database, with the prefixed names of its roles.
 * @param foreign Applications whose rows are in another database of the same key: their roles get nothing here.
 */
export function accessMatrix(
  key: DatabaseTarget,
  rolePrefix = '',
  foreign: readonly string[] = [],
): DatabaseAccess {
  const { application, database, schema } = definitionOf(key);
  const own = { role: applicationRole(key), may: 'reads and writes', everyTable: write, functions: true };
  const strangers = foreign.map(applicationRole);
  const sharing = (shared[keyOf(key)] ?? []).filter(({ role }) => !strangers.includes(role));
  const access = [...(application ? [own] : []), ...sharing, reporting];
  const { secretColumns = [] } = schema as { secretColumns?: readonly PgColumn[] };
  const tables = Object.values(schema).filter((value) => value instanceof PgTable);
  return {
    key,
    owner: `${rolePrefix}${database}_owner`,
    access: access.map((rule) => ({ ...rule, role: rolePrefix + rule.role })),
    secrets: new Set(secretColumns.map((column) => `${getTableName(column.table)}.${column.name}`)),
    rowSecurity: new Set(
      tables
        .map((table) => getTableConfig(table))
        .filter(({ policies, enableRLS }) => enableRLS || policies.length > 0)
        .map(({ name }) => name),
    ),
  };
}

const reporting: Access = {
  role: 'atriz_reporting',
  may: 'reads, without secrets',
  everyTable: read,
  settings: { default_transaction_read_only: 'on' },
};

/** `public.users`, `mextrack.location_events`. */
export const relationName = (relation: Relation): string => {
  const name = relation instanceof PgTable ? getTableName(relation) : relation;
  return name.includes('.') ? name : `public.${name}`;
};

/** The roles that read every table. */
export const readersOf = (access: readonly Access[]): string[] =>
  access.filter(({ everyTable }) => everyTable?.includes('SELECT')).map(({ role }) => role);

/** The roles of one database, its owner first. */
export const matrixRoles = ({ owner, access }: DatabaseAccess): string[] => [
  owner,
  ...access.map(({ role }) => role),
];
