// Runs the doctor's checks, by default on one database after the other to limit the load.
import { databaseUrl } from '../../src/config.ts';
import type { DatabaseTarget } from '../../src/databases.ts';
import { parseDatabaseUrl } from '../../src/driver/database-url.ts';
import { AtrizDatabaseError, ConnectionError, sqlState } from '../../src/errors.ts';
import type { Pool } from '../../src/pool.ts';
import { quoteIdentifier } from '../../src/sql/identifiers.ts';
import { withPool } from '../cli/pools.ts';
import { startBar } from '../cli/progress.ts';
import { databaseName } from '../commands/create.ts';
import { checks } from './checks.ts';
import { roleOf } from './drift.ts';
import type { Check, Finding } from './finding.ts';

export interface DoctorReport {
  readonly key: DatabaseTarget;
  readonly database: string;
  readonly findings: readonly Finding[];
}

/**
 * Examines the databases in order. Changes nothing, but the drift check creates and drops a scratch database.
 * @param options.isQuick Examines the databases in parallel, without the drift check and without a progress bar.
 */
export async function runDoctor(
  keys: readonly DatabaseTarget[],
  { isQuick = false } = {},
): Promise<DoctorReport[]> {
  const wanted = checks.filter(({ usesScratch }) => !usesScratch || !isQuick);
  const payload = { database: '', check: '' };
  using bar = isQuick
    ? undefined
    : startBar('{bar} {database} | {check}', keys.length * wanted.length, payload, { isLasting: false });
  const servers = new Set<string>();
  const examinations = keys.map((key, index) => {
    const server = serverOf(key);
    const onCheck = ({ name }: Check, done: number) =>
      bar?.update(index * wanted.length + done, { database: key, check: name });
    return async () => {
      const due = wanted.filter(({ ofServer }) => !ofServer || !servers.has(server));
      servers.add(server);
      const findings = await examine(key, due, onCheck);
      // The next database of the server is examined instead.
      if (findings.some(({ check }) => check === 'connection')) servers.delete(server);
      return { key, database: databaseName(key), findings };
    };
  });
  if (isQuick) return Promise.all(examinations.map((examination) => examination()));
  const reports: DoctorReport[] = [];
  for (const examination of examinations) reports.push(await examination());
  return reports;
}

export const hasErrors = (reports: readonly DoctorReport[]): boolean =>
  reports.some(({ findings }) => findings.some(({ severity }) => severity === 'error'));

const serverOf = (key: DatabaseTarget): string => {
  const { url, origin } = databaseUrl(key);
  return parseDatabaseUrl(url, origin)
    .hosts.map(({ host, port }) => `${host}:${port}`)
    .join();
};

async function examine(
  key: DatabaseTarget,
  due: readonly Check[],
  onCheck: (check: Check, done: number) => void,
): Promise<Finding[]> {
  try {
    return await withPool(key, async (pool) => {
      await pool.query('SELECT 1');
      const findings: Finding[] = [];
      for (const [index, check] of due.entries()) {
        onCheck(check, index);
        findings.push(...(await runCheck(check, pool, key)));
      }
      return findings;
    });
  } catch (failure) {
    if (!(failure instanceof ConnectionError)) throw failure;
    return [unreachable(key, failure)];
  }
}

async function runCheck(check: Check, pool: Pool, key: DatabaseTarget): Promise<Finding[]> {
  try {
    const found = await check.run(pool, key);
    return found.map((finding) => ({ check: check.name, ...finding }));
  } catch (failure) {
    // An error that is neither ours nor tolerated is a defect of this package and must not appear as a finding.
    if (!(failure instanceof AtrizDatabaseError) && !toleratedStates.has(sqlState(failure) ?? ''))
      throw failure;
    return [await notChecked(check, pool, key, failure as Error)];
  }
}

/**
 * insufficient_privilege, query_canceled, lock_not_available, out_of_memory, too_many_connections and
 * disk_full: they prevent a check but are not a defect of it.
 */
const toleratedStates: ReadonlySet<string> = new Set(['42501', '57014', '55P03', '53200', '53300', '53100']);

async function notChecked({ name }: Check, db: Pool, key: DatabaseTarget, failure: Error): Promise<Finding> {
  const mend =
    sqlState(failure) === '42501'
      ? {
          mend: `GRANT pg_monitor, pg_read_all_data TO ${quoteIdentifier(await roleOf(db))}`,
          note: 'as a superuser',
        }
      : { mend: `npm run db:doctor -- ${key}`, note: 'again, once that is mended' };
  const reason = `${name} was not checked: ${failure.message}`;
  return { check: name, severity: 'warning', reason, ...mend, isUnchecked: true };
}

const unreachable = (key: DatabaseTarget, failure: ConnectionError): Finding => ({
  check: 'connection',
  severity: 'error',
  reason: failure.message.replace(/\.$/, ''),
  mend: failure.code === '3D000' ? `npm run db:create -- ${key}` : `npm run db:status -- ${key}`,
});
