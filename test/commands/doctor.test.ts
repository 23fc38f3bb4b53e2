// doctor: what is wrong is named with its mend, exit 3 on errors. A healthy set: lifecycle.test.ts.
import { describe, expect, test, vi } from 'vitest';
import type { Finding } from '../../scripts/doctor/finding.ts';
import { runDoctor } from '../../scripts/doctor/run.ts';
import type { Pool } from '../../src/pool.ts';
import { environmentFor, runCli } from '../support/cli.ts';
import { migratedDatabase, serverUrl, uniqueName, uniqueRolePrefix } from '../support/database.ts';
import { applyMends, doctor, patient, takeOver } from '../support/doctor.ts';
import { copyOfProject } from '../support/migrations.ts';

const without = (database: string) => ({ ...environmentFor('core', serverUrl('core', database)) });

test('a database that is not there and a server that does not answer are findings; the others are examined', async () => {
  const environment = {
    ...without(uniqueName('core')),
    ...environmentFor('atriz', 'postgresql://postgres:secret@127.0.0.1:1/atriz_db'),
    ...environmentFor('pshop', await migratedDatabase('pshop')),
  };
  const { code, findings } = await doctor(environment, 'core', 'atriz', 'pshop');
  expect(code).toBe(3);
  expect(findings.filter(({ check }) => check !== 'time-zone')).toMatchObject([
    { key: 'core', check: 'connection', severity: 'error', mend: 'npm run db:create -- core' },
    { key: 'atriz', check: 'connection', severity: 'error', mend: 'npm run db:status -- atriz' },
    { key: 'pshop', check: 'orphans', severity: 'warning' },
  ]);
  expect(findings.map(({ reason }) => reason).join()).toMatch(
    /does not exist.*no server answers.*was not checked/,
  );
  expect(JSON.stringify(findings)).not.toContain('secret');
});

describe('migrations', async () => {
  const { db, environment } = await patient('atriz');
  const table = 'drizzle.__drizzle_migrations';
  const examined = async () => {
    const { code, findings } = await doctor(environment, 'atriz');
    return { code, found: findings.map(({ check, severity, mend }) => `${severity} ${check}: ${mend}`) };
  };
  const healthy = { code: 0, found: [] };
  const noDrift = 'warning drift: npm run db:status -- atriz';

  test('that are pending are no drift, and db:migrate applies them', async () => {
    expect((await runCli(['migrate', 'down', 'atriz', '--yes'], environment)).code).toBe(0);
    expect(await examined()).toEqual({
      code: 3,
      found: ['error pending-migrations: npm run db:migrate -- atriz'],
    });
    expect((await runCli(['migrate', 'atriz'], environment)).code).toBe(0);
    expect(await examined()).toEqual(healthy);
  });

  test('that were edited can be accepted', async () => {
    await db.query(`UPDATE ${table} SET hash = 'other' WHERE id = (SELECT min(id) FROM ${table})`);
    expect(await examined()).toEqual({
      code: 3,
      found: ['error migrations: npm run migrate -- repair atriz', noDrift],
    });
    expect((await runCli(['migrate', 'repair', 'atriz', '--yes'], environment)).code).toBe(0);
    expect(await examined()).toEqual(healthy);
  });

  test('that are out of order, or have no file', async () => {
    const { rows } = await db.query<{ hash: string; created_at: string }>(
      `DELETE FROM ${table} WHERE id = (SELECT min(id) FROM ${table}) RETURNING hash, created_at`,
    );
    expect(await examined()).toEqual({
      code: 3,
      found: ['error migrations: npm run db:migrate -- atriz --allow-out-of-order', noDrift],
    });
    await db.query(`INSERT INTO ${table} (hash, created_at) VALUES ($1, $2), ('newer', 9999999999999)`, [
      rows[0]?.hash,
      rows[0]?.created_at,
    ]);
    // Two versions of an application run side by side during a deployment: no error.
    expect(await examined()).toEqual({
      code: 0,
      found: ['warning migrations: npm install @atriz/database@latest', noDrift],
    });
  });
});

test('a folder of migrations that is not sound is named, and keeps nobody from the rest', async () => {
  const project = copyOfProject();
  project.folder('atriz').write('0099_stray.sql', 'SELECT 1;');
  const { environment } = await patient('atriz');
  const { code, stdout } = await runCli(['doctor', 'atriz', '--json'], environment, { root: project.root });
  const [report] = JSON.parse(stdout) as { findings: Finding[] }[];
  expect({ code, findings: report?.findings.filter(({ check }) => check !== 'connections') }).toMatchObject({
    code: 3,
    findings: [
      {
        check: 'migrations',
        severity: 'error',
        reason: expect.stringMatching(/^the folder is not sound: .*0099_stray\.sql is not in the journal/),
        mend: 'npm run db:check -- atriz --offline',
      },
      {
        check: 'drift',
        severity: 'warning',
        reason: 'drift was not checked, because the folder of migrations is not sound',
        mend: 'npm run db:status -- atriz',
      },
    ],
  });
  const check = await runCli(['check', 'atriz', '--offline'], {}, { root: project.root });
  expect(check.stderr).toContain('0099_stray.sql is not in the journal');
  project.folder('atriz').remove('0099_stray.sql');
  expect(await runCli(['doctor', 'atriz'], environment, { root: project.root })).toMatchObject({ code: 0 });
});

test('a role that may not look is told which right it lacks, and the other checks go on', async () => {
  const { db, environment } = await patient('core');
  const role = `${uniqueRolePrefix()}visitor`;
  await db.query(`CREATE ROLE ${role} LOGIN PASSWORD 'x'`);
  const url = new URL(environment.SHARED_DATABASE_URL ?? '');
  [url.username, url.password] = [role, 'x'];
  takeOver(environmentFor('core', url.href));
  try {
    const findings = async () =>
      (await runDoctor(['core'])).flatMap(({ findings }) =>
        findings.filter(({ check }) => check !== 'connections'),
      );
    const blind = await findings();
    const mend = `GRANT pg_monitor, pg_read_all_data TO "${role}"`;
    expect(blind.map(({ check, severity, mend, note }) => [check, severity, mend, note])).toEqual(
      ['pending-migrations', 'migrations', 'drift', 'tokens'].map((check) => [
        check,
        'warning',
        mend,
        'as a superuser',
      ]),
    );
    expect(blind[0]?.reason).toBe('pending-migrations was not checked: permission denied for schema drizzle');
    await applyMends(db, blind.slice(0, 1));
    const seeing = await findings();
    expect(seeing).toMatchObject([{ check: 'drift', mend: `ALTER ROLE "${role}" CREATEDB` }]);
  } finally {
    vi.unstubAllEnvs();
  }
});

describe('drift', async () => {
  const { db, environment } = await patient('mextrack');
  const role = db.name.replace('atriz_test', 'doctor');
  const drop = async (pool: Pool) => {
    await pool.query(`DROP OWNED BY "${role}"`);
    await pool.query(`DROP ROLE "${role}"`);
  };

  test('is found, named and mended: columns, indexes, constraints, triggers, functions, policies, grants', async () => {
    await db.query(`CREATE ROLE "${role}" LOGIN PASSWORD 'x'`);
    try {
      await db.query(`
        ALTER TABLE vehicles ADD COLUMN "Nick.name" text;
        ALTER TABLE vehicles ALTER COLUMN vehicle_name TYPE varchar(90);
        ALTER TABLE drivers ALTER COLUMN full_name DROP NOT NULL, ALTER COLUMN created_at SET DEFAULT '2020-01-01';
        ALTER TABLE drivers DROP COLUMN phone;
        CREATE INDEX by_hand ON vehicles (user_id, license_plate);
        ALTER TABLE vehicle_assignments DROP CONSTRAINT vehicle_assignments_driver_id_drivers_id_fk;
        ALTER TABLE vehicles ADD CONSTRAINT by_hand_check CHECK (vehicle_name <> '');
        DROP TRIGGER set_updated_at ON drivers;
        ALTER TABLE vehicles DISABLE TRIGGER set_updated_at;
        CREATE FUNCTION by_hand(integer, text) RETURNS int LANGUAGE sql AS 'SELECT 1';
        CREATE OR REPLACE FUNCTION set_updated_at() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
        CREATE POLICY by_hand ON vehicles USING (true);
        ALTER TABLE vehicles ENABLE ROW LEVEL SECURITY;
        GRANT SELECT, UPDATE ON drivers TO "${role}";
        GRANT UPDATE (full_name) ON drivers TO "${role}" WITH GRANT OPTION;
        GRANT CREATE ON SCHEMA public TO "${role}";
        REVOKE EXECUTE ON FUNCTION set_updated_at() FROM PUBLIC;
        ALTER DEFAULT PRIVILEGES IN SCHEMA public GRANT SELECT ON TABLES TO "${role}";
        CREATE TABLE by_hand_table (id int PRIMARY KEY, vehicle_id uuid);
        CREATE VIEW by_hand_view AS SELECT 1 AS one;
        CREATE TYPE by_hand_type AS ENUM ('a');
        CREATE STATISTICS by_hand_statistics ON user_id, vehicle_name FROM vehicles;
        CREATE RULE by_hand_rule AS ON DELETE TO vehicles DO ALSO SELECT 1`);
      const { code, findings } = await doctor(environment, 'mextrack');
      expect(code).toBe(3);
      const drift = findings.filter(({ check }) => check === 'drift');
      const names = drift.map(({ reason }) => /^\w+ .*?(?= is )/.exec(reason)?.[0]).sort();
      expect(names).toEqual([
        'column public.drivers.created_at',
        'column public.drivers.full_name',
        'column public.drivers.phone',
        'column public.vehicles."Nick.name"',
        'column public.vehicles.vehicle_name',
        'constraint public.vehicle_assignments.vehicle_assignments_driver_id_drivers_id_fk',
        'constraint public.vehicles.by_hand_check',
        'function public.by_hand(integer, text)',
        'function public.set_updated_at()',
        'grant PUBLIC on ROUTINE public.set_updated_at()',
        `grant ${role} by default on TABLES IN SCHEMA public`,
        `grant ${role} on COLUMN public.drivers.full_name`,
        `grant ${role} on SCHEMA public`,
        `grant ${role} on TABLE public.drivers`,
        'index public.by_hand',
        'relation public.by_hand_table',
        'relation public.by_hand_view',
        'relation public.vehicles',
        'rowpolicy public.vehicles.by_hand',
        'rule public.vehicles.by_hand_rule',
        'statistics public.by_hand_statistics',
        'trigger public.drivers.set_updated_at',
        'trigger public.vehicles.set_updated_at',
        'type public.by_hand_type',
      ]);
      expect(drift.find(({ reason }) => reason.startsWith('index public.by_hand'))).toMatchObject({
        severity: 'error',
        reason: expect.stringContaining('is in no migration: CREATE INDEX by_hand ON public.vehicles'),
        mend: 'DROP INDEX public.by_hand',
        note: 'to keep it, write it into a migration: npm run migrate:create -- mextrack <name>',
      });
      const { stdout } = await runCli(['doctor', 'mextrack'], environment);
      expect(stdout).toMatch(/^mextrack {2}\d+ findings\n {2}error {4}drift: column .*\n {11}ALTER TABLE /m);
      await applyMends(db, drift);
      expect(await doctor(environment, 'mextrack')).toMatchObject({ code: 0, findings: [] });
    } finally {
      await drop(db);
    }
  });

  test('is not looked for by a role that may not create databases, and the doctor says so', async () => {
    await db.query(`CREATE ROLE "${role}" LOGIN PASSWORD 'x'`);
    try {
      await db.query(`GRANT pg_monitor, pg_read_all_data TO "${role}"`);
      const url = new URL(environment.MEXTRACK_DATABASE_URL ?? '');
      [url.username, url.password] = [role, 'x'];
      const asRole = { ...environment, ...environmentFor('mextrack', url.href) };
      const limited = await doctor(asRole, 'mextrack');
      expect(limited).toMatchObject({
        code: 0,
        findings: [{ check: 'drift', severity: 'warning', mend: `ALTER ROLE "${role}" CREATEDB` }],
      });
      await applyMends(db, limited.findings);
      // Other owners are no drift.
      expect(await doctor(asRole, 'mextrack')).toEqual({ code: 0, findings: [] });
    } finally {
      await drop(db);
    }
  });
});
