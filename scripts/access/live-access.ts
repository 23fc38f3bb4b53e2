// Types for the access that catalog.ts finds in a live database, and for the changes that the database needs.
import type { Grant } from './grant.ts';

/** One change that mends a difference between a database and the matrix. */
export interface Change {
  /** What is wrong, as a sentence without its full stop. */
  readonly what: string;
  /** SQL that mends it. */
  readonly mend: string;
  /** The role, or PUBLIC, that loses a privilege by the change. */
  readonly loser?: string;
  /** The change concerns objects of an extension. */
  readonly ofExtension?: boolean;
}

export interface OwnedObject {
  readonly kind: 'database' | 'schema' | 'relation' | 'routine' | 'type';
  readonly schema: string;
  readonly name: string;
  /** SQL after ALTER: `TABLE public.users`. */
  readonly target: string;
  readonly owner: string;
}

export interface LiveRelation extends OwnedObject {
  readonly kind: 'relation';
  /** PostgreSQL's relkind: r table, v view, S sequence, … */
  readonly relkind: string;
  /** SQL after ON in GRANT. */
  readonly grantTarget: string;
  readonly columns: readonly string[];
  readonly rowSecurity: boolean;
  readonly options: readonly string[];
}

export interface LiveRoutine extends OwnedObject {
  readonly kind: 'routine';
  /** Constructor of a range type: PostgreSQL created it with the type. */
  readonly constructs: boolean;
  /** SECURITY DEFINER. */
  readonly ownersRights: boolean;
  /** The caller's search_path has no effect: the routine sets its own, or its names were resolved at creation. */
  readonly settled: boolean;
}

interface LiveRole {
  readonly name: string;
  /** For each wrong attribute, the one that ALTER ROLE should set, such as `NOSUPERUSER`. */
  readonly wrongAttributes: readonly string[];
}

interface Membership {
  readonly role: string;
  readonly member: string;
  readonly grantor: string;
}

interface LiveSetting {
  /** Empty for all roles. */
  readonly role: string;
  /** Whether the setting is for this database only, not for all databases. */
  readonly here: boolean;
  readonly name: string;
  readonly value: string;
}

interface LiveJob {
  readonly id: number;
  readonly owner: string;
  readonly table: string;
  /** SQL that calls the extension's alter_job without changes, to notify the scheduler. */
  readonly tell: string;
}

export interface LiveAccess {
  readonly database: string;
  readonly objects: readonly OwnedObject[];
  readonly relations: readonly LiveRelation[];
  readonly routines: readonly LiveRoutine[];
  /** Routines broken by a search_path that earlier versions of `apply` set. */
  readonly brokenPaths: readonly string[];
  readonly grants: readonly Grant[];
  readonly roles: readonly LiveRole[];
  readonly memberships: readonly Membership[];
  /** Settings that change how statements run: search_path, role, row_security, default_transaction_read_only. */
  readonly settings: readonly LiveSetting[];
  readonly policies: readonly LivePolicy[];
  /** Views in every schema that contains a relation of the matrix. */
  readonly views: readonly LiveView[];
  /** Jobs of TimescaleDB whose owner is not the owner of the job's relation. */
  readonly jobs: readonly LiveJob[];
  readonly extensionObjects: readonly ExtensionObject[];
  readonly foreignServers: readonly ForeignServer[];
  /** Other databases that PUBLIC may connect to. */
  readonly reachable: readonly string[];
  /** Functions with which PUBLIC may create large objects. */
  readonly largeObjects: readonly string[];
}

export interface ExtensionObject {
  readonly kind: 'ROUTINE' | 'TABLE' | 'SEQUENCE';
  readonly name: string;
  /** SQL after ON in GRANT: `ROUTINE public.add_job(…)`. */
  readonly target: string;
  readonly bundle: string;
  /** A view for roles that read every table, or a function that such a view calls with the reader's rights. */
  readonly informs: boolean;
}

interface ForeignServer {
  readonly name: string;
  readonly wrapper: string;
  readonly owner: string;
  /** Roles, or PUBLIC, with a user mapping for the server. */
  readonly mappings: readonly string[];
}

export interface LivePolicy {
  /** `public.location_writers`. */
  readonly table: string;
  readonly name: string;
  /** Command, permissive flag, roles (0: all), USING and WITH CHECK of the policy, as PostgreSQL prints them. */
  readonly definition: string;
}

interface LiveView {
  /** `mextrack.location_events`. */
  readonly name: string;
  readonly definition: string;
}
