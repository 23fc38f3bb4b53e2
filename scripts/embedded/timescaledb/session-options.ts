// What a session is made from: its client, its database, and what the startup packet asked for.
import type { Database } from './database.ts';
import type { TimescaleServer } from './server.ts';
import type { SessionSettings } from './settings.ts';

export interface SessionOptions {
  id: number;
  secret: number;
  server: TimescaleServer;
  database: Database;
  /** What the startup packet set. */
  startup: Record<string, string>;
  settings: SessionSettings;
  write: (bytes: Buffer) => void;
  hangUp: () => void;
  onLoad: (bytes: number) => void;
}
