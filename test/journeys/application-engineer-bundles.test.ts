// An application that uses what the package reads at run time, bundled and run far from node_modules.
import { execFileSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { build as esbuild } from 'esbuild';
import { build as vite } from 'vite';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { readMigrations } from '../../src/migrations/index.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { run } from '../support/cli.ts';
import { emptyDatabase } from '../support/database.ts';
import { plainTracking } from '../support/tracking.ts';

const application = `
import { Readable } from 'node:stream';
import { checkHealth, createDatabasePool } from '@atriz/database';
import { hashPassword, verifyPassword } from '@atriz/database/auth';
import { assertMigrated, migrate } from '@atriz/database/migrations';
import { importLocations } from '@atriz/database/tracking';

const texts = {
  csv: 'time,latitude,longitude\\n2026-11-01T00:00:00Z,91,2\\n',
  ndjson: '{"time":"2026-11-01T00:00:00Z","latitude":91,"longitude":2}\\n',
  gpx: '<gpx><trkpt lat="91" lon="2"><time>2026-11-01T00:00:00Z</time></trkpt></gpx>',
  geojson: JSON.stringify({ type: 'FeatureCollection', features: [{ type: 'Feature',
    geometry: { type: 'Point', coordinates: [2, 91] }, properties: { time: '2026-11-01T00:00:00Z' } }] }),
};
const defaults = { deviceId: '5f0c9f2e-7f0f-4c39-9d1f-6c1a4f0f7a11',
  userId: '0a000000-0000-4000-8000-000000000003', appSource: 'pshop' };

async function main() {
  const core = createDatabasePool({ key: 'core', connectionString: process.env.CORE_URL });
  const applied = await migrate(core, 'core');
  await assertMigrated(core);
  const { isHealthy } = await checkHealth(core);

  let turns = 0;
  const timer = setInterval(() => { turns += 1; }, 5);
  const hash = await hashPassword('secret', 11);
  clearInterval(timer);

  const tracking = createDatabasePool({ key: 'tracking', connectionString: process.env.TRACKING_URL });
  const rejected = [];
  for (const [format, text] of Object.entries(texts)) {
    await importLocations(tracking, { format, stream: Readable.from([text]), defaults },
      { onReject: ({ reason }) => rejected.push(format + ': ' + reason) });
  }
  await Promise.all([core.close(), tracking.close()]);
  console.log(JSON.stringify({ applied: applied.length, isHealthy, verified: await verifyPassword('secret', hash),
    hadTurns: turns > 0, rejected }));
}
main();
`;

const folder = mkdtempSync(join(tmpdir(), 'atriz-bundles-'));
const project = join(folder, 'project');
const entry = join(project, 'app.js');
/** Where the bundles run: the project of a Drizzle user, with migrations of its own. */
const elsewhere = join(folder, 'elsewhere');
const hasBun = (() => {
  try {
    return Boolean(execFileSync('bun', ['--version']));
  } catch {
    return false;
  }
})();
let tracking: { url: string };

beforeAll(async () => {
  const npm = (args: string[], cwd: string) => run('npm', args, { npm_config_loglevel: 'error' }, cwd);
  expect(await npm(['pack', '--pack-destination', folder], packageRoot())).toMatchObject({ code: 0 });
  const tarball = readdirSync(folder).find((name) => name.endsWith('.tgz')) ?? '';
  mkdirSync(join(elsewhere, 'drizzle'), { recursive: true });
  mkdirSync(project);
  for (const place of [project, elsewhere]) writeFileSync(join(place, 'package.json'), '{"type":"module"}');
  writeFileSync(entry, application);
  const install = ['install', '--omit=optional', '--no-audit', '--no-fund', join(folder, tarball)];
  expect(await npm(install, project)).toMatchObject({ code: 0 });
  tracking = await plainTracking();
});
afterAll(() => rmSync(folder, { recursive: true, force: true }));

async function expectToRun(program: string, bundle: string): Promise<void> {
  const environment = { CORE_URL: await emptyDatabase('core'), TRACKING_URL: tracking.url };
  const { stdout, stderr } = await run(program, [bundle], environment, elsewhere);
  expect(stderr).toBe('');
  expect(JSON.parse(stdout)).toEqual({
    applied: readMigrations('core').length,
    isHealthy: true,
    verified: true,
    hadTurns: true,
    rejected: ['csv', 'ndjson', 'gpx', 'geojson'].map(
      (format) => `${format}: latitude is 91, not from -90 to 90`,
    ),
  });
}

test.for(['esm', 'cjs'] as const)('esbuild, %s', async (format) => {
  const outfile = join(elsewhere, `esbuild.${format === 'esm' ? 'mjs' : 'cjs'}`);
  const { warnings } = await esbuild({
    entryPoints: [entry],
    bundle: true,
    platform: 'node',
    format,
    outfile,
    // The code asks for import.meta.url, and does without where there is none.
    logOverride: { 'empty-import-meta': 'silent' },
  });
  expect(warnings).toEqual([]);
  await expectToRun(process.execPath, outfile);
});

test('Vite, for a server', async () => {
  const outDir = join(elsewhere, 'vite');
  await vite({
    configFile: false,
    root: project,
    logLevel: 'error',
    ssr: { noExternal: true },
    build: { ssr: entry, outDir },
  });
  await expectToRun(process.execPath, join(outDir, 'app.js'));
});

test.skipIf(!hasBun)(
  hasBun ? 'Bun, bundled by it' : 'Bun, bundled by it (skipped: bun is not installed)',
  async () => {
    const outfile = join(elsewhere, 'bun.js');
    const bundle = ['build', entry, '--target=bun', `--outfile=${outfile}`];
    expect(await run('bun', bundle, {}, project)).toMatchObject({ code: 0 });
    await expectToRun('bun', outfile);
  },
);

test('without the optional packages, the command line says what to install', async () => {
  const refused = await run('npx', ['--no-install', 'atriz-db', 'status'], {}, project);
  expect(refused).toMatchObject({
    code: 1,
    stderr: expect.stringContaining('npm install --include=optional'),
  });
  expect(refused.stderr.split('\n')).toHaveLength(2);
});
