// report: one page of all databases, in which nothing from a database is markup; the same facts as JSON.
import { randomUUID } from 'node:crypto';
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseHTML } from 'linkedom';
import { beforeAll, describe, expect, inject, test } from 'vitest';
import type { Report } from '../../scripts/report/facts.ts';
import { databaseKeys, databases, definitionOf } from '../../src/databases.ts';
import { recordLocations } from '../../src/index.ts';
import { ArrangedServer } from '../support/access.ts';
import { temporaryFolder } from '../support/backups.ts';
import { environmentFor, runCli } from '../support/cli.ts';
import { serverUrl, uniqueName } from '../support/database.ts';
import { day, hour, point } from '../support/tracking-points.ts';

const server = new ArrangedServer();
const folder = temporaryFolder();
const [moving, silent] = [randomUUID(), randomUUID()];
const hostile = `</title></td><script>alert('"&')</script><img src=x onerror=alert(1)>`;

/** The page, and the facts as JSON. */
async function report(environment: Record<string, string>, ...args: string[]) {
  const out = join(folder, `${randomUUID()}.html`);
  const written = await runCli(['report', '--out', out, ...args], environment);
  expect(written).toMatchObject({ code: 0, stderr: '' });
  expect(written.stdout).toContain(out);
  const printed = await runCli(['report', '--json', ...args], environment);
  expect(printed).toMatchObject({ code: 0, stderr: '' });
  return { page: readFileSync(out, 'utf8'), facts: JSON.parse(printed.stdout) as Report };
}

/** What a browser would fetch or run. */
function foreignParts(page: string): string[] {
  const elements = [...parseHTML(page).document.querySelectorAll('*')];
  const isForeign = (name: string, value: string) =>
    /^(src|srcset|action|on.*)$/.test(name) ||
    (/href$/.test(name) && !value.startsWith('#')) ||
    (name !== 'title' && /url\((?!#)/.test(value));
  return [
    ...elements
      .map(({ localName }) => localName)
      .filter((name) => /^(script|img|image|iframe|object|embed|link|base|form)$/.test(name)),
    ...elements.flatMap((element) =>
      [...element.attributes]
        .filter(({ name, value }) => isForeign(name, value))
        .map(({ name, value }) => `${name}=${value}`),
    ),
    ...(page.match(/@import|url\((?!#)/g) ?? []),
  ];
}

beforeAll(async () => {
  await server.arrange();
  await server
    .superuser('core')
    .query("INSERT INTO users (email, password_hash, name) VALUES ('ada@example.com', 'x', 'Ada Lovelace')");
  const mextrack = server.superuser('mextrack');
  await mextrack.query('INSERT INTO vehicles (user_id, vehicle_name, device_id) VALUES ($1, $2, $3)', [
    randomUUID(),
    hostile,
    moving,
  ]);
  const now = Date.now();
  const tracking = server.superuser('tracking');
  await recordLocations(tracking, [
    ...Array.from({ length: 60 }, (_, minute) =>
      point({
        deviceId: moving,
        time: new Date(now - minute * 60_000),
        latitude: 45 + minute / 1000,
        longitude: 9,
        speed: minute < 20 ? 0 : minute,
      }),
    ),
    point({ deviceId: silent, time: new Date(now - 3 * day) }),
  ]);
});

test('shows the five databases with tables, migrations and findings, and nobody by name', async () => {
  const { page, facts } = await report(server.environment);
  expect(facts.databases.map(({ key, state }) => [key, state])).toEqual(
    databaseKeys.map((key) => [key, 'reachable']),
  );
  for (const key of databaseKeys) expect(page).toContain(`<h3 id="database-${key}-title">`);
  expect(facts.databases[0]?.facts).toMatchObject({
    tables: expect.arrayContaining([expect.objectContaining({ name: 'users', comment: expect.any(String) })]),
  });
  expect(page).toContain('0000_tables');
  expect(page).not.toMatch(/ada@example\.com|Ada Lovelace/);
  expect(JSON.stringify(facts)).not.toMatch(/ada@example\.com|Ada Lovelace/);
  expect(page).not.toContain('secret-of');
});

test('draws an ER diagram of each database', async () => {
  const { page } = await report({});
  for (const { database } of Object.values(databases))
    expect(page).toContain(`<title>ER diagram of ${database}: `);
  expect(page).toContain('>password_hash</text>');
});

test('is one file without scripts that fetches nothing', async () => {
  const { page } = await report(server.environment, '--device', moving);
  expect(foreignParts(page)).toEqual([]);
  expect(page).toContain(`content="default-src 'none'; style-src 'unsafe-inline'"`);
  expect(page.length).toBeLessThan(2_000_000);
});

test('what a database holds is text: names, comments, findings', async () => {
  const mextrack = server.superuser('mextrack');
  await mextrack.query(`CREATE TABLE "<script>alert(1)</script>" (id int)`);
  await mextrack.query(`COMMENT ON TABLE vehicles IS '${hostile.replaceAll("'", "''")}'`);
  try {
    const { page, facts } = await report(server.environment, '--device', moving);
    expect(foreignParts(page)).toEqual([]);
    expect(JSON.stringify(facts)).toContain('<script>alert(1)</script>');
    expect(page).toContain('&#60;script&#62;alert(1)');
    expect(page).toContain('&#60;img src=x onerror=alert(1)&#62;');
  } finally {
    await mextrack.query('DROP TABLE "<script>alert(1)</script>"');
  }
});

test('databases without a setting, without an answer, and missing ones stop nothing', async () => {
  const { page, facts } = await report({
    ...environmentFor('core', serverUrl('core', uniqueName('core'))),
    ...environmentFor('atriz', 'postgresql://postgres:secret@127.0.0.1:1/atriz_db'),
    ...environmentFor('pshop', server.url('pshop')),
    [definitionOf('mextrack').urlVariable]: 'mextrack, please',
  });
  expect(facts.databases.map(({ key, state }) => [key, state])).toEqual([
    ['core', 'unreachable'],
    ['tracking', 'not configured'],
    ['atriz', 'unreachable'],
    ['mextrack', 'not configured'],
    ['pshop', 'reachable'],
  ]);
  expect(facts.tracking).toEqual({ unknown: expect.stringContaining('TRACKING_DATABASE_URL') });
  expect(page).toContain('npm run db:create -- core');
  expect(page).toContain('no server answers');
  expect(page).toContain('1 of 5');
  expect(page).not.toContain('secret@');
  expect(await report({})).toMatchObject({
    facts: { databases: databaseKeys.map(() => ({ state: 'not configured', findings: [] })) },
  });
});

test('a role that only reads gets what it may read, and the reasons for the rest', async () => {
  const urls = databaseKeys.map((key) => [
    definitionOf(key).urlVariable,
    key === 'tracking' && !server.enforcesLogins ? server.url(key) : server.urlAs(key, 'atriz_reporting'),
  ]);
  const { page, facts } = await report({ ...server.environment, ...Object.fromEntries(urls) });
  expect(facts.databases.map(({ state }) => state)).toEqual(databaseKeys.map(() => 'reachable'));
  expect(facts.databases[0]).toMatchObject({
    facts: { tables: expect.arrayContaining([expect.objectContaining({ name: 'users' })]) },
    migrations: { isInStep: true },
  });
  if (server.enforcesLogins) {
    expect(facts.tracking).toMatchObject({ devices: { known: 2, silent: 1 }, positions: { total: 1 } });
    if (server.hasTimescale) {
      expect(facts.tracking).toMatchObject({ chunks: { unknown: expect.stringContaining('may not') } });
      expect(facts.databases[1]?.unchecked).toContainEqual(
        expect.stringMatching(/^compression was not checked/),
      );
    }
  }
  // No advice to widen the rights of the role.
  expect(page).not.toContain('GRANT pg_monitor');
  expect(page).not.toMatch(/\bat .*\.[jt]s:\d+/);
});

describe('tracking', () => {
  test('hours, positions and devices that fell silent', async () => {
    const { page, facts } = await report(server.environment);
    expect(facts.tracking).toMatchObject({
      devices: { points: 61, known: 2, silent: 1, silentDevices: [{ deviceId: silent }] },
      positions: { total: 1, shown: [{ deviceId: moving, label: hostile }] },
      late: { hours: expect.any(Number) },
      track: null,
    });
    expect(page).toContain(silent);
    expect(page).toContain('<title>Map of the latest positions of 1 device</title>');
    expect(page).toContain('<title>Points per hour since ');
    // The label of the dot, written by another library, and that of the table.
    expect(page).toContain('&lt;script&gt;');
    expect(page).toContain('&#60;script&#62;');
  });

  test.runIf(inject('server').capabilities.includes('timescaledb'))(
    'chunks, jobs, and hours that changed after they were summarised',
    async () => {
      const db = server.superuser('tracking');
      const to = new Date(Math.floor(Date.now() / hour) * hour - hour);
      const from = new Date(to.getTime() - 5 * day);
      await db.query('CALL refresh_continuous_aggregate($1, $2::timestamptz, $3::timestamptz)', [
        'location_hourly',
        from,
        to,
      ]);
      const before = await report(server.environment);
      expect(before.facts.tracking).toMatchObject({
        late: { hours: 0 },
        timescale: { policies: { length: 5 } },
        chunks: [{ isCompressed: false, rawBytes: null }, { isCompressed: false }],
      });
      expect(before.page).toContain('No hour waits');

      await recordLocations(db, [point({ deviceId: silent, time: new Date(to.getTime() - 3 * day) })]);
      await db.query(
        "SELECT compress_chunk(c) FROM show_chunks('location_events', older_than => interval '1 day') AS c",
      );
      const { page, facts } = await report(server.environment);
      expect(facts.tracking).toMatchObject({
        late: { hours: 1, from: new Date(to.getTime() - 3 * day).toISOString().replace('.000Z', 'Z') },
        chunks: [{ isCompressed: true, rawBytes: expect.any(Number) }, { isCompressed: false }],
      });
      expect(page).toMatch(/<title>Size of 2 chunks by day/);
      expect(page).toContain('before compression');
    },
  );

  test('a track of a device in a range', async () => {
    const [from, to] = [Date.now() - 2 * hour, Date.now() + hour].map((at) => new Date(at).toISOString());
    const { page, facts } = await report(
      server.environment,
      '--device',
      moving,
      '--from',
      String(from),
      '--to',
      String(to),
    );
    expect(facts.tracking).toMatchObject({ track: { deviceId: moving, points: { length: 60 } } });
    expect(page).toContain('<figcaption class="legend">');
    expect(page).toMatch(/Stops of three minutes and more/);
    const lost = ['report', '--from', '2026-01-01'];
    expect(await runCli(lost, server.environment)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('--device'),
    });
  });
});

test('nothing is written with --json, and a folder that is not there is an error in one line', async () => {
  const out = join(folder, 'not', 'there.html');
  expect(await runCli(['report', '--json', '--out', out], server.environment)).toMatchObject({ code: 0 });
  expect(existsSync(out)).toBe(false);
  const { code, stderr } = await runCli(['report', '--out', out], server.environment);
  expect({ code, lines: stderr.trim().split('\n').length }).toEqual({ code: 1, lines: 1 });
});
