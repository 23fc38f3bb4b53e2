// The server crashes under the writer, and the writer's process is told to end: nothing acknowledged is lost, nothing is there twice.
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { createPlainTracking } from '../../../scripts/simulation/plain-tracking.ts';
import { createDatabasePool } from '../../../src/pool.ts';
import { createLocationWriter } from '../../../src/tracking/index.ts';
import { programPath } from '../../support/cli.ts';
import { type OwnServer, startOwnServer } from '../../support/own-server.ts';
import { track } from '../../support/tracking-points.ts';

const restarts = Number(process.env.KILLS ?? 3);
const count = restarts * 20_000;

describe('the writer', () => {
  let server: OwnServer;
  beforeAll(async () => {
    server = await startOwnServer();
    await using db = createDatabasePool({ connectionString: server.url });
    await createPlainTracking(db);
  });
  afterAll(() => server.stop());

  const stored = async () => {
    await using db = createDatabasePool({ connectionString: server.url });
    const { rows } = await db.query<{ n: number }>(
      "SELECT (metadata->>'n')::int AS n FROM location_events ORDER BY n",
    );
    await db.query('TRUNCATE location_events');
    return rows.map(({ n }) => n);
  };

  test(`survives ${restarts} crashes of the server while ${count} events are fed`, async () => {
    const events = track(count, 1_000);
    await using db = createDatabasePool({ connectionString: server.url, max: 3 });
    const writer = createLocationWriter(db, { connections: 3, retryDelayMs: { min: 20, max: 200 } });
    const acknowledged: number[] = [];
    let fed = 0;
    const feeding = (async () => {
      for (const event of events) {
        const n = fed;
        void writer.write(event).then(() => acknowledged.push(n));
        fed += 1;
        if (fed % 100 === 0) await sleep(0);
      }
      await writer.flush();
    })();
    for (let restart = 1; restart <= restarts; restart += 1) {
      // Spread over the feeding, whatever the speed of the machine.
      while (fed < (events.length * restart) / (restarts + 1)) await sleep(1);
      await server.crashAndRestart();
    }
    await feeding;
    expect(writer.stats).toMatchObject({ written: count, rejected: 0, pending: 0 });
    expect(writer.stats.retries).toBeGreaterThan(0);
    await writer.close();
    expect(acknowledged).toHaveLength(count);
    expect(await stored()).toEqual(events.map((_, n) => n));
  });

  test('drains on SIGTERM: everything accepted is there, once', async () => {
    const child = spawn(process.execPath, [programPath('run-writer'), server.url], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    let output = '';
    child.stdout.setEncoding('utf8').on('data', (text: string) => {
      output += text;
    });
    onTestFinished(() => {
      child.kill('SIGKILL');
    });
    await once(child.stdout, 'data');
    await sleep(700);
    child.kill('SIGTERM');
    const [code] = await once(child, 'close');
    const { accepted, pending, acknowledged } = JSON.parse(output.split('\n')[1] ?? '');
    // Something was on its way, else nothing was drained.
    expect(pending).toBeGreaterThan(0);
    expect({ code, acknowledged }).toEqual({ code: 0, acknowledged: accepted });
    expect(await stored()).toEqual(Array.from({ length: accepted }, (_, n) => n));
  });
});
