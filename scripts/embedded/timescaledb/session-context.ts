// The interfaces through which the parts of a session use the session and the server.
import type { EmbeddedDatabase, OtherSession } from './database.ts';
import type { DatabaseCommand } from './database-commands.ts';
import type { ErrorFields } from './messages.ts';

export interface SessionContext extends OtherSession {
  readonly database: EmbeddedDatabase;
  readonly server: SessionServer;
  readonly superuser: boolean;
  readonly inTransaction: boolean;
  sendNotice(fields: ErrorFields): void;
}

/** The part of the server that sessions use. */
export interface SessionServer {
  readonly options: { readonly backendLockTimeout: number };
  nextSessionId(): number;
  /** @throws PostgresError */
  runDatabaseCommand(command: DatabaseCommand, session: SessionContext): Promise<void>;
  logEnd(session: string, database: string, fields: ErrorFields): void;
}
