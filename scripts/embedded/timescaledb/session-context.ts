// The options of a session, and the interfaces through which its parts use the session and the server.
import type { EmbeddedDatabase } from './database.ts';
import type { DatabaseCommand } from './database-commands.ts';
import type { ErrorFields } from './messages.ts';
import type { OtherSession } from './other-session.ts';
import type { SessionSettings } from './settings.ts';

export interface SessionContext extends OtherSession {
  readonly database: EmbeddedDatabase;
  readonly server: SessionServer;
  /** The settings of the startup packet. */
  readonly startup: Record<string, string>;
  readonly inTransaction: boolean;
}

/** The part of the server that sessions use. */
export interface SessionServer {
  readonly options: { readonly backendLockTimeout: number };
  /** @throws PostgresError */
  runDatabaseCommand(command: DatabaseCommand, session: SessionContext): Promise<void>;
  fillPgDatabase(database: EmbeddedDatabase): Promise<void>;
  logEnd(session: string, database: string, fields: ErrorFields): void;
}

export interface SessionOptions {
  id: number;
  secret: number;
  server: SessionServer;
  database: EmbeddedDatabase;
  startup: Record<string, string>;
  settings: SessionSettings;
  write: (bytes: Buffer) => void;
  closeSocket: () => void;
  onQueuedBytes: (bytes: number) => void;
}
