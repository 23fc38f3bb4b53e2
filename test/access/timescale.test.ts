// The wall on TimescaleDB: chunks, compressed chunks and materialised hours are closed, and jobs run as the owner.
import { randomUUID } from 'node:crypto';
import { beforeAll, describe, expect, test } from 'vitest';
import { runPolicies } from '../../scripts/simulation/jobs.ts';
import { getHourlyStats, getRecentLocations, type Pool, recordLocations } from '../../src/index.ts';
import { refreshContinuousAggregate } from '../../src/timescale/timescale.ts';
import { ArrangedServer, point, type RoleName, recordBoth, trackedDevices } from '../support/access.ts';
import { describeWith } from '../support/database.ts';
import { extensionCalls, tryCalls } from '../support/extension-calls.ts';

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
  });

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
    // Compressed chunks are compress_hyper_2_3_chunk, since 2.29 _hyper_1_3_chunk_compressed.
    for (const kind of [/\b_hyper_\d+_\d+_chunk\b/, /compress/, /_materialized_hypertable_/]) {
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

  describe("the extension's functions", () => {
    const isRefused = ({ state, answer }: { state?: string; answer: string }) =>
      state === '42501' && /^permission denied for (function|procedure|aggregate) /.test(answer);
    const openTo = async (name: RoleName) => {
      const { rows } = await server.superuser('tracking').query<{ name: string }>(
        `SELECT p.oid::regprocedure::text AS name FROM pg_proc p JOIN pg_depend d ON d.objid = p.oid AND d.deptype = 'e'
         WHERE has_function_privilege($1, p.oid, 'EXECUTE')`,
        [server.role(name)],
      );
      return new Set(rows.map((row) => row.name));
    };
    /** All that belongs to PShop or to nobody: its points and hours, how the chunks are kept, the jobs. */
    const everything = async () => {
      const { rows } = await server.superuser('tracking').query(
        `SELECT
           (SELECT md5(string_agg(e::text, ';' ORDER BY e::text)) FROM public.location_events e WHERE app_source = 'pshop') AS points,
           (SELECT md5(string_agg(h::text, ';' ORDER BY h::text)) FROM public.location_hourly h WHERE app_source = 'pshop') AS hours,
           (SELECT json_agg(c ORDER BY c.id) FROM _timescaledb_catalog.chunk c) AS chunks,
           (SELECT json_agg(j ORDER BY j.job_id) FROM (SELECT job_id, application_name, schedule_interval, max_runtime, scheduled, config
            FROM timescaledb_information.jobs) j) AS jobs`,
      );
      return rows[0];
    };

    test.each(['mextrack_app', 'atriz_reporting'] as const)(
      'change nothing when %s calls each of them: it may only call those that compute',
      async (name) => {
        const calls = await extensionCalls(server.superuser('tracking'));
        const open = await openTo(name);
        expect([calls.some((call) => open.has(call.name)), open.size < 80]).toEqual([true, true]);
        const before = await everything();
        const outcomes = await server.as(name, 'tracking', async (db) => {
          await db.query('SET default_transaction_read_only = off');
          return tryCalls(db, calls);
        });
        expect(outcomes.filter((one) => isRefused(one) === open.has(one.name))).toEqual([]);
        expect(await everything()).toEqual(before);
        await server.as('pshop_app', 'tracking', (db) => recordLocations(db, [point('pshop')]));
      },
    );

    test('tell an application nothing of the points of another', async () => {
      const open = await openTo('mextrack_app');
      const calls = (await extensionCalls(server.superuser('tracking'))).filter(({ name }) => open.has(name));
      await mextrack(async (db) => {
        const [first, second] = [await tryCalls(db, calls), await tryCalls(db, calls)];
        await server.as('pshop_app', 'tracking', (other) =>
          recordLocations(other, [point('pshop', { time: new Date(Date.now() - 20 * day) }), point('pshop')]),
        );
        const third = await tryCalls(db, calls);
        // What differs without any new point is random or the time.
        const fixed = first.filter((one, index) => one.answer === second[index]?.answer);
        expect(third.filter((one) => fixed.some(({ sql }) => sql === one.sql))).toEqual(fixed);
        expect(fixed.length).toBeGreaterThan(calls.length / 2);
      });
    });

    test("nor do its catalog and its views, which the reporting role's are in part", async () => {
      const { rows } = await server.superuser('tracking').query<{ name: string; isInformation: boolean }>(
        `SELECT format('%I.%I', n.nspname, c.relname) AS name, n.nspname = 'timescaledb_information' AS "isInformation"
         FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_depend d ON d.objid = c.oid AND d.deptype = 'e'
         WHERE d.classid = 'pg_class'::regclass AND c.relkind IN ('r', 'v') AND n.nspname ~ '^_?timescaledb_'`,
      );
      expect(rows.length).toBeGreaterThan(30);
      const readable = (name: RoleName) =>
        server.as(name, 'tracking', async (db) => {
          const found: string[] = [];
          for (const one of rows) {
            await db.query(`SELECT * FROM ${one.name} LIMIT 1`).then(
              () => found.push(one.name),
              (failed: unknown) => expect(failed, one.name).toMatchObject(denied),
            );
          }
          return found.sort();
        });
      expect(await readable('mextrack_app')).toEqual([]);
      const information = rows.filter(({ isInformation }) => isInformation).map(({ name }) => name);
      expect(await readable('atriz_reporting')).toEqual(information.sort());
    });

    test('are closed again after an update of the extension has made new ones, and meanwhile reported', async () => {
      const superuser = server.superuser('tracking');
      // What an update's script does: it makes functions, which PUBLIC may execute, and opens old ones.
      await superuser.query(
        `CREATE FUNCTION _timescaledb_functions.made_by_update() RETURNS int LANGUAGE sql AS 'SELECT 1';
         ALTER EXTENSION timescaledb ADD FUNCTION _timescaledb_functions.made_by_update();
         GRANT EXECUTE ON FUNCTION _timescaledb_functions.drop_chunk TO PUBLIC;
         GRANT SELECT ON _timescaledb_catalog.chunk TO PUBLIC`,
      );
      try {
        const { code, stderr } = await server.cli('access', 'check', 'tracking');
        expect({ code, stderr }).toEqual({
          code: 3,
          stderr: expect.stringMatching(
            /PUBLIC has EXECUTE on ROUTINE _timescaledb_functions\.drop_chunk\(.*\), _timescaledb_functions\.made_by_update\(\)\. Mend: REVOKE/,
          ),
        });
        expect(stderr).toContain('PUBLIC has SELECT on TABLE _timescaledb_catalog.chunk. Mend: REVOKE');
        // As after every run of migrations, which may hold the update.
        expect(await server.cli('migrate', 'tracking')).toMatchObject({ code: 0, stderr: '' });
        expect(await server.cli('access', 'check', 'tracking')).toMatchObject({ code: 0, stderr: '' });
        expect(
          [...(await openTo('mextrack_app'))].filter((name) => /drop_chunk|made_by_update/.test(name)),
        ).toEqual([]);
      } finally {
        await superuser.query(
          `ALTER EXTENSION timescaledb DROP FUNCTION _timescaledb_functions.made_by_update();
           DROP FUNCTION _timescaledb_functions.made_by_update()`,
        );
      }
    });

    test('points still go in, into compressed chunks as well, and reporting reads all of them', async () => {
      const deviceId = randomUUID();
      const times = [0, 9 * 24, 9 * 24 + 1].map((age) => new Date(Date.now() - age * hour));
      await mextrack((db) =>
        recordLocations(
          db,
          times.map((time) => point('mextrack', { time, deviceId })),
        ),
      );
      expect(await mextrack((db) => getRecentLocations(db, deviceId, { hours: 24 * 20 }))).toHaveLength(3);
      const { rows } = await server.as('atriz_reporting', 'tracking', (db) =>
        db.query(
          `SELECT (SELECT count(*)::int FROM location_events WHERE device_id = $1) AS points,
             (SELECT count(DISTINCT app_source)::int FROM location_hourly) AS sources`,
          [deviceId],
        ),
      );
      expect(rows).toEqual([{ points: 3, sources: 2 }]);
    });
  });
});
