// backup, when something goes wrong in between: nothing is left that looks like a backup.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { beforeAll, expect, inject, test, vi } from 'vitest';
import { startMark } from '../../scripts/embedded/processes.ts';
import { isAlive } from '../../src/config.ts';
import { createDatabasePool } from '../../src/pool.ts';
import {
  everythingIn,
  filledCore,
  programFolder,
  temporaryFolder,
  wrappedPgDump,
} from '../support/backups.ts';
import { environmentFor, runCli, startCli } from '../support/cli.ts';
import { describeWith, emptyDatabase, serverUrl } from '../support/database.ts';

/** Also of a process that nobody has waited for yet. */
const hasEnded = async (pid: number) => !isAlive(pid) || (await startMark(pid)) === 'ended';

/** The first child that a run has noted; undefined while it has none, or writes. */
function notedChild(file: string): number | undefined {
  try {
    return JSON.parse(readFileSync(file, 'utf8')).children[0]?.pid;
  } catch {
    return undefined;
  }
}

/** More of them on demand: KILLS=10 npx vitest run test/commands/backup-failures.test.ts */
const kills = Number(process.env.KILLS ?? 2);

test('a pg_dump that is too old is refused, with what to install, and nothing is left', async () => {
  const to = join(temporaryFolder(), 'backups');
  const PG_BIN = programFolder('pg_dump', 'echo "pg_dump (PostgreSQL) 9.6.24"');
  const environment = { ...environmentFor('core', await emptyDatabase('core')), PG_BIN };
  const result = await runCli(['backup', 'core', '--to', to], environment);
  expect(result).toMatchObject({
    code: 1,
    stderr: expect.stringContaining(`pg_dump 9.6.24 (${PG_BIN}) is too old`),
  });
  expect(result.stderr).toContain('postgresql-client-');
  expect(everythingIn(to)).toEqual([]);
});

test('a URL through a transaction-pooling proxy, and options that contradict each other, are refused', async () => {
  const to = temporaryFolder();
  const url = `${serverUrl('core', 'nowhere')}?pgbouncer=true`;
  expect(await runCli(['backup', 'core', '--to', to], environmentFor('core', url))).toMatchObject({
    code: 2,
    stderr: expect.stringContaining("need the server's own URL"),
  });
  expect(await runCli(['backup', '--schema-only', '--include-tracking', '--to', to], {})).toMatchObject({
    code: 2,
  });
});

test.skipIf(inject('server').kind !== 'embedded')(
  'the embedded tracking server is refused, and why',
  async () => {
    const environment = environmentFor('tracking', await emptyDatabase('tracking'));
    expect(await runCli(['backup', 'tracking', '--to', temporaryFolder()], environment)).toMatchObject({
      code: 1,
      stderr: expect.stringContaining('has one session'),
    });
  },
);

describeWith(['pg_dump'], 'with pg_dump', () => {
  let url: string;
  let environment: Record<string, string>;
  const backup = (to: string, ...args: string[]) =>
    runCli(['backup', 'core', '--to', to, ...args], environment);
  const list = async (to: string) =>
    JSON.parse((await runCli(['backup', '--list', '--json', '--to', to], {})).stdout);

  const expectWhole = async (folder = '') =>
    expect(await runCli(['drill', '--from', folder], environment)).toMatchObject({ code: 0, stderr: '' });

  beforeAll(async () => {
    url = await filledCore();
    environment = environmentFor('core', url);
  });

  test('a disk that takes no more: exit 1 with the words of pg_dump, and nothing is left', async () => {
    const to = temporaryFolder();
    // A limit on the size of files fails the same write that a full disk fails, and needs no privilege.
    const PG_BIN = await wrappedPgDump(url, `trap '' XFSZ\nulimit -f 256`);
    expect(await runCli(['backup', 'core', '--to', to], { ...environment, PG_BIN })).toMatchObject({
      code: 1,
      stderr: expect.stringMatching(/^core: pg_dump failed.*\n(.*\n)*.*could not write/),
    });
    expect(everythingIn(to)).toEqual([]);
  });

  /** Starts a backup whose pg_dump waits for a lock, and runs `work` with it. */
  async function whileWaiting(
    to: string,
    work: (dump: number, started: ReturnType<typeof startCli>) => Promise<void>,
  ) {
    await using other = createDatabasePool({ connectionString: url, max: 2 });
    await other.sql.begin(async (sql) => {
      await sql`LOCK TABLE users IN ACCESS EXCLUSIVE MODE`;
      const started = startCli(['backup', 'core', '--to', to], environment);
      let dump: number | undefined;
      while (dump === undefined) {
        const { rows } = await other.query<{ pid: number }>(
          `SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pg_dump' AND wait_event_type = 'Lock'`,
        );
        dump = rows[0]?.pid;
        await sleep(20);
      }
      expect(everythingIn(to)).toEqual([expect.stringMatching(/^\.incomplete-/)]);
      await work(dump, started);
    });
  }

  test('a lost connection: exit 1 with the words of pg_dump, and nothing is left', async () => {
    const to = temporaryFolder();
    await whileWaiting(to, async (dump, { ended }) => {
      await using other = createDatabasePool({ connectionString: url, max: 1 });
      await other.query('SELECT pg_terminate_backend($1)', [dump]);
      expect(await ended).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('terminating connection'),
      });
    });
    expect(everythingIn(to)).toEqual([]);
  });

  test('SIGTERM: exit 1, nothing is left, and pg_dump has ended', async () => {
    const to = temporaryFolder();
    await whileWaiting(to, async (_, { child, ended }) => {
      child.kill('SIGTERM');
      expect(await ended).toMatchObject({
        code: 1,
        stderr: expect.stringContaining('interrupted by SIGTERM'),
      });
    });
    expect(everythingIn(to)).toEqual([]);
  });

  test('SIGKILL while pg_dump waits: the next run ends that pg_dump and removes what was left', async () => {
    const to = temporaryFolder();
    await whileWaiting(to, async (_, { child, ended }) => {
      const [partial = ''] = everythingIn(to);
      // pg_dump may wait before the run has noted it.
      const dump = await vi.waitUntil(() => notedChild(join(to, partial, 'run.json')), { timeout: 120_000 });
      child.kill('SIGKILL');
      await ended;
      expect(await hasEnded(dump)).toBe(false);
      await runCli(['backup', 'core', '--to', to], { ...environment, PG_BIN: temporaryFolder() });
      expect(everythingIn(to)).toEqual([]);
      await expect.poll(() => hasEnded(dump)).toBe(true);
    });
  });

  test(
    `${kills} kills at random moments: no partial backup is listed or restorable, and the next one succeeds`,
    async () => {
      const to = temporaryFolder();
      const begun = performance.now();
      expect(await backup(to)).toMatchObject({ code: 0 });
      const duration = performance.now() - begun;
      let whole = 1;
      for (let kill = 0; kill < kills; kill += 1) {
        const { child, ended } = startCli(['backup', 'core', '--to', to], environment);
        await sleep(Math.random() * duration);
        child.kill('SIGKILL');
        await ended;
        const partial = everythingIn(to).filter((name) => name.startsWith('.'));
        const listed = (await list(to)) as { folder: string }[];
        expect(listed.length + partial.length).toBe(everythingIn(to).length);
        for (const name of partial) {
          expect(
            await runCli(['restore', join(to, name), '--into', 'nobody', '--yes'], environment),
          ).toMatchObject({
            code: 1,
            stderr: expect.stringContaining('never finished'),
          });
        }
        // Killed after it was renamed: then it must be whole.
        if (listed.length > whole) await expectWhole(listed[0]?.folder);
        expect(await backup(to)).toMatchObject({ code: 0 });
        expect(everythingIn(to).filter((name) => name.startsWith('.'))).toEqual([]);
        whole = (await list(to)).length;
        expect(whole).toBe(listed.length + 1);
      }
      await expectWhole(((await list(to)) as { folder: string }[])[0]?.folder);
    },
    20_000 + kills * 10_000,
  );
});
