// The part of a session that the other sessions of its database and the server use.
import type { ErrorFields } from './messages.ts';
import type { SessionSettings } from './settings.ts';

export interface OtherSession {
  readonly id: number;
  readonly closed: boolean;
  readonly superuser: boolean;
  readonly settings: SessionSettings;
  /** The state that the session has in the backend beyond its transactions. */
  readonly lease: {
    readonly usesTemporaryObjects: boolean;
    readonly advisoryLocks: AdvisoryLockKeys;
  };
  sendNotice(bytes: Buffer): void;
  terminate(fields: ErrorFields): void;
}

export interface AdvisoryLockKeys {
  readonly hasAny: boolean;
  /** classid:objid:objsubid:mode, as in pg_locks. */
  readonly keys: ReadonlySet<string>;
}
