// Somebody with a file of GPS points: the README's commands load it, write it out, and read that back.
import { readFileSync, writeFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import { getRecentLocations } from '../../src/tracking/index.ts';
import { environmentFor } from '../support/cli.ts';
import { describeWith, migratedDatabase, openPool } from '../support/database.ts';
import { Checkout, commandsUnder } from '../support/journey.ts';

const points = 200;

describeWith(['timescaledb'], 'a file of a tracker', () => {
  test('is loaded, exported as GPX, and loaded again only once', async () => {
    const url = await migratedDatabase('tracking');
    const checkout = new Checkout(environmentFor('tracking', url));
    // As Excel of a European computer saves it.
    const lines = Array.from({ length: points }, (_, index) => {
      const seconds = Date.UTC(2026, 9, 1) / 1000 + index * 30;
      return `${seconds};45,${4525956 + index};14,0180194;${750 + index},5;${index % 90}`;
    });
    writeFileSync(
      checkout.path('walk.csv'),
      ['sep=;', 'Timestamp;Lat;Lng;Ele;Speed', ...lines, ''].join('\r\n'),
    );
    const commands = commandsUnder('README.md', '## Develop');
    const typed = (name: string) => commands.filter((line) => line.startsWith(`npm run ${name} `));
    const [load = '', ...more] = typed('db:import');
    expect(more).toEqual([]);

    expect(await checkout.type(load)).toMatchObject({
      code: 0,
      stderr: '',
      stdout: expect.stringContaining(`${points} locations loaded`),
    });
    const [, device = ''] = /--device (\S+)/.exec(load) ?? [];
    const db = openPool('tracking', url);
    const before = await getRecentLocations(db, device);
    expect(before).toHaveLength(points);

    const [write = ''] = typed('db:export');
    expect(await checkout.type(write)).toMatchObject({ code: 0 });
    const [, file = ''] = /--output (\S+)/.exec(write) ?? [];
    expect(readFileSync(checkout.path(file), 'utf8').match(/<trkpt /g)).toHaveLength(points);

    const again = await checkout.type(`npm run db:import -- ${file} --once`);
    expect(again).toMatchObject({ code: 0, stdout: expect.stringContaining(`${points} `) });
    expect(again.stdout).toMatch(/0 locations loaded/);
    expect(await getRecentLocations(db, device)).toEqual(before);

    await db.query('DELETE FROM location_events WHERE device_id = $1', [device]);
    expect(await checkout.type(`npm run db:import -- ${file}`)).toMatchObject({ code: 0 });
    expect(await getRecentLocations(db, device)).toEqual(before);
  });
});
