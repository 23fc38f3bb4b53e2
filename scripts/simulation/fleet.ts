// Simulates vehicles on a grid of streets: plausible turns, speeds and sensors, reproducible by a seed.
import type { LocationInput } from '../../src/tracking/index.ts';

interface Trip {
  deviceId: string;
  userId: string;
  appSource: string;
  from: Date;
  to: Date;
  /** Seconds between two locations. Default 30. */
  interval?: number;
  /** The same seed gives the same trip. */
  seed: number;
}

// A city centre, and the metres of one degree there.
const centre = { latitude: -34.6037, longitude: -58.3816 };
const metresPerLatitude = 111_320;
const metresPerLongitude = metresPerLatitude * Math.cos((centre.latitude * Math.PI) / 180);
/** Metres between two avenues, and the number of avenues on each side of the centre. */
const block = 800;
const reach = 10;

/** One location every `interval` seconds from `from` to `to`. */
export function* drive({
  deviceId,
  userId,
  appSource,
  from,
  to,
  interval = 30,
  seed,
}: Trip): Generator<LocationInput> {
  const random = randomNumbers(seed);
  const pick = (low: number, high: number) => low + random() * (high - low);
  let east = Math.round(pick(-reach, reach)) * block;
  let north = Math.round(pick(-reach, reach)) * block;
  let heading = Math.floor(random() * 4) * 90;
  let speed = 0;
  let untilCrossing = block;
  for (let time = from.getTime(); time <= to.getTime(); time += interval * 1000) {
    // North-south avenues are fast, cross streets are slow. One location in fifteen is at a red light.
    const limit = heading % 180 === 0 ? 60 : 40;
    const wanted = random() < 1 / 15 ? 0 : limit * pick(0.55, 1.05);
    speed += (wanted - speed) * 0.7;
    let metres = (speed / 3.6) * interval;
    while (metres > 0) {
      const step = Math.min(metres, untilCrossing);
      east += step * Math.sin((heading * Math.PI) / 180);
      north += step * Math.cos((heading * Math.PI) / 180);
      metres -= step;
      untilCrossing -= step;
      if (untilCrossing > 0) continue;
      untilCrossing = block;
      heading = turn(heading, east, north, random);
    }
    yield {
      time: new Date(time),
      deviceId,
      userId,
      appSource,
      latitude: round(centre.latitude + (north + pick(-4, 4)) / metresPerLatitude, 8),
      longitude: round(centre.longitude + (east + pick(-4, 4)) / metresPerLongitude, 8),
      accuracy: round(pick(3, 12), 2),
      altitude: round(25 + 8 * Math.sin(east / 3_000) + pick(-1, 1), 2),
      speed: round(Math.max(0, speed), 2),
      heading: round((heading + pick(-2, 2) + 360) % 360, 2),
    };
  }
}

// Returns the next heading: mostly unchanged, but reversed at the edge of the city.
function turn(heading: number, east: number, north: number, random: () => number): number {
  const edge = reach * block;
  if (Math.abs(east) >= edge && Math.sign(east) === Math.sign(Math.sin((heading * Math.PI) / 180)))
    return (heading + 180) % 360;
  if (Math.abs(north) >= edge && Math.sign(north) === Math.sign(Math.cos((heading * Math.PI) / 180)))
    return (heading + 180) % 360;
  const choice = random();
  if (choice < 0.6) return heading;
  return (heading + (choice < 0.8 ? 90 : 270)) % 360;
}

const round = (value: number, digits: number) => Number(value.toFixed(digits));

// A linear congruential generator with the constants of Numerical Recipes: Math.random takes no seed, and
// better random numbers are not needed here.
function randomNumbers(seed: number): () => number {
  let state = seed >>> 0;
  return () => {
    state = (Math.imul(state, 1_664_525) + 1_013_904_223) >>> 0;
    return state / 2 ** 32;
  };
}
