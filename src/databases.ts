// The registry: one entry per database. Configurations, scripts and tests all read it.
import * as atriz from '../schema/atriz.ts';
import * as core from '../schema/core.ts';
import * as mextrack from '../schema/mextrack.ts';
import * as pshop from '../schema/pshop.ts';
import * as tracking from '../schema/tracking.ts';

export interface DatabaseDefinition {
  /** Name of the database on its server. */
  readonly database: string;
  /** Environment variable that holds its URL. */
  readonly urlVariable: string;
  /** Its content, in one line. */
  readonly holds: string;
  /** Keys of the databases that must be migrated before this one. */
  readonly dependsOn: readonly string[];
  /** Applications that may have their own database (`MEXTRACK_TRACKING_DATABASE_URL`) instead of this shared one. */
  readonly sources?: readonly string[];
  /** Whether it belongs to an application. If so, `DATABASE_URL` may name it. */
  readonly application: boolean;
  /** Extensions that the server must offer, beyond PostgreSQL's own. */
  readonly extensions: readonly 'timescaledb'[];
  /** How often to back it up. A database that is not critical is backed up only on request. */
  readonly backup: { readonly every: 'day' | 'week'; readonly critical: boolean };
  /** Drizzle's schema objects, from schema/<key>.ts. The migrations are in drizzle/<key>/. */
  readonly schema: Record<string, unknown>;
}

/** The databases, in the order in which they are created and migrated. */
export const databases = {
  core: {
    database: 'atriz_core',
    urlVariable: 'SHARED_DATABASE_URL',
    holds: 'users, tokens, roles',
    dependsOn: [],
    application: false,
    extensions: [],
    backup: { every: 'day', critical: true },
    schema: core,
  },
  tracking: {
    database: 'atriz_tracking',
    urlVariable: 'TRACKING_DATABASE_URL',
    holds: 'GPS points and their hourly aggregate',
    dependsOn: ['core'],
    sources: tracking.locationSources,
    application: false,
    extensions: ['timescaledb'],
    backup: { every: 'week', critical: false },
    schema: tracking,
  },
  atriz: {
    database: 'atriz_db',
    urlVariable: 'ATRIZ_DATABASE_URL',
    holds: 'profiles and preferences',
    dependsOn: ['core'],
    application: true,
    extensions: [],
    backup: { every: 'day', critical: true },
    schema: atriz,
  },
  mextrack: {
    database: 'mextrack_db',
    urlVariable: 'MEXTRACK_DATABASE_URL',
    holds: 'vehicles, drivers, assignments',
    dependsOn: ['core'],
    application: true,
    extensions: [],
    backup: { every: 'day', critical: true },
    schema: mextrack,
  },
  pshop: {
    database: 'pshop_db',
    urlVariable: 'PSHOP_DATABASE_URL',
    holds: 'products, orders, deliveries',
    dependsOn: ['core'],
    application: true,
    extensions: [],
    backup: { every: 'day', critical: true },
    schema: pshop,
  },
} as const satisfies Record<string, DatabaseDefinition>;

export type DatabaseKey = keyof typeof databases;
export type SchemaOf<Key extends DatabaseKey> = (typeof databases)[Key]['schema'];

export const databaseKeys = Object.keys(databases) as DatabaseKey[];

/**
 * One database of an environment: its key, or `<key>:<application>` for an application's own database, such as
 * `tracking:mextrack`. `tracking` alone is the database that the other applications share.
 */
export type DatabaseTarget =
  | DatabaseKey
  | {
      [Key in DatabaseKey]: (typeof databases)[Key] extends {
        sources: readonly (infer Source extends string)[];
      }
        ? `${Key}:${Source}`
        : never;
    }[DatabaseKey];

export const targetOf = (key: DatabaseKey, source?: string): DatabaseTarget =>
  (source === undefined ? key : `${key}:${source}`) as DatabaseTarget;

export const keyOf = (target: DatabaseTarget): DatabaseKey => target.split(':')[0] as DatabaseKey;

/** Applications that may have their own database for this key. */
export const sourcesOf = (key: DatabaseKey): readonly string[] => definitionOf(key).sources ?? [];

/** The application of a target: `mextrack` for `tracking:mextrack`, undefined for a key alone. */
export const applicationOf = (target: DatabaseTarget): string | undefined => target.split(':')[1];

/** The definition of one database. The target `tracking:mextrack` has the `urlVariable` of the application. */
export function definitionOf(target: DatabaseTarget): DatabaseDefinition {
  const definition: DatabaseDefinition = databases[keyOf(target)];
  const source = applicationOf(target);
  if (source === undefined) return definition;
  return { ...definition, urlVariable: `${source.toUpperCase()}_${definition.urlVariable}` };
}

export const isDatabaseKey = (text: string): text is DatabaseKey => Object.hasOwn(databases, text);

/** Every database that an environment may have. */
export const possibleTargets: readonly DatabaseTarget[] = databaseKeys.flatMap((key) => [
  key,
  ...sourcesOf(key).map((source) => targetOf(key, source)),
]);

export const isDatabaseTarget = (text: string): text is DatabaseTarget =>
  possibleTargets.some((target) => target === text);
