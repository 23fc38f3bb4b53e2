// Drift of every kind: found once, named, and its mend applied, or the way into a migration shown.
import { afterAll, expect, test, vi } from 'vitest';
import { mendDrift } from '../../scripts/doctor/drift.ts';
import { testWith, uniqueRolePrefix } from '../support/database.ts';
import { applyMends, examine, patient, takeOver } from '../support/doctor.ts';

const { db, environment } = await patient('mextrack');
takeOver(environment);
afterAll(() => {
  vi.unstubAllEnvs();
});

const find = () => examine(db, 'mextrack', 'drift');
const nameOf = (reason: string) => /^\w+ .*?(?= is )/.exec(reason)?.[0];
const keep = 'npm run migrate:create -- mextrack <name>';

/** What `change` does to the catalog; afterwards all of it is mended. */
async function provoke(change: string) {
  await db.query(change);
  const findings = await find();
  await applyMends(db, findings);
  expect(await find()).toEqual([]);
  return findings.map(({ reason, mend }) => [nameOf(reason), mend]);
}

test('what is gone comes back', async () => {
  const found = await provoke(`
    DROP INDEX idx_vehicles_user;
    ALTER TABLE drivers DROP CONSTRAINT drivers_license_number_key;
    DROP FUNCTION set_updated_at() CASCADE`);
  expect(found.map(([name]) => name)).toEqual([
    'constraint public.drivers.drivers_license_number_key',
    'function public.set_updated_at()',
    'index public.idx_vehicles_user',
    'trigger public.drivers.set_updated_at',
    'trigger public.vehicle_assignments.set_updated_at',
    'trigger public.vehicles.set_updated_at',
  ]);
});

test('what was changed becomes what it was', async () => {
  const found = await provoke(`
    DROP INDEX idx_vehicles_user;
    CREATE INDEX idx_vehicles_user ON vehicles (vehicle_name);
    DROP TRIGGER set_updated_at ON drivers;
    CREATE TRIGGER set_updated_at AFTER UPDATE ON drivers FOR EACH ROW EXECUTE FUNCTION set_updated_at();
    ALTER TABLE vehicles ENABLE ALWAYS TRIGGER set_updated_at;
    COMMENT ON TRIGGER set_updated_at ON vehicle_assignments IS 'by hand';
    COMMENT ON FUNCTION set_updated_at() IS 'by hand'`);
  const again = (relation: string) =>
    expect.stringMatching(
      `^DROP TRIGGER set_updated_at ON ${relation}; CREATE TRIGGER set_updated_at BEFORE UPDATE ON ${relation} `,
    );
  expect(found).toEqual([
    [
      'function public.set_updated_at()',
      expect.stringMatching(/^CREATE OR REPLACE FUNCTION [\s\S]*; COMMENT ON ROUTINE .* IS 'Keeps /),
    ],
    [
      'index public.idx_vehicles_user',
      'DROP INDEX public.idx_vehicles_user; CREATE INDEX idx_vehicles_user ON public.vehicles USING btree (user_id)',
    ],
    ['trigger public.drivers.set_updated_at', again('public.drivers')],
    ['trigger public.vehicle_assignments.set_updated_at', again('public.vehicle_assignments')],
    ['trigger public.vehicles.set_updated_at', 'ALTER TABLE public.vehicles ENABLE TRIGGER set_updated_at'],
  ]);
});

test('what nobody wrote into a migration is dropped', async () => {
  const found = await provoke(`
    CREATE EXTENSION "uuid-ossp";
    CREATE SCHEMA "By hand";
    CREATE SEQUENCE by_hand_sequence;
    CREATE MATERIALIZED VIEW by_hand_view AS SELECT 1 AS one;
    CREATE FOREIGN DATA WRAPPER by_hand; CREATE SERVER by_hand FOREIGN DATA WRAPPER by_hand;
    CREATE FOREIGN TABLE by_hand_foreign (id int) SERVER by_hand;
    CREATE TABLE by_hand_parts (id int) PARTITION BY RANGE (id);
    CREATE FUNCTION by_hand() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
    CREATE EVENT TRIGGER by_hand_event ON sql_drop EXECUTE FUNCTION by_hand();
    CREATE TRIGGER by_hand BEFORE INSERT ON vehicles FOR EACH ROW EXECUTE FUNCTION set_updated_at()`);
  expect(found.map(([, mend]) => mend)).toEqual([
    'DROP EVENT TRIGGER by_hand_event',
    'DROP EXTENSION "uuid-ossp"',
    'DROP ROUTINE public.by_hand()',
    'DROP FOREIGN TABLE public.by_hand_foreign',
    'DROP TABLE public.by_hand_parts',
    'DROP SEQUENCE public.by_hand_sequence',
    'DROP MATERIALIZED VIEW public.by_hand_view',
    'DROP SCHEMA "By hand"',
    'DROP TRIGGER by_hand ON public.vehicles',
  ]);
});

// As the official image has it, where a database was created from its template1.
testWith(
  ['timescaledb', 'concurrent-sessions'],
  'TimescaleDB in a database that does not declare it',
  async () => {
    const found = await provoke('CREATE EXTENSION timescaledb');
    expect(found).toEqual([['extension timescaledb', 'DROP EXTENSION "timescaledb"']]);
  },
);

test('comments: one that is too many goes, and no text in one is taken for SQL', () => {
  const line = 'CREATE OR REPLACE FUNCTION public.f()\nAS $function$ SELECT 1 $function$';
  const functions = { kind: 'function', name: 'public.f()', wanted: line, found: `${line} by hand` };
  expect(mendDrift(functions, 'mextrack')).toEqual([`${line}; COMMENT ON ROUTINE public.f() IS NULL`]);
  const trigger = 'CREATE TRIGGER t AFTER UPDATE ON public.a EXECUTE FUNCTION public.f()';
  const comment = 'waits (1 s) A second';
  const triggers = {
    kind: 'trigger',
    name: 'public.a.t',
    wanted: `${trigger} O ${comment}`,
    found: undefined,
  };
  expect(mendDrift(triggers, 'mextrack')).toEqual([
    `${trigger}; COMMENT ON TRIGGER t ON public.a IS '${comment}'`,
  ]);
});

test('default privileges for all schemas, and what PostgreSQL itself gives to everybody', async () => {
  const role = `${uniqueRolePrefix()}reader`;
  await db.query(`CREATE ROLE ${role}`);
  const found = await provoke(`
    ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO ${role};
    ALTER DEFAULT PRIVILEGES GRANT USAGE ON TYPES TO ${role};
    ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON ROUTINES FROM PUBLIC`);
  expect(found.map(([, mend]) => mend)).toEqual([
    'ALTER DEFAULT PRIVILEGES GRANT EXECUTE ON ROUTINES TO PUBLIC',
    `ALTER DEFAULT PRIVILEGES REVOKE SELECT ON TABLES FROM ${role}`,
    `ALTER DEFAULT PRIVILEGES REVOKE USAGE ON TYPES FROM ${role}`,
  ]);
});

test('what SQL cannot take back, or not without a decision, is for a migration', async () => {
  await db.query(`
    COMMENT ON TABLE vehicles IS 'by hand';
    ALTER TABLE vehicles FORCE ROW LEVEL SECURITY;
    DROP TABLE vehicle_assignments`);
  const findings = await find();
  expect(findings.map(({ reason, mend }) => [nameOf(reason), mend])).toEqual([
    ['comment public.vehicles', keep],
    ['relation public.vehicle_assignments', keep],
    ['relation public.vehicles', keep],
  ]);
});
