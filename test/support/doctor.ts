// Runs the doctor: the command, and single checks with thresholds that a test can reach.
import { vi } from 'vitest';
import { checks } from '../../scripts/doctor/checks.ts';
import type { Finding, Found } from '../../scripts/doctor/finding.ts';
import { thresholds } from '../../scripts/doctor/thresholds.ts';
import type { DatabaseKey } from '../../src/databases.ts';
import type { Database, Pool } from '../../src/pool.ts';
import { environmentFor, runCli } from './cli.ts';
import { migratedDatabase, openPool } from './database.ts';

export interface Examined {
  code: number | null;
  findings: (Finding & { key: DatabaseKey })[];
}

/** What belongs to the server of the suite: its connections, which other tests use too, its version and its size. */
const ofServer = ['connections', 'known-holes', 'workers'];

export async function doctor(environment: Record<string, string>, ...args: string[]): Promise<Examined> {
  const { code, stdout, stderr } = await runCli(['doctor', ...args, '--json'], environment);
  if (stderr) throw new Error(stderr);
  const reports = JSON.parse(stdout) as { key: DatabaseKey; findings: Finding[] }[];
  const findings = reports.flatMap(({ key, findings }) => findings.map((finding) => ({ key, ...finding })));
  return { code, findings: findings.filter(({ check }) => !ofServer.includes(check)) };
}

/** A migrated database and what names it and core; their sessions are in UTC whatever the machine has. */
export async function patient(key: DatabaseKey): Promise<{ db: Pool; environment: Record<string, string> }> {
  const core = await migratedDatabase('core');
  const url = key === 'core' ? core : await migratedDatabase(key);
  const db = openPool(key, url);
  for (const pool of new Set([openPool('core', core), db])) {
    await pool.query(`ALTER DATABASE "${pool.name}" SET timezone TO 'UTC'`);
  }
  return { db, environment: { ...environmentFor('core', core), ...environmentFor(key, url) } };
}

/** For `examine`, whose checks read the environment of this process; the file calls `vi.unstubAllEnvs()`. */
export function takeOver(environment: Readonly<Record<string, string>>): void {
  for (const [variable, value] of Object.entries(environment)) vi.stubEnv(variable, value);
}

/** Runs one check, meanwhile with other thresholds. */
export async function examine(
  db: Pool,
  key: DatabaseKey,
  name: string,
  others: Partial<typeof thresholds> = {},
): Promise<Found[]> {
  const check = checks.find((other) => other.name === name);
  if (!check) throw new Error(`There is no check "${name}".`);
  const usual = { ...thresholds };
  Object.assign(thresholds, others);
  try {
    return await check.run(db, key);
  } finally {
    Object.assign(thresholds, usual);
  }
}

/** Runs the SQL of each mend, statement by statement. */
export async function applyMends(db: Database, findings: readonly { mend: string }[]): Promise<void> {
  for (const { mend } of findings) {
    for (const statement of mend.split(/; (?=[A-Z])/)) await db.query(statement);
  }
}
