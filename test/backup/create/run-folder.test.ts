// The folder of one run: what it remembers, what it becomes, and what the next run removes.
import { existsSync, mkdirSync, readFileSync, utimesSync, writeFileSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { startRun } from '../../../scripts/backup/create/run-folder.ts';
import { everythingIn, temporaryFolder } from '../../support/backups.ts';

const manifest = {
  format: 'atriz-backup-1',
  startedAt: '2026-01-02T03:04:05.678Z',
  finishedAt: '',
  databases: [],
} as const;

test('dumps that start at once are all remembered', async () => {
  const folder = await startRun(temporaryFolder());
  const pids = Array.from({ length: 20 }, (_, index) => 4_000_000 + index);
  await Promise.all(pids.map((pid) => folder.addChild(pid)));
  const { children } = JSON.parse(readFileSync(join(folder.path, 'run.json'), 'utf8'));
  expect(children.map(({ pid }: { pid: number }) => pid).sort()).toEqual(pids);
});

test('a run that completes is renamed and keeps nothing of its own', async () => {
  const parent = temporaryFolder();
  const folder = await startRun(parent);
  const made = await folder.complete(manifest);
  await folder.discard();
  expect(everythingIn(parent)).toEqual(['2026-01-02T03-04-05.678Z']);
  expect(everythingIn(made)).toEqual(['manifest.json']);
});

test('two runs that began in the same millisecond become two backups', async () => {
  const parent = temporaryFolder();
  const folders = [await startRun(parent), await startRun(parent), await startRun(parent)];
  await Promise.all(folders.map((folder) => folder.complete(manifest)));
  expect(everythingIn(parent).sort()).toEqual([
    '2026-01-02T03-04-05.678Z',
    '2026-01-02T03-04-05.679Z',
    '2026-01-02T03-04-05.680Z',
  ]);
});

test('a discarded run removes the folder that it made for itself, and no other', async () => {
  const parent = temporaryFolder();
  await (await startRun(join(parent, 'backups'))).discard();
  expect(everythingIn(parent)).toEqual([]);
  await (await startRun(parent)).discard();
  expect(existsSync(parent)).toBe(true);
});

test('removed is what a dead process left; kept is what lives, and what another host may still write', async () => {
  const parent = temporaryFolder();
  const leftover = (name: string, owner: object | undefined, ageHours = 0) => {
    const path = join(parent, `.incomplete-${name}`);
    mkdirSync(path);
    if (owner) writeFileSync(join(path, 'run.json'), JSON.stringify(owner));
    const time = new Date(Date.now() - ageHours * 3600_000);
    for (const file of [path, ...(owner ? [join(path, 'run.json')] : [])]) utimesSync(file, time, time);
  };
  // Above the highest pid that Linux gives out.
  const dead = { pid: 4_194_305, mark: null, children: [] };
  leftover('dead', { ...dead, host: hostname() });
  leftover('reused-pid', { ...dead, pid: process.pid, mark: 'of another process', host: hostname() });
  leftover('living', { ...dead, pid: process.pid, host: hostname() });
  leftover('elsewhere', { ...dead, host: 'elsewhere' }, 2);
  leftover('elsewhere-old', { ...dead, host: 'elsewhere' }, 30);
  leftover('just-begun', undefined);
  leftover('ownerless', undefined, 1);
  await (await startRun(parent)).discard();
  expect(everythingIn(parent).sort()).toEqual([
    '.incomplete-elsewhere',
    '.incomplete-just-begun',
    '.incomplete-living',
  ]);
});

test('what a kill left of a backup that was being removed goes with the next run', async () => {
  const parent = temporaryFolder();
  const removed = join(parent, '.removed-2026-01-02T03-04-05.678Z');
  mkdirSync(removed);
  writeFileSync(join(removed, 'atriz_core.dump'), 'rows');
  await (await startRun(parent)).discard();
  expect(everythingIn(parent)).toEqual([]);
});
