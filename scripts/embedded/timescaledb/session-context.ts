// What a session is made from, and what its parts see of it: its client, its database, its server.
import type { EmbeddedDatabase } from './database.ts';
import type { DatabaseCommand } from './database-commands.ts';
import type { Fields } from './messages.ts';
import type { OtherSession } from './other-session.ts';
import type { SessionSettings } from './settings.ts';

export interface SessionContext extends OtherSession {
  readonly database: EmbeddedDatabase;
  readonly server: SessionServer;
  /** What the startup packet set. */
  readonly startup: Record<string, string>;
}

/** What sessions ask of the server. */
export interface SessionServer {
  readonly options: { readonly waitTimeout: number };
  /** @throws PostgresError */
  carryOut(command: DatabaseCommand, session: SessionContext): Promise<void>;
  listDatabasesIn(database: EmbeddedDatabase): Promise<void>;
  logEnd(session: string, database: string, fields: Fields): void;
}

export interface SessionOptions {
  id: number;
  secret: number;
  server: SessionServer;
  database: EmbeddedDatabase;
  startup: Record<string, string>;
  settings: SessionSettings;
  write: (bytes: Buffer) => void;
  hangUp: () => void;
  onLoad: (bytes: number) => void;
}
