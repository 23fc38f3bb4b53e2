// The wall on TimescaleDB: chunks, compressed chunks and materialised hours are closed, and jobs run as the owner.
import { beforeAll, expect, test } from 'vitest';
import { runPolicies } from '../../scripts/jobs.ts';
import { getHourlyStats, getRecentLocations, type Pool } from '../../src/index.ts';
import { refreshContinuousAggregate } from '../../src/timescale.ts';
import { ArrangedServer, recordBoth, trackedDevices } from '../support/access.ts';
import { describeWith } from '../support/database.ts';

const hour = 3_600_000;
const day = 24 * hour;
const { shared } = trackedDevices;
const denied = { code: '42501' };

const server = new ArrangedServer();
const mextrack = <Result>(work: (pool: Pool) => Promise<Result>) =>
  server.as('mextrack_app', 'tracking', work);

describeWith(['timescaledb'], 'on TimescaleDB', () => {
  const internals = async () => {
    const { rows } = await server.superuser('tracking').query<{ name: string }>(
      `SELECT format('%I.%I', n.nspname, c.relname) AS name FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE n.nspname = '_timescaledb_internal' AND c.relkind IN ('r', 'v')
         AND NOT EXISTS (SELECT 1 FROM pg_depend d WHERE d.objid = c.oid AND d.deptype = 'e') ORDER BY 1`,
    );
    return rows.map(({ name }) => name);
  };

  beforeAll(async () => {
    await server.arrange(['tracking']);
    await recordBoth(server);
    await server.as('atriz_tracking_owner', 'tracking', async (owner) => {
      // The policy's window reaches back seven days; the owner refreshes what is older.
      await refreshContinuousAggregate(owner, 'location_hourly', {
        from: new Date(Date.now() - 12 * day),
        to: new Date(Date.now() - hour),
      });
      await runPolicies(owner, ['refresh_continuous_aggregate', 'compression', 'retention']);
    });
  }, 60_000);

  test('the owner of the points runs their jobs, and applications read on what those compressed', async () => {
    const superuser = server.superuser('tracking');
    const jobs = await superuser.query(
      'SELECT DISTINCT owner::text FROM timescaledb_information.jobs WHERE hypertable_name IS NOT NULL',
    );
    expect(jobs.rows).toEqual([{ owner: server.role('atriz_tracking_owner') }]);
    const compressed = await superuser.query(
      "SELECT 1 FROM timescaledb_information.chunks WHERE hypertable_name = 'location_events' AND is_compressed",
    );
    expect(compressed.rowCount).toBeGreaterThan(0);
    expect((await mextrack((db) => getHourlyStats(db, shared, { days: 20 }))).length).toBe(4);
    expect((await mextrack((db) => getRecentLocations(db, shared, { hours: 24 * 20 }))).length).toBe(4);
    expect(await server.cli('access', 'check', 'tracking')).toMatchObject({ code: 0 });
  });

  test('chunks, compressed chunks and the materialised hours are closed to the applications', async () => {
    const names = await internals();
    for (const kind of [/_hyper_\d+_\d+_chunk/, /compress_hyper_/, /_materialized_hypertable_/]) {
      expect(names.filter((name) => kind.test(name))).not.toEqual([]);
    }
    await mextrack(async (db) => {
      for (const name of names) {
        // Not tables to anybody: the hypertable of the compressed chunks, and views that take no rows.
        const code = expect.stringMatching(/_chunk$/.test(name) ? /^42501$/ : /^(42501|XX000|0A000|55000)$/);
        for (const statement of [`SELECT * FROM ${name} LIMIT 1`, `INSERT INTO ${name} DEFAULT VALUES`]) {
          await expect(db.query(statement), name).rejects.toMatchObject({ code });
        }
      }
    });
  });

  test('check finds a grant on a chunk, apply takes it back', async () => {
    const chunk = (await internals()).find(
      (name) => /_hyper_\d+_\d+_chunk$/.test(name) && !name.includes('compress'),
    );
    const app = server.role('mextrack_app');
    await server.superuser('tracking').query(`GRANT SELECT ON ${chunk} TO "${app}"`);
    const { code, stderr } = await server.cli('access', 'check', 'tracking');
    expect(code).toBe(3);
    expect(stderr).toContain(`${app} has SELECT on TABLE ${chunk}`);
    expect(await server.cli('access', 'apply', 'tracking')).toMatchObject({ code: 0 });
    await expect(mextrack((db) => db.query(`SELECT 1 FROM ${chunk}`))).rejects.toMatchObject(denied);
  });

  test("a job goes back to the owner, by a call that no function of the owner's can catch", async () => {
    const superuser = server.superuser('tracking');
    const { rows } = await superuser.query<{ jobs: string }>(
      `SELECT coalesce(to_regclass('_timescaledb_catalog.bgw_job'), to_regclass('_timescaledb_config.bgw_job'))::text AS jobs`,
    );
    await server.as('atriz_tracking_owner', 'tracking', (owner) =>
      owner.query(
        `CREATE FUNCTION public.alter_job(job_id int) RETURNS void LANGUAGE plpgsql AS
         $$ BEGIN RAISE EXCEPTION 'ran as %', current_user; END $$`,
      ),
    );
    try {
      await superuser.query(
        `UPDATE ${rows[0]?.jobs} SET owner = 'postgres'::regrole WHERE proc_name = 'policy_retention'`,
      );
      const { code, stderr } = await server.cli('access', 'check', 'tracking');
      expect({ code, stderr }).toEqual({
        code: 3,
        stderr: expect.stringMatching(/SELECT \w+\.alter_job\(\d+, NULL::interval, NULL::/),
      });
      expect(await server.cli('access', 'apply', 'tracking')).toMatchObject({ code: 0, stderr: '' });
      expect(await server.cli('access', 'check', 'tracking')).toMatchObject({ code: 0 });
    } finally {
      await superuser.query('DROP FUNCTION public.alter_job(int)');
    }
  });

  test('an application cannot refresh, compress, drop or add a job on what it does not own', async () => {
    await mextrack(async (db) => {
      for (const statement of [
        "SELECT drop_chunks('public.location_events', older_than => now())",
        "SELECT add_retention_policy('public.location_events', interval '1 hour', if_not_exists => true)",
        "CALL refresh_continuous_aggregate('public.location_hourly', NULL, NULL)",
        "SELECT remove_retention_policy('public.location_events')",
      ]) {
        await expect(db.query(statement), statement).rejects.toMatchObject(denied);
      }
    });
  });
});
