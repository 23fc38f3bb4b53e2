// A service that writes points until SIGTERM and then drains. Prints what was acknowledged.
import { createDatabasePool } from '../../src/index.ts';
import { createLocationWriter } from '../../src/tracking/index.ts';
import { point } from '../support/tracking-points.ts';

const db = createDatabasePool({ connectionString: process.argv[2], max: 3 });
const writer = createLocationWriter(db);
const acknowledged: number[] = [];
let accepted = 0;
let isStopping = false;
process.once('SIGTERM', () => {
  isStopping = true;
});

console.log('started');
const devices = Array.from({ length: 100 }, () => point());
while (!isStopping) {
  const n = accepted;
  void writer
    .write({ ...(devices[n % devices.length] ?? point()), time: new Date(), metadata: { n } })
    .then(() => acknowledged.push(n));
  accepted += 1;
  if (accepted % 500 === 0) await new Promise((resolve) => setImmediate(resolve));
  await writer.ready();
}
const pending = writer.stats.pending;
await writer.close();
await db.close();
console.log(JSON.stringify({ accepted, pending, acknowledged: acknowledged.length }));
