// What the other sessions of a database, and the server, see of a session.
import type { Fields } from './messages.ts';
import type { SessionSettings } from './settings.ts';

export interface OtherSession {
  readonly id: number;
  readonly closed: boolean;
  readonly superuser: boolean;
  readonly settings: SessionSettings;
  /** What it keeps on the backend beyond its transactions. */
  readonly lease: {
    readonly usesTemporary: boolean;
    readonly advisory: AdvisoryKeys;
  };
  tell(bytes: Buffer): void;
  terminate(fields: Fields): void;
}

export interface AdvisoryKeys {
  readonly any: boolean;
  /** classid:objid:objsubid, then the mode. */
  readonly keys: ReadonlySet<string>;
}
