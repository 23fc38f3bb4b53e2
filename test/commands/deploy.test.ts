// deploy: doctor, backup, migrate, doctor again; it stops at the first thing that is wrong, and says what was done.
import { writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { beforeAll, describe, expect, test, vi } from 'vitest';
import { backupBefore } from '../../scripts/backup/create/before-deploy.ts';
import { listBackups } from '../../scripts/backup/library/backups.ts';
import type { Pool } from '../../src/pool.ts';
import { temporaryFolder } from '../support/backups.ts';
import { freshEnvironment, runCli } from '../support/cli.ts';
import { testWith } from '../support/database.ts';
import { patient, takeOver } from '../support/doctor.ts';
import { copyOfProject } from '../support/migrations.ts';

interface Report {
  isDone: boolean;
  accepted: string[];
  dryRun: boolean;
  pending: Record<string, string[]>;
  steps: { step: string; status: string; result: string; migrations?: Record<string, string[]> }[];
}

testWith(
  ['pg_dump'],
  'its backup holds what is critical of what will change, and says what it left',
  async () => {
    const { environment } = await patient('core');
    const home = process.cwd();
    takeOver(environment);
    process.chdir(temporaryFolder());
    try {
      const said = await backupBefore(['core', 'tracking']);
      const { backups } = await listBackups('backups');
      expect(backups.map(({ manifest }) => manifest.databases.map(({ key }) => key))).toEqual([['core']]);
      expect(said).toBe(
        `core is in ${resolve(backups[0]?.folder ?? '')}; tracking is not critical and has no backup of this deployment`,
      );
      expect(await backupBefore(['tracking'])).toMatch(/^tracking is not critical/);
    } finally {
      process.chdir(home);
      vi.unstubAllEnvs();
    }
  },
);

describe('a deployment', () => {
  const project = copyOfProject();
  const folder = project.folder('atriz');
  const good = folder.nextTag('good');
  let db: Pool;
  let environment: Record<string, string>;
  beforeAll(async () => {
    ({ db, environment } = await patient('atriz'));
    folder.add(good, 'CREATE TABLE good (id int PRIMARY KEY);', { down: 'DROP TABLE good;' });
    backup(`return keys.join() + ' are in ./backups'`);
  });

  /** A backup that does what the test says. */
  const backup = (body: string) =>
    writeFileSync(
      join(project.root, 'dist', 'scripts', 'backup', 'create', 'before-deploy.js'),
      `import { AtrizDatabaseError } from '../../../src/errors.js';
       export const backupBefore = async (keys) => { ${body} };`,
    );
  const run = (...args: string[]) =>
    runCli(
      ['deploy', 'core', 'atriz', ...args],
      { ...environment, NODE_ENV: 'production' },
      { root: project.root },
    );
  const deploy = async (...args: string[]) => {
    const { code, stdout, stderr } = await run(...args, '--json');
    // Databases of tests have no roles, which a line says.
    const complaints = stderr
      .split('\n')
      .filter((line) => line && !line.includes('roles and grants were never applied'));
    if (complaints.length > 0) throw new Error(stderr);
    const report = JSON.parse(stdout) as Report;
    return { code, report, steps: report.steps.map(({ step, status }) => `${step}: ${status}`) };
  };
  const resultOf = ({ steps }: Report, name: string) => steps.find(({ step }) => step === name)?.result;
  const exists = async (name: string) =>
    (await db.query('SELECT to_regclass($1) IS NOT NULL AS found', [name])).rows[0]?.found;

  test('in a dry run shows what is pending, and changes nothing', async () => {
    const { code, report, steps } = await deploy('--dry-run');
    expect({ code, steps, pending: report.pending }).toEqual({
      code: 0,
      steps: [
        'create: not needed',
        'doctor: done',
        'backup: not started',
        'migrate: not started',
        'doctor again: not started',
      ],
      pending: { atriz: [good] },
    });
    expect(resultOf(report, 'migrate')).toBe(`dry run; atriz ${good} would be applied`);
    expect(await exists('good')).toBe(false);
  });

  test('does nothing when the doctor finds an error', async () => {
    await db.query('ALTER TABLE user_profiles ADD COLUMN by_hand int');
    const { code, steps } = await deploy();
    expect({ code, steps }).toEqual({
      code: 3,
      steps: [
        'create: not needed',
        'doctor: failed',
        'backup: not started',
        'migrate: not started',
        'doctor again: not started',
      ],
    });
    const { stdout, stderr } = await run();
    expect(stderr).toMatch(/^doctor +failed +1 error, 0 warnings$/m);
    expect(stdout).toContain('ALTER TABLE public.user_profiles DROP COLUMN by_hand');
    expect(stdout).toContain(`migrate       not started  doctor failed; atriz ${good} would be applied`);
    await db.query('ALTER TABLE user_profiles DROP COLUMN by_hand');
    expect(await exists('good')).toBe(false);
  });

  test('does not migrate without its backup', async () => {
    backup(`throw new AtrizDatabaseError('The disk is full: make room.')`);
    const { code, report, steps } = await deploy();
    expect({ code, steps }).toEqual({
      code: 1,
      steps: [
        'create: not needed',
        'doctor: done',
        'backup: failed',
        'migrate: not started',
        'doctor again: not started',
      ],
    });
    expect(resultOf(report, 'backup')).toBe('The disk is full: make room.');
    expect(await exists('good')).toBe(false);
    backup(`return keys.join() + ' in ./backups'`);
  });

  test('under NODE_ENV=production backs up what will change, migrates it and looks again', async () => {
    const { code, report, steps } = await deploy();
    expect({ code, steps }).toEqual({
      code: 0,
      steps: ['create: not needed', 'doctor: done', 'backup: done', 'migrate: done', 'doctor again: done'],
    });
    expect(resultOf(report, 'backup')).toBe('atriz in ./backups');
    expect(await exists('good')).toBe(true);
  });

  test('goes on where rows are wrong, which no deployment mends, and says so', async () => {
    await db.query("INSERT INTO user_profiles (user_id, display_name) VALUES (gen_random_uuid(), 'Nobody')");
    const { code, report } = await deploy('--dry-run');
    expect(code).toBe(0);
    expect(report.steps[1]).toMatchObject({ status: 'done', result: '1 error, 0 warnings' });
    expect(JSON.stringify(report.steps[1])).toContain('"check":"orphans"');
    await db.query('DELETE FROM user_profiles');
  });

  test('goes on after what --accept names, and records it', async () => {
    await db.query('ALTER TABLE user_profiles ADD COLUMN by_hand int');
    const { code, report } = await deploy('--dry-run', '--accept', 'policies,drift');
    expect({ code, accepted: report.accepted }).toEqual({ code: 0, accepted: ['policies', 'drift'] });
    expect(report.steps[1]).toMatchObject({ status: 'done', result: '1 error, 0 warnings' });
    await db.query('ALTER TABLE user_profiles DROP COLUMN by_hand');
    const unknown = await run('--accept', 'everything');
    expect(unknown).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('There is no check "everything"'),
    });
  });

  test('has nothing to do when nothing is pending', async () => {
    const { code, steps } = await deploy();
    expect({ code, steps }).toEqual({
      code: 0,
      steps: [
        'create: not needed',
        'doctor: done',
        'backup: not needed',
        'migrate: not needed',
        'doctor again: not needed',
      ],
    });
  });

  test('says what was applied and what was not when a migration fails', async () => {
    folder.add('0003_better', 'CREATE TABLE better (id int PRIMARY KEY);');
    folder.add('0004_bad', 'CREATE TABLE good (id int);');
    folder.add('0005_late', 'CREATE TABLE late (id int);');
    const { code, report, steps } = await deploy();
    expect({ code, steps }).toEqual({
      code: 1,
      steps: [
        'create: not needed',
        'doctor: done',
        'backup: done',
        'migrate: failed',
        'doctor again: not started',
      ],
    });
    expect(resultOf(report, 'migrate')).toMatch(
      /already exists[\s\S]*atriz 0003_better applied; atriz 0004_bad, 0005_late not$/,
    );
  });
});

test('a deployment creates what does not exist, and a dry run says so', async () => {
  const environment = { ...freshEnvironment(), NODE_ENV: 'production' };
  const dry = await runCli(['deploy', 'core', 'pshop', '--dry-run'], environment);
  expect(dry).toMatchObject({ code: 0, stderr: '' });
  expect(dry.stdout).toMatch(/^create +not started +\S+core, \S+pshop would be created and migrated$/m);
  const done = await runCli(['deploy', 'core', 'pshop'], environment);
  expect(done).toMatchObject({ code: 0, stderr: '' });
  expect(done.stdout).toMatch(/^create +done/m);
  expect(done.stdout).toMatch(/^backup +not needed +the databases are new$/m);
  expect(done.stdout).toMatch(/^doctor again +done +2 databases healthy$/m);
  expect(await runCli(['access', 'check', 'core', 'pshop'], environment)).toMatchObject({ code: 0 });
});
