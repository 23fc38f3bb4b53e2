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
  /** Databases that must be migrated before this one. */
  readonly dependsOn: readonly string[];
  /** Whether it belongs to an application, and `DATABASE_URL` may name it. */
  readonly application: boolean;
  /** Extensions that the server must offer, beyond PostgreSQL's own. */
  readonly extensions: readonly 'timescaledb'[];
  /** How often to back it up. A database that is not critical is backed up only on request. */
  readonly backup: { readonly every: 'day' | 'week'; readonly critical: boolean };
  /** Drizzle's schema objects. The file is schema/<key>.ts, its migrations are in drizzle/<key>/. */
  readonly schema: Record<string, unknown>;
}

/** In the order in which they are created and migrated. */
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

/** The definition of one database, without the literal types of the registry. */
export const definitionOf = (key: DatabaseKey): DatabaseDefinition => databases[key];

export const isDatabaseKey = (text: string): text is DatabaseKey => Object.hasOwn(databases, text);
