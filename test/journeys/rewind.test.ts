// Point in time: a table is dropped by mistake under load, and the server, or one database, goes back to before it.
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import type { Finding } from '../../scripts/doctor/finding.ts';
import { type DatabaseKey, databaseKeys, databases, definitionOf } from '../../src/databases.ts';
import { withDatabase } from '../../src/driver/database-url.ts';
import { sqlState } from '../../src/errors.ts';
import { createDatabasePool } from '../../src/pool.ts';
import { temporaryFolder } from '../support/backups.ts';
import { runCli } from '../support/cli.ts';
import { Load, storedIds, type Write } from '../support/load.ts';
import { type ArchivedServer, findArchivable, startArchivedServer } from '../support/pgbackrest.ts';

const found = await findArchivable();
const programs = typeof found === 'string' ? { folder: '', hasTimescale: false } : found;
const keys = databaseKeys.filter((key) => programs.hasTimescale || definitionOf(key).extensions.length === 0);
const others = keys.filter((key) => key !== 'pshop');
const title = `a server with ${keys.length} databases${typeof found === 'string' ? ` (skipped: ${found})` : ''}`;

describe.skipIf(typeof found === 'string')(title, () => {
  let server: ArchivedServer;

  beforeAll(async () => {
    server = await startArchivedServer(programs);
    for (const command of ['create', 'migrate']) await succeed([command, ...keys]);
    await server.pgBackRest('stanza-create');
    const load = await Load.start(server.url, keys);
    try {
      await server.pgBackRest('--type=full', 'backup');
    } finally {
      await load.stop();
    }
  });
  afterAll(() => server?.stop());

  test('all databases go back to the moment before DROP TABLE', async ({ annotate }) => {
    const { load, target, droppedAt } = await dropUnderLoad();
    // The applications are stopped, and everything that they wrote since is given up.
    await load.stop();
    const stoppedAt = Date.now();
    await server.shutDown();
    await server.pgBackRest('--delta', ...toTime(target), 'restore');
    await server.start();
    await isPromoted(server);
    const isBackAt = Date.now();

    for (const key of keys) await expectMoment(load, key, target);
    await expectConsistent();
    expect(await findings()).toEqual([]);
    await server.pgBackRest('check');
    await expectWritable();
    await annotate(sayLoss(load.writes, target, droppedAt, stoppedAt, isBackAt));
  });

  test('one database goes back, by a restored server beside, and the others go on', async ({ annotate }) => {
    const { load, target, droppedAt } = await dropUnderLoad();
    const stoppedAt = Date.now();
    // It archives what was written last, so that the recovery sees the moment pass.
    await server.pgBackRest('check');
    const copy = await server.startCopy('--archive-mode=off', ...toTime(target));
    onTestFinished(() => copy.stop());
    await isPromoted(copy);
    const folder = temporaryFolder();
    const beside = { ...server.environment, PGPORT: String(copy.port) };
    await succeed(['backup', 'pshop', '--to', folder], beside);
    await succeed(['restore', 'latest', 'pshop', '--in', folder, '--yes']);
    const isBackAt = Date.now();
    await written(load, others, isBackAt);
    await load.stop();

    await expectMoment(load, 'pshop', target);
    for (const key of others) await expectAll(load, key);
    await expectConsistent();
    expect(await findings()).toEqual([
      expect.objectContaining({ check: 'kept-databases', severity: 'warning', key: 'pshop' }),
    ]);
    await expectWritable();
    await annotate(sayLoss(load.of('pshop'), target, droppedAt, stoppedAt, isBackAt));
  });

  const succeed = async (args: string[], environment = server.environment) => {
    const { code, stdout, stderr } = await runCli(args, environment);
    expect({ args, code, said: code === 0 ? '' : stdout + stderr }).toEqual({ args, code: 0, said: '' });
    return stdout;
  };

  /** The applications write, somebody drops a table, and the log of the server says when. */
  async function dropUnderLoad() {
    const load = await Load.start(server.url, keys);
    onTestFinished(() => load.stop());
    const backedUpAt = Date.now();
    // pgBackRest compares whole seconds: the moment has to be in a later one than the end of the backup.
    await written(load, keys, backedUpAt + 2_000);
    const lines = server.log.length;
    await using pool = createDatabasePool({
      connectionString: withDatabase(server.url, databases.pshop.database),
      max: 1,
    });
    await pool.query('DROP TABLE orders CASCADE');
    const droppedAt = Date.now();
    const line = () => server.log.slice(lines).find((one) => one.includes('statement: DROP TABLE orders'));
    await expect.poll(line).toBeDefined();
    const target = /^(\S+ \S+) UTC/.exec(line() ?? '')?.[1] ?? '';
    // The shop notices; the others go on for a moment.
    await expect.poll(() => sqlState(load.failures.get('pshop'))).toBe('42P01');
    await written(load, others, Date.now());
    return { load, target, droppedAt };
  }

  /** Each of them has an acknowledged write that began after this moment. */
  const written = (load: Load, which: readonly DatabaseKey[], after: number) =>
    expect
      .poll(() => which.filter((key) => !load.of(key).some(({ begunAt }) => begunAt > after)))
      .toEqual([]);

  /** A server answers reads before it has come to the moment: with what was there earlier. */
  async function isPromoted({ url }: Pick<ArchivedServer, 'url'>): Promise<void> {
    await using pool = createDatabasePool({ connectionString: url, max: 1 });
    const isRecovering = async () =>
      (await pool.query('SELECT pg_is_in_recovery() AS recovering')).rows[0]?.recovering;
    await expect.poll(isRecovering).toBe(false);
  }

  const toTime = (target: string) => ['--type=time', `--target=${target}+00`, '--target-action=promote'];

  /** All that was acknowledged before the moment is there, and nothing that began after it. */
  async function expectMoment(load: Load, key: DatabaseKey, target: string): Promise<void> {
    const at = Date.parse(`${target.replace(' ', 'T')}Z`);
    const stored = await storedIds(server.url, key);
    const before = load.of(key).filter(({ acknowledgedAt }) => acknowledgedAt < at);
    const after = load.of(key).filter(({ begunAt }) => begunAt > at);
    expect(before.length).toBeGreaterThan(0);
    expect(before.filter(({ id }) => !stored.has(id))).toEqual([]);
    expect(after.filter(({ id }) => stored.has(id))).toEqual([]);
  }

  async function expectAll(load: Load, key: DatabaseKey): Promise<void> {
    const stored = await storedIds(server.url, key);
    expect(load.of(key).filter(({ id }) => !stored.has(id))).toEqual([]);
  }

  async function expectConsistent(): Promise<void> {
    await succeed(['references', ...keys]);
  }

  async function findings(): Promise<(Finding & { key: DatabaseKey })[]> {
    const stdout = await succeed(['doctor', ...keys, '--json']);
    const reports = JSON.parse(stdout) as { key: DatabaseKey; findings: Finding[] }[];
    return reports.flatMap(({ key, findings }) => findings.map((finding) => ({ key, ...finding })));
  }

  async function expectWritable(): Promise<void> {
    const load = await Load.start(server.url, keys);
    await written(load, keys, Date.now());
    await load.stop();
    expect([...load.failures]).toEqual([]);
  }
});

function sayLoss(writes: Write[], target: string, droppedAt: number, stoppedAt: number, isBackAt: number) {
  const at = Date.parse(`${target.replace(' ', 'T')}Z`);
  const lost = writes.filter(({ acknowledgedAt }) => acknowledgedAt >= at).length;
  const seconds = (from: number, to: number) => ((to - from) / 1000).toFixed(2);
  return `DROP TABLE ended ${seconds(at, droppedAt)} s after the moment, the applications ${seconds(at, stoppedAt)} s; ${lost} writes lost; back after ${seconds(stoppedAt, isBackAt)} s`;
}
