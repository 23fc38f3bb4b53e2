// Reads the facts that the report shows. If a fact cannot be read, the report shows the reason and all other facts.
import { resolve } from 'node:path';
import { databaseUrl, hasUrl } from '../../src/config.ts';
import { type DatabaseTarget, definitionOf } from '../../src/databases.ts';
import { maskPassword } from '../../src/driver/database-url.ts';
import { AtrizDatabaseError, ConnectionError } from '../../src/errors.ts';
import type { Pool } from '../../src/pool.ts';
import { databaseTargets, selectTargets } from '../../src/targets.ts';
import { listBackups } from '../backup/library/backups.ts';
import { type Drills, readDrills } from '../backup/library/drills.ts';
import { withPool } from '../cli/pools.ts';
import { defaultFolder } from '../commands/backup.ts';
import {
  type DatabaseFacts,
  type MigrationFacts,
  readDatabaseFacts,
  readMigrationFacts,
  readTimescaleFacts,
  type TimescaleFacts,
} from '../commands/status.ts';
import type { Finding } from '../doctor/finding.ts';
import { runDoctor } from '../doctor/run.ts';
import { attempt, type Fact, isUnknown } from './fact.ts';
import { readTracking, type TrackingFacts, type TrackRequest } from './tracking-facts.ts';

export interface DatabaseReport {
  readonly key: DatabaseTarget;
  readonly database: string;
  readonly holds: string;
  /** Without a password; null if no valid setting says where the database is. */
  readonly url: string | null;
  readonly origin: string | null;
  readonly state: 'reachable' | 'unreachable' | 'not configured';
  readonly facts: Fact<DatabaseFacts>;
  readonly migrations: Fact<MigrationFacts>;
  /** Findings of all checks that need no scratch database. */
  readonly findings: readonly Finding[];
  /** Why some checks could not run. This is not a finding, because the role of a report may have few privileges. */
  readonly unchecked: readonly string[];
}

export interface BackupReport {
  /** Newest first. */
  readonly backups: readonly {
    readonly startedAt: string;
    readonly bytes: number;
    readonly databases: readonly { readonly key: string; readonly bytes: number; readonly holds: string }[];
  }[];
  readonly damaged: readonly string[];
  readonly drills: Drills;
}

export type TrackingReport = Fact<TrackingFacts & { readonly timescale: Fact<TimescaleFacts> }> & {
  /** Set if there are several tracking databases. */
  readonly key?: DatabaseTarget;
};

export interface Report {
  readonly at: string;
  readonly databases: readonly DatabaseReport[];
  readonly tracking: TrackingReport;
  /** All tracking databases except the first, if applications have their own. */
  readonly otherTracking: readonly TrackingReport[];
  readonly backups: Fact<BackupReport>;
}

/** Only reads. If a database or a privilege is missing, the fact is `unknown`. */
export async function readReport(track?: TrackRequest): Promise<Report> {
  const [databases, [tracking, ...otherTracking], backups] = await Promise.all([
    readDatabases(),
    readTrackingReports(track),
    attempt(readBackups),
  ]);
  return { at: new Date().toISOString(), databases, tracking, otherTracking, backups };
}

async function readDatabases(): Promise<DatabaseReport[]> {
  const places = databaseTargets().map(placeOf);
  const examined = places.filter(({ url }) => url !== null).map(({ key }) => key);
  const [databases, reports] = await Promise.all([
    Promise.all(places.map(readDatabase)),
    runDoctor(examined, { isQuick: true }),
  ]);
  const findings = new Map(reports.map((report) => [report.key, report.findings]));
  return databases.map((database) => {
    const found = findings.get(database.key) ?? [];
    return {
      ...database,
      findings: found.filter(({ isUnchecked }) => !isUnchecked),
      unchecked: found.filter(({ isUnchecked }) => isUnchecked).map(({ reason }) => reason),
    };
  });
}

interface Place {
  readonly key: DatabaseTarget;
  readonly url: string | null;
  readonly origin: string | null;
  /** Why there is no URL; empty if there is one. */
  readonly reason: string;
}

function placeOf(key: DatabaseTarget): Place {
  try {
    if (!hasUrl(key)) {
      const { urlVariable } = definitionOf(key);
      return { key, url: null, origin: null, reason: `No setting says where it is, such as ${urlVariable}.` };
    }
    const { url, origin } = databaseUrl(key);
    return { key, url: maskPassword(url), origin, reason: '' };
  } catch (error) {
    if (!(error instanceof AtrizDatabaseError)) throw error;
    return { key, url: null, origin: null, reason: error.message };
  }
}

async function readDatabase({
  key,
  url,
  origin,
  reason,
}: Place): Promise<Omit<DatabaseReport, 'findings' | 'unchecked'>> {
  const { database, holds } = definitionOf(key);
  const place = { key, database, holds, url, origin };
  const without = (state: DatabaseReport['state'], unknown: string) => {
    return { ...place, state, facts: { unknown }, migrations: { unknown } };
  };
  if (url === null) return without('not configured', reason);
  try {
    return await withPool(key, async (pool) => {
      // If the database does not answer, fail once here instead of for each fact.
      await pool.query('SELECT 1');
      return {
        ...place,
        state: 'reachable' as const,
        facts: await attempt(() => readDatabaseFacts(pool)),
        migrations: await attempt(() => readMigrationFacts(pool, key)),
      };
    });
  } catch (error) {
    if (!(error instanceof ConnectionError)) throw error;
    return without('unreachable', error.message);
  }
}

async function readTrackingReports(
  request: TrackRequest | undefined,
): Promise<[TrackingReport, ...TrackingReport[]]> {
  const [first = 'tracking', ...others] = selectTargets(['tracking']);
  const read = async (key: DatabaseTarget): Promise<TrackingReport> => ({
    ...(others.length > 0 && { key }),
    ...(await readTrackingReport(key, request)),
  });
  return Promise.all([read(first), ...others.map(read)]);
}

async function readTrackingReport(
  key: DatabaseTarget,
  request: TrackRequest | undefined,
): Promise<TrackingReport> {
  const { url, reason } = placeOf(key);
  if (url === null) return { unknown: reason };
  return attempt(() =>
    withPool(key, async (pool) => {
      await pool.query('SELECT 1');
      const timescale = await attempt(() => readRequiredTimescale(pool));
      return { timescale, ...(await readTracking(pool, await readVehicleNames(), request)) };
    }),
  );
}

async function readRequiredTimescale(pool: Pool): Promise<TimescaleFacts> {
  const facts = await readTimescaleFacts(pool);
  if (facts) return facts;
  throw new AtrizDatabaseError('TimescaleDB is not enabled: run "npm run db:migrate -- tracking".');
}

/** Names of vehicles by device. Empty if mextrack_db does not exist or cannot be read. */
async function readVehicleNames(): Promise<ReadonlyMap<string, string>> {
  if (placeOf('mextrack').url === null) return new Map();
  const names = await attempt(() =>
    withPool('mextrack', async (pool) => {
      const { rows } = await pool.query<{ device: string; name: string }>(
        'SELECT device_id AS device, vehicle_name AS name FROM vehicles WHERE device_id IS NOT NULL LIMIT 10000',
      );
      return rows;
    }),
  );
  return new Map(isUnknown(names) ? [] : names.map(({ device, name }) => [device, name]));
}

async function readBackups(): Promise<BackupReport> {
  const folder = resolve(defaultFolder);
  const [{ backups, damaged }, drills] = await Promise.all([listBackups(folder), readDrills(folder)]);
  return {
    drills,
    backups: backups.map(({ manifest: { startedAt, databases } }) => {
      const held = databases.map(({ key, dump, holds }) => ({ key, bytes: dump.bytes, holds }));
      return { startedAt, bytes: held.reduce((sum, { bytes }) => sum + bytes, 0), databases: held };
    }),
    damaged: damaged.map(({ reason }) => reason),
  };
}
