// npm run quickstart: starts a cluster in a temporary folder, fills it and queries it.
import { execFile } from 'node:child_process';
import { once } from 'node:events';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { plot } from 'asciichart';
import { Command, InvalidArgumentError } from 'commander';
import { vehicles } from '../schema/mextrack.ts';
import { childEnvironment, useUtc } from '../src/config.ts';
import { definitionOf } from '../src/databases.ts';
import {
  AtrizDatabaseError,
  createDatabasePool,
  getHourlyStats,
  getRecentLocations,
  type Pool,
  recordLocations,
} from '../src/index.ts';
import { packageRoot } from '../src/migrations/package-root.ts';
import { requireUser } from '../src/references/index.ts';
import { urlSettings } from '../src/targets.ts';
import { refreshContinuousAggregate } from '../src/timescale/timescale.ts';
import { getLatestLocations } from '../src/tracking/index.ts';
import { commandLine } from './cli/arguments.ts';
import { formatBytes, formatCount, printTable } from './cli/output.ts';
import { startBar } from './cli/progress.ts';
import { interruption } from './cli/signals.ts';
import { startCluster } from './embedded/cluster.ts';
import { EmbeddedClusterError } from './embedded/errors.ts';
import { type ClusterUrl, clusterUrls, environmentLines } from './embedded/urls.ts';
import { people } from './seeds/people.ts';
import { drive } from './simulation/fleet.ts';
import { runPolicies } from './simulation/jobs.ts';

interface QuickstartOptions {
  keep?: boolean;
  report: boolean;
  vehicles: number;
  days: number;
}

/** A shift lasts this many intervals of 30 seconds, so it has one point more. A vehicle drives two shifts a day. */
const pointsPerShift = 500;
const hour = 3_600_000;
/** The only file that the quickstart does not remove. */
const reportFile = 'atriz-report.html';
/** The device of Truck 1. */
const firstDevice = deviceOf(1);

const program = new Command('quickstart')
  .description('starts an embedded cluster, fills it with a simulated fleet and asks it questions')
  .option('--keep', 'stay up until Ctrl-C')
  .option('--no-report', `write no ${reportFile} into the current folder`)
  .option('--vehicles <count>', 'how many vehicles drive', wholeNumber, 20)
  .option('--days <count>', 'for how many days', wholeNumber, 10);

useUtc();
const started = performance.now();
const interruptedBy = interruption();
try {
  await quickstart(program.parse(commandLine()).opts<QuickstartOptions>());
  // Interrupted work would keep the process running.
  if (interruptedBy.aborted) process.exit(1);
} catch (error) {
  if (!(error instanceof EmbeddedClusterError || error instanceof AtrizDatabaseError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}

function deviceOf(vehicle: number): string {
  return `0e000000-0000-4000-8000-${String(vehicle).padStart(12, '0')}`;
}

function wholeNumber(text: string): number {
  const number = Number(text);
  if (Number.isInteger(number) && number > 0 && number <= 1000) return number;
  throw new InvalidArgumentError('It should be a whole number from 1 to 1000.');
}

async function quickstart(options: QuickstartOptions): Promise<void> {
  const folder = mkdtempSync(join(tmpdir(), 'atriz-quickstart-'));
  heading('An embedded cluster: PostgreSQL for four databases, TimescaleDB in WASM for tracking');
  const starting = startCluster({
    folder,
    durable: false,
    onProgress: (message) => console.log(`  ${message}`),
  });
  try {
    // After an interruption, nobody awaits `work`, which fails when the cluster stops.
    const work = starting.then((cluster) => run(clusterUrls(cluster), options));
    work.catch(() => undefined);
    await Promise.race([work, once(interruptedBy, 'abort')]);
  } finally {
    await starting.then(
      (cluster) => cluster.stop(),
      () => undefined,
    );
    rmSync(folder, { recursive: true, force: true });
  }
}

async function run(urls: readonly ClusterUrl[], options: QuickstartOptions): Promise<void> {
  await runCommand('prepare', urls);
  await using core = openPool('core', urls);
  await using tracking = openPool('tracking', urls);
  await using mextrack = openPool('mextrack', urls);
  await driveFleet({ core, tracking, mextrack }, options);
  await runJobs(tracking);
  await runCommand('status', urls);
  await showPositions(tracking, mextrack);
  await showOneVehicle(tracking);
  if (options.report)
    await runCommand('report', urls, ['--out', resolve(reportFile), '--device', firstDevice]);
  heading(`Done in ${Math.round((performance.now() - started) / 1000)} s. What to type next`);
  await sayGoodbye(options, urls);
}

function heading(text: string): void {
  console.log(`\n${text}`);
}

/** Runs a command as its user would, and shows what it prints. */
async function runCommand(
  command: string,
  urls: readonly ClusterUrl[],
  args: readonly string[] = [],
): Promise<void> {
  heading(`npm run db:${command}`);
  const settings = urlSettings(urls);
  const root = packageRoot();
  const width = process.stdout.isTTY ? { COLUMNS: String(process.stdout.columns - 2) } : {};
  // Asynchronous, because this process serves the tracking database at the same time.
  const { stdout } = await promisify(execFile)(
    process.execPath,
    ['--import', 'tsx', join(root, 'scripts', 'db.ts'), command, ...args],
    {
      cwd: root,
      env: childEnvironment({ ...settings, ...width, NODE_ENV: 'development' }),
      signal: interruptedBy,
    },
  ).catch(({ stdout, stderr }: { stdout: string; stderr: string }) => {
    throw new AtrizDatabaseError(`npm run db:${command} failed: ${stdout}${stderr}`.trim());
  });
  console.log(stdout.trimEnd().replace(/^(?=.)/gm, '  '));
}

type UsedKey = 'core' | 'tracking' | 'mextrack';

function openPool(key: UsedKey, urls: readonly ClusterUrl[]): Pool {
  return createDatabasePool({
    key,
    connectionString: urls.find((entry) => entry.key === key)?.url,
    schema: definitionOf(key).schema,
  });
}

async function driveFleet(
  { core, tracking, mextrack }: Readonly<Record<UsedKey, Pool>>,
  options: QuickstartOptions,
): Promise<void> {
  heading(`A fleet: ${options.vehicles} vehicles, ${options.days} days`);
  const userId = await requireUser(core, people.driver.id);
  const fleet = await mextrack.orm
    .insert(vehicles)
    .values(
      Array.from({ length: options.vehicles }, (_, index) => ({
        userId,
        vehicleName: `Truck ${index + 1}`,
        deviceId: deviceOf(index + 1),
      })),
    )
    .returning();
  const total = options.vehicles * options.days * 2 * (pointsPerShift + 1);
  const bar = startBar('  {bar} {value} of {total} points', total);
  const start = performance.now();
  const end = Date.now();
  for (const [index, { deviceId }] of fleet.entries()) {
    // Two shifts a day, the last of which ends now.
    const points = Array.from({ length: options.days * 2 }, (_, shift) => {
      const to = new Date(end - shift * 12 * hour);
      const from = new Date(to.getTime() - pointsPerShift * 30_000);
      const seed = index * 1000 + shift;
      return [...drive({ deviceId: deviceId ?? '', userId, appSource: 'mextrack', from, to, seed })];
    }).flat();
    points.sort((one, other) => one.time.getTime() - other.time.getTime());
    bar.increment((await recordLocations(tracking, points)).written);
  }
  bar.stop();
  const seconds = (performance.now() - start) / 1000;
  console.log(
    `  ${formatCount(total)} points in ${seconds.toFixed(1)} s, ${formatCount(Math.round(total / seconds))} a second`,
  );
}

async function runJobs(tracking: Pool): Promise<void> {
  heading('The jobs of a night: refresh the hourly aggregate, compress, drop what is too old');
  const size = async () => {
    const { rows } = await tracking.query<{ bytes: number; chunks: number; points: number }>(
      `SELECT hypertable_size('location_events')::float8 AS bytes,
         (SELECT count(*)::int FROM show_chunks('location_events')) AS chunks,
         (SELECT count(*)::int FROM location_events) AS points`,
    );
    return rows[0] ?? { bytes: 0, chunks: 0, points: 0 };
  };
  const before = await size();
  const { rows } = await tracking.query<{ from: Date; to: Date }>(
    `SELECT time_bucket('1 hour', min(time)) AS from, time_bucket('1 hour', now()) AS to FROM location_events`,
  );
  // The policies cover only the last 28 days: refresh all points once.
  if (rows[0]) await refreshContinuousAggregate(tracking, 'location_hourly', rows[0]);
  await runPolicies(tracking, ['refresh_continuous_aggregate', 'compression', 'retention']);
  const after = await size();
  const compressed = await tracking.query<{ before: number; after: number }>(
    `SELECT coalesce(sum(before_compression_total_bytes), 0)::float8 AS before,
       coalesce(sum(after_compression_total_bytes), 0)::float8 AS after
     FROM chunk_compression_stats('location_events')`,
  );
  const chunks = compressed.rows[0] ?? { before: 0, after: 0 };
  console.log(`  ${formatCount(after.points)} points in ${after.chunks} chunks of a day`);
  console.log(`  ${formatBytes(before.bytes)} before compression, ${formatBytes(after.bytes)} after`);
  if (chunks.after > 0) {
    const ratio = (chunks.before / chunks.after).toFixed(1);
    console.log(
      `  the chunks older than 7 days: ${formatBytes(chunks.before)} became ${formatBytes(chunks.after)}, ${ratio} times smaller`,
    );
  }
}

async function showPositions(tracking: Pool, mextrack: Pool): Promise<void> {
  heading('Latest positions (GPS from atriz_tracking, names from mextrack_db)');
  const fleet = await mextrack.orm.select().from(vehicles);
  const names = new Map(fleet.map(({ deviceId, vehicleName }) => [deviceId, vehicleName]));
  const deviceIds = [...names.keys()].filter((deviceId) => deviceId !== null);
  const latest = await getLatestLocations(tracking, { deviceIds });
  printTable(
    ['  vehicle', 'time (UTC)', 'latitude', 'longitude', 'speed'],
    latest
      .slice(0, 5)
      .map(({ deviceId, time, latitude, longitude, speed }) => [
        `  ${names.get(deviceId)}`,
        time.toISOString().slice(0, 19),
        latitude.toFixed(5),
        longitude.toFixed(5),
        `${speed?.toFixed(2)} km/h`,
      ]),
  );
}

async function showOneVehicle(tracking: Pool): Promise<void> {
  const points = await getRecentLocations(tracking, firstDevice, { hours: 24 });
  heading(`Truck 1: ${formatCount(points.length)} points in the last 24 hours; average speed by hour, km/h`);
  const stats = await getHourlyStats(tracking, firstDevice, { days: 2 });
  const speeds = new Map(stats.map(({ hour, avgSpeed }) => [hour.getTime(), avgSpeed ?? 0]));
  const now = Math.floor(Date.now() / hour);
  // In hours without points, the truck does not move: the speed is 0.
  const day = Array.from({ length: 24 }, (_, index) => (now - 23 + index) * hour);
  const wide = day.flatMap((start) => Array<number>(2).fill(speeds.get(start) ?? 0));
  console.log(plot(wide, { height: 6, format: (value) => value.toFixed(0).padStart(6) }));
  const clock = (start: number) => new Date(start).toISOString().slice(11, 16);
  const ticks = day.filter((_, index) => index % 6 === 0).map((start) => clock(start).padEnd(12));
  console.log(`${' '.repeat(9)}${ticks.join('')}${clock((now + 1) * hour)} UTC`);
}

async function sayGoodbye({ keep, report }: QuickstartOptions, urls: readonly ClusterUrl[]): Promise<void> {
  if (report) console.log(`  open ${reportFile}    this fleet on one page: charts, a map, diagrams`);
  if (!keep) {
    console.log('  npm run dev            the same cluster, to stay: data in .atriz/');
    console.log('  npm run db:prepare     in a second terminal: create, migrate and seed; then db:status');
    console.log('  npm run db:studio      look inside, in a browser');
    console.log('  npm test               the whole suite');
    return;
  }
  console.log('  The cluster stays up until Ctrl-C. For an env file:\n');
  console.log(environmentLines(urls).join('\n'));
  await new Promise(() => undefined);
}
