// The checks of the doctor about access and backups: each finding provoked, its mend applied, and gone.
import { renameSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { applyMatrix, matrixOf } from '../../scripts/access/environment.ts';
import type { DatabaseKey } from '../../src/databases.ts';
import type { Pool } from '../../src/pool.ts';
import { everythingIn, readManifest, temporaryFolder, writeManifest } from '../support/backups.ts';
import { environmentFor, runCli } from '../support/cli.ts';
import { describeWith, migratedDatabase, openSessionPool, uniqueRolePrefix } from '../support/database.ts';
import { applyMends, examine, takeOver } from '../support/doctor.ts';

afterAll(() => {
  vi.unstubAllEnvs();
});

const error = { severity: 'error' };

test('access that is not as the matrix says; of a database without roles there is nothing to say', async () => {
  const url = await migratedDatabase('pshop');
  const db = openSessionPool('pshop', url);
  takeOver({ ATRIZ_ROLE_PREFIX: uniqueRolePrefix(), ...environmentFor('pshop', url) });
  const { owner, access } = matrixOf('pshop');
  const [app, reporting] = access.map(({ role }) => role);
  const { rows } = await db.query<{ me: string }>('SELECT current_user AS me');
  expect(await examine(db, 'pshop', 'access')).toEqual([]);
  await applyMatrix(db, 'pshop');
  expect(await examine(db, 'pshop', 'access')).toEqual([]);

  await db.query(`
    ALTER ROLE ${app} CREATEDB;
    ALTER TABLE deliveries OWNER TO CURRENT_USER;
    GRANT TRUNCATE ON orders TO ${reporting};
    REVOKE UPDATE ON products FROM ${app}`);
  const findings = await examine(db, 'pshop', 'access');
  const note = 'all of them: npm run db:access -- apply pshop';
  expect(findings).toEqual([
    {
      ...error,
      reason: `the role ${app} should be NOCREATEDB`,
      mend: `ALTER ROLE "${app}" NOCREATEDB`,
      note,
    },
    {
      ...error,
      reason: `TABLE public.deliveries belongs to ${rows[0]?.me} instead of ${owner}`,
      mend: `ALTER TABLE public.deliveries OWNER TO "${owner}"`,
      note,
    },
    {
      ...error,
      reason: `${reporting} has TRUNCATE on TABLE public.orders`,
      mend: `REVOKE TRUNCATE ON TABLE public.orders FROM "${reporting}" CASCADE`,
      note,
    },
    {
      ...error,
      reason: `${app} lacks UPDATE on TABLE public.products`,
      mend: `GRANT UPDATE ON TABLE public.products TO "${app}"`,
      note,
    },
  ]);
  // Grants of a database with roles are access, and no drift as well.
  expect(await examine(db, 'pshop', 'drift')).toEqual([]);
  await applyMends(db, findings);
  expect(await examine(db, 'pshop', 'access')).toEqual([]);

  // As after pg_restore --no-owner: roles that do their work are still not drift.
  await db.query(`ALTER DATABASE "${db.name}" OWNER TO CURRENT_USER`);
  const ofOwner = await examine(db, 'pshop', 'access');
  expect(ofOwner).toEqual([
    {
      ...error,
      reason: expect.stringMatching(/^DATABASE .* belongs to .* instead of .*pshop_db_owner$/),
      mend: `ALTER DATABASE ${db.name} OWNER TO "${owner}"`,
      note,
    },
  ]);
  expect(await examine(db, 'pshop', 'drift')).toEqual([]);
  await applyMends(db, ofOwner);
  expect(await examine(db, 'pshop', 'access')).toEqual([]);
});

describeWith(['pg_dump'], 'backups', () => {
  const home = process.cwd();
  const folder = temporaryFolder();
  let core: Pool;
  let environment: Record<string, string>;
  beforeAll(async () => {
    const url = await migratedDatabase('core');
    environment = environmentFor('core', url);
    core = openSessionPool('core', url);
    // The doctor looks at ./backups.
    process.chdir(folder);
  });
  afterAll(() => process.chdir(home));

  const find = (key: DatabaseKey = 'core') => examine(core, key, 'backups');
  /** As if all backups had been made so long before. */
  const makeOlder = (hours: number) => {
    for (const name of everythingIn('backups')) {
      const manifest = readManifest(join('backups', name));
      const startedAt = new Date(Date.parse(manifest.startedAt) - hours * 3_600_000).toISOString();
      writeManifest(join('backups', name), { ...manifest, startedAt });
      renameSync(join('backups', name), join('backups', startedAt.replaceAll(':', '-')));
    }
  };
  const mend = 'npm run db:backup -- core';
  const note = expect.stringContaining('db:backup -- --list --to FOLDER');

  test('that nobody ever made: an error in production, and nothing where people develop', async () => {
    expect(await find()).toEqual([]);
    vi.stubEnv('NODE_ENV', 'production');
    expect(await find()).toEqual([{ ...error, reason: 'atriz_core has no backup in ./backups', mend, note }]);
    // The guide leaves tracking to whoever asks for it.
    expect(await find('tracking')).toEqual([]);
    vi.stubEnv('NODE_ENV', undefined);
  });

  test('of others only, and too old ones, until there is a new one', async () => {
    const backup = async () =>
      expect(await runCli(['backup', 'core'], environment, { cwd: folder })).toMatchObject({ code: 0 });
    await backup();
    expect(await find()).toEqual([]);
    expect(await find('atriz')).toEqual([
      {
        ...error,
        reason: 'atriz_db has no backup in ./backups',
        mend: 'npm run db:backup -- atriz',
        note,
      },
    ]);
    // A daily one may start late.
    makeOlder(35);
    expect(await find()).toEqual([]);
    makeOlder(2);
    expect(await find()).toEqual([
      { ...error, reason: 'the newest backup of atriz_core is 37 hours old', mend, note },
    ]);
    await backup();
    expect(await find()).toEqual([]);
  });

  test('of tracking are weekly, and expected once there is one', async () => {
    for (const name of everythingIn('backups')) {
      const manifest = readManifest(join('backups', name));
      const databases = manifest.databases.map((database) => ({ ...database, key: 'tracking' }));
      writeManifest(join('backups', name), { ...manifest, databases });
    }
    expect(await find('tracking')).toEqual([]);
    makeOlder(9 * 24 + 1);
    expect(await find('tracking')).toEqual([
      {
        severity: 'warning',
        reason: 'the newest backup of atriz_tracking is 217 hours old',
        mend: 'npm run db:backup -- tracking',
        note,
      },
    ]);
  });
});
