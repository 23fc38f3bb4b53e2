// Two hours of driving for the seeded vehicle and the courier, unless they have locations already.
import type { SeedFunction } from '../../../src/seed.ts';
import { getRecentLocations, recordLocations } from '../../../src/tracking/index.ts';
import { drive } from '../../simulation/fleet.ts';
import { courierDevice, people, vehicleDevice } from '../people.ts';

const trips = [
  { deviceId: vehicleDevice, userId: people.driver.id, appSource: 'mextrack', seed: 1 },
  { deviceId: courierDevice, userId: people.courier.id, appSource: 'pshop', seed: 2 },
];

const seed: SeedFunction = async (pool) => {
  const to = new Date();
  const from = new Date(to.getTime() - 2 * 3_600_000);
  let added = 0;
  for (const trip of trips.filter(({ appSource }) => !pool.foreignSources.includes(appSource))) {
    const points = await getRecentLocations(pool, trip.deviceId, { limit: 1 });
    if (points.length > 0) continue;
    added += (await recordLocations(pool, [...drive({ ...trip, from, to })])).written;
  }
  return added;
};

export default seed;
