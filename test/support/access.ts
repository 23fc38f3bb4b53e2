// Databases with the access matrix applied, and sessions of its roles.
import { randomUUID } from 'node:crypto';
import { inject } from 'vitest';
import { type DatabaseKey, databaseKeys, databases, definitionOf } from '../../src/databases.ts';
import { createDatabasePool, type Pool, recordLocations } from '../../src/index.ts';
import { migrate } from '../../src/migrations/index.ts';
import { startWorkers } from '../../src/timescale/catalog.ts';
import type { LocationInput } from '../../src/tracking/index.ts';
import { freshEnvironment, runCli } from './cli.ts';
import { openSessionPool, serverUrl, uniqueName } from './database.ts';
import { copyOfFolder } from './migrations.ts';
import { switchOffPolicies } from './templates.ts';

type Databases = typeof databases;
type ApplicationKey = {
  [Key in DatabaseKey]: Databases[Key]['application'] extends true ? Key : never;
}[DatabaseKey];
export type RoleName =
  | `${Databases[DatabaseKey]['database']}_owner`
  | `${ApplicationKey}_app`
  | 'atriz_auth'
  | 'atriz_reporting';

export const ownerOf = (key: DatabaseKey): RoleName => `${databases[key].database}_owner`;
export const applicationKeys = databaseKeys.filter(
  (key): key is ApplicationKey => definitionOf(key).application,
);

/** The roles that a server with all databases has. */
export const roleNames: readonly RoleName[] = [
  ...databaseKeys.map(ownerOf),
  ...applicationKeys.map((key) => `${key}_app` as const),
  'atriz_auth',
  'atriz_reporting',
];

const passwordOf = (role: string) => `secret-of-${role}`;

export class ArrangedServer {
  readonly environment: Record<string, string>;

  constructor() {
    const passwords = roleNames.map((role) => [`${role.toUpperCase()}_PASSWORD`, passwordOf(role)]);
    this.environment = { ...freshEnvironment(), ...Object.fromEntries(passwords) };
    const { urlVariable } = definitionOf('tracking');
    this.environment[urlVariable] ??= serverUrl('tracking', uniqueName('tracking'));
  }

  /** Whether tracking is a hypertable; else a plain table of the same shape stands in for it. */
  get hasTimescale(): boolean {
    return inject('server').capabilities.includes('timescaledb');
  }

  /** Whether the tracking server keeps a client to the role that it logged in as. */
  get enforcesLogins(): boolean {
    return inject('server').capabilities.includes('concurrent-sessions');
  }

  cli(...args: string[]) {
    return runCli(args, this.environment);
  }

  get prefix(): string {
    return this.environment.ATRIZ_ROLE_PREFIX ?? '';
  }

  role(name: RoleName): string {
    return this.prefix + name;
  }

  url(key: DatabaseKey): string {
    return this.environment[definitionOf(key).urlVariable] ?? '';
  }

  urlAs(key: DatabaseKey, name: RoleName): string {
    const url = new URL(this.url(key));
    url.username = this.role(name);
    url.password = passwordOf(name);
    return url.href;
  }

  /** A pool of the superuser's, closed after the file. */
  superuser(key: DatabaseKey): Pool {
    return openSessionPool(key, this.url(key), { max: 1 });
  }

  /** Runs `work` as a role, through a login of its own. */
  async as<Result>(name: RoleName, key: DatabaseKey, work: (pool: Pool) => Promise<Result>): Promise<Result> {
    const pool = createDatabasePool({ connectionString: this.urlAs(key, name), max: 1 });
    try {
      return await work(pool);
    } finally {
      await pool.close();
    }
  }

  /** create, migrate, and once more for what a server without TimescaleDB cannot migrate by itself. */
  async arrange(keys: readonly DatabaseKey[] = databaseKeys): Promise<void> {
    const steps = [['create', ...keys]];
    const migrated = keys.filter((key) => key !== 'tracking' || this.hasTimescale);
    if (migrated.length > 0) steps.push(['migrate', ...migrated]);
    for (const step of steps) await this.#succeed(step);
    if (migrated.includes('tracking') && this.enforcesLogins) {
      await switchOffPolicies(this.superuser('tracking'));
      await this.superuser('tracking').query(startWorkers);
    }
    if (migrated.length === keys.length) return;
    await migrateStandIn(this.superuser('tracking'));
    await this.#succeed(['access', 'apply', 'tracking']);
  }

  async #succeed(args: string[]): Promise<void> {
    const { code, stdout, stderr } = await this.cli(...args);
    if (code !== 0) throw new Error(`${args.join(' ')}: ${stdout}${stderr}`);
  }
}

/** The migrations of tracking, with plain PostgreSQL in the place of the hypertable and of the aggregate. */
async function migrateStandIn(pool: Pool): Promise<void> {
  const folder = copyOfFolder('tracking');
  folder.write('0000_extension.sql', 'SELECT 1;');
  folder.write('0002_hypertable.sql', 'SELECT 1;');
  const select = /SELECT\n[\s\S]*?GROUP BY[^\n]*/.exec(folder.read('0003_location_hourly.sql'))?.[0] ?? '';
  const plain = select.replace(`time_bucket(INTERVAL '1 hour', "time")`, `date_trunc('hour', "time", 'UTC')`);
  folder.write('0003_location_hourly.sql', `CREATE VIEW "location_hourly" AS ${plain};`);
  folder.write('0010_late_refresh_policy.sql', 'SELECT 1;');
  // Under another key, because the runner asks for tracking's extension first.
  await migrate(pool, 'atriz', { folder: folder.path });
}

/** A device of Mextrack's alone, and one that both applications write points of. */
export const trackedDevices = { device: randomUUID(), shared: randomUUID() };
const userId = randomUUID();

export const point = (appSource: string, overrides: Partial<LocationInput> = {}): LocationInput => ({
  time: new Date(),
  deviceId: trackedDevices.device,
  userId,
  appSource,
  latitude: 1,
  longitude: 2,
  speed: 50,
  ...overrides,
});

/** Both applications write points of now, 2 and 30 hours and 9 days ago, through their own logins. */
export async function recordBoth(server: ArrangedServer): Promise<void> {
  const hour = 3_600_000;
  const now = Date.now();
  const times = [0, 2, 30, 9 * 24].map((age) => new Date(now - age * hour));
  const { shared } = trackedDevices;
  const mextrack = times.flatMap((time) => [
    point('mextrack', { time }),
    point('mextrack', { time, deviceId: shared }),
  ]);
  const pshop = times.map((time) => point('pshop', { time, deviceId: shared, speed: 99 }));
  await server.as('mextrack_app', 'tracking', (db) => recordLocations(db, mextrack));
  await server.as('pshop_app', 'tracking', (db) => recordLocations(db, pshop));
}
