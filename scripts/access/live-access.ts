// The shapes of what a live database grants, as catalog.ts reads them.

/** A privilege that somebody other than the owner has. */
export interface Grant {
  /** For default privileges, the role whose later objects are meant; else empty. */
  readonly defaultPrivilegesOf: string;
  /** The schema that those are limited to, or empty. */
  readonly inSchema: string;
  /** What follows ON: `TABLE public.users`. */
  readonly target: string;
  /** Empty for the whole target. */
  readonly column: string;
  /** Role, or PUBLIC. */
  readonly grantee: string;
  readonly privilege: string;
  readonly grantable: boolean;
  /** Where one statement and one message are for many targets: what those are, in the plural. */
  readonly bundle?: string;
}

export interface OwnedObject {
  readonly kind: 'database' | 'schema' | 'relation' | 'routine' | 'type';
  readonly schema: string;
  readonly name: string;
  /** What follows ALTER: `TABLE public.users`. */
  readonly target: string;
  readonly owner: string;
}

export interface LiveRelation extends OwnedObject {
  readonly kind: 'relation';
  /** PostgreSQL's relkind: r table, v view, S sequence, … */
  readonly relkind: string;
  /** What follows ON in GRANT. */
  readonly grantTarget: string;
  readonly columns: readonly string[];
  readonly rowSecurity: boolean;
  readonly options: readonly string[];
}

export interface LiveRoutine extends OwnedObject {
  readonly kind: 'routine';
  /** Of a range type: PostgreSQL made it with the type. */
  readonly constructs: boolean;
  /** SECURITY DEFINER. */
  readonly ownersRights: boolean;
  /** What its names mean was settled: by a search_path of its own, or when it was made. */
  readonly settled: boolean;
}

export interface LiveRole {
  readonly name: string;
  /** Attributes as ALTER ROLE names them, where they are not as they should be. */
  readonly wrongAttributes: readonly string[];
}

export interface Membership {
  readonly role: string;
  readonly member: string;
  readonly grantor: string;
}

export interface LiveSetting {
  /** Empty for all roles. */
  readonly role: string;
  /** In this database only; else in all of them. */
  readonly here: boolean;
  readonly name: string;
  readonly value: string;
}

interface LiveJob {
  readonly id: number;
  readonly owner: string;
  readonly table: string;
  /** Calls the extension's alter_job, which changes nothing and tells the scheduler. */
  readonly tell: string;
}

export interface LiveAccess {
  readonly database: string;
  readonly objects: readonly OwnedObject[];
  readonly relations: readonly LiveRelation[];
  readonly routines: readonly LiveRoutine[];
  /** Of earlier versions of `apply`: routines whose search_path it fixed although that breaks them. */
  readonly brokenPaths: readonly string[];
  readonly grants: readonly Grant[];
  readonly roles: readonly LiveRole[];
  readonly memberships: readonly Membership[];
  /** Settings that decide what their names and statements mean. */
  readonly settings: readonly LiveSetting[];
  readonly policies: readonly LivePolicy[];
  /** Views outside of the schema public. */
  readonly views: readonly LiveView[];
  /** TimescaleDB's jobs on our relations whose owner is not that of the relation. */
  readonly jobs: readonly LiveJob[];
  readonly extensionObjects: readonly ExtensionObject[];
  readonly foreignServers: readonly ForeignServer[];
  /** Databases beside this one that PUBLIC may connect to. */
  readonly reachable: readonly string[];
  /** Functions by which PUBLIC may make large objects. */
  readonly largeObjects: readonly string[];
}

export interface ExtensionObject {
  readonly kind: 'ROUTINE' | 'TABLE' | 'SEQUENCE';
  readonly name: string;
  /** What follows ON in GRANT: `ROUTINE public.add_job(…)`. */
  readonly target: string;
  readonly bundle: string;
  /** A view for everybody who reads all tables, or a function that such a view calls as the role that reads. */
  readonly informs: boolean;
}

export interface ForeignServer {
  readonly name: string;
  readonly wrapper: string;
  readonly owner: string;
  /** Roles, or PUBLIC, that the server has a user mapping for. */
  readonly mappings: readonly string[];
}

export interface LivePolicy {
  /** `public.location_writers`. */
  readonly table: string;
  readonly name: string;
  /** Command, whether permissive, roles (0: all), USING and WITH CHECK as PostgreSQL prints them. */
  readonly definition: string;
}

export interface LiveView {
  /** `mextrack.location_events`. */
  readonly name: string;
  readonly definition: string;
}
