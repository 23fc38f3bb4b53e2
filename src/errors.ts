// The typed errors of @atriz/database. Each message says what is wrong, where, and how to fix it.

// False if the package is installed or bundled: then its npm scripts do not exist.
const isRepository =
  /\/src\/errors\.[jt]s$/.test(String(import.meta.url)) &&
  !String(import.meta.url).includes('/node_modules/@atriz/database/');

/** Outside of the repository (`here` is false), replaces the npm scripts in a message by `npx atriz-db …`. */
export function asTyped(text: string, here = isRepository): string {
  if (here) return text;
  return text
    .replace(/npm run db:([a-z-]+)(?::([a-z]+))?(?: --(?= ))?/g, (_, command, key) =>
      ['npx atriz-db', command, key].filter(Boolean).join(' '),
    )
    .replace(/npm run migrate:create(?: --(?= ))?/g, 'npx atriz-db create-migration')
    .replace(/npm run migrate(?: --(?= ))?/g, 'npx atriz-db migrate');
}

/** Base of every error that this package throws on purpose. */
export class AtrizDatabaseError extends Error {
  constructor(message: string, options?: ErrorOptions) {
    super(asTyped(message), options);
  }

  override readonly name: string = 'AtrizDatabaseError';
  /** Stable code for programs, such as `VALIDATION`. A ConnectionError has the network's error code or the SQLSTATE. */
  readonly code: string = 'FAILED';
  /** Exit code of the command line: 1 failed, 2 usage or configuration, 3 out of step. */
  readonly exitCode: 1 | 2 | 3 = 1;
}

/** A setting, an argument or an option is missing or wrong. */
export class ConfigurationError extends AtrizDatabaseError {
  override readonly name = 'ConfigurationError';
  override readonly code = 'CONFIGURATION';
  override readonly exitCode = 2;
}

/** The database cannot be reached, refuses the login, or ended the session. */
export class ConnectionError extends AtrizDatabaseError {
  override readonly name = 'ConnectionError';
  /** Name of the database. */
  readonly database: string;
  /** `ECONNREFUSED`, `CONNECT_TIMEOUT`, or PostgreSQL's SQLSTATE such as `28P01`. */
  override readonly code: string;

  constructor(message: string, details: { database: string; code: string; cause?: unknown }) {
    super(message, { cause: details.cause });
    this.database = details.database;
    this.code = details.code;
  }
}

/** A function does not accept the value of an argument. */
export class ValidationError extends AtrizDatabaseError {
  override readonly name: string = 'ValidationError';
  override readonly code: string = 'VALIDATION';
  override readonly exitCode = 2;
}

/** The server has no TimescaleDB, or the database has not enabled it. */
export class TimescaleMissingError extends AtrizDatabaseError {
  override readonly name = 'TimescaleMissingError';
  override readonly code = 'TIMESCALE_MISSING';
}

/**
 * The transaction was rolled back, because a statement that was not awaited failed, a failed savepoint also undid a
 * statement of the transaction, or the stream of a COPY was not used.
 */
export class TransactionRolledBackError extends AtrizDatabaseError {
  override readonly name = 'TransactionRolledBackError';
  override readonly code = 'TRANSACTION_ROLLED_BACK';
}

/** An erasure stopped early: run it again. Data that is already erased stays erased. */
export class ErasureError extends AtrizDatabaseError {
  override readonly name = 'ErasureError';
  override readonly code = 'ERASURE_STOPPED';
}

/** A migration failed, or the folder and the database disagree. */
export class MigrationError extends AtrizDatabaseError {
  override readonly name: string = 'MigrationError';
  override readonly code: string = 'MIGRATION_FAILED';
  readonly database: string;
  /** Tag of the migration, e.g. `0001_triggers`. */
  readonly migration: string | undefined;
  /** Line of the file, from 1, where PostgreSQL found the error. */
  readonly line: number | undefined;

  constructor(
    message: string,
    details: { database: string; migration?: string; line?: number; cause?: unknown },
  ) {
    super(message, { cause: details.cause });
    this.database = details.database;
    this.migration = details.migration;
    this.line = details.line;
  }
}

/** Files and database disagree, and a person must decide: edited, out-of-order or pending migrations. */
export class OutOfStepError extends MigrationError {
  override readonly name: string = 'OutOfStepError';
  override readonly code: string = 'OUT_OF_STEP';
  override readonly exitCode = 3;
}

/** The user does not exist in atriz_core, or is not active. */
export class UserReferenceError extends AtrizDatabaseError {
  override readonly name = 'UserReferenceError';
  override readonly code = 'USER_REFERENCE';
  readonly userId: string;
  readonly reason: 'unknown' | 'inactive';

  constructor(userId: string, reason: 'unknown' | 'inactive') {
    super(
      reason === 'unknown'
        ? `User ${userId} does not exist in atriz_core.`
        : `User ${userId} is not active in atriz_core.`,
    );
    this.userId = userId;
    this.reason = reason;
  }
}

/** Some ids of a batch are not ids of active users of atriz_core. */
export class UserReferencesError extends AtrizDatabaseError {
  override readonly name = 'UserReferencesError';
  override readonly code = 'USER_REFERENCES';
  /** Each failed id once, with the reason. */
  readonly failures: readonly { userId: string; reason: UserReferenceError['reason'] | 'no uuid' }[];

  constructor(failures: UserReferencesError['failures']) {
    const shown = failures.slice(0, 10).map(({ userId, reason }) => `${userId.slice(0, 100)} (${reason})`);
    const more = failures.length > shown.length ? `, and ${failures.length - shown.length} more` : '';
    super(`Not active users of atriz_core: ${shown.join(', ')}${more}.`);
    this.failures = failures;
  }
}

/** Searches an error and its chain of causes for the first SQLSTATE or connection error code. */
export function sqlState(error: unknown): string | undefined {
  for (let current = error; current instanceof Error; current = current.cause) {
    const { code } = current as Error & { code?: unknown };
    const isOurs = current instanceof AtrizDatabaseError && !(current instanceof ConnectionError);
    if (typeof code === 'string' && !isOurs) return code;
  }
  return undefined;
}
