// Applications that write through the library, and remember what was acknowledged, and when.
import { randomUUID } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { userProfiles } from '../../schema/atriz.ts';
import { vehicles } from '../../schema/mextrack.ts';
import { orderItems, orders, products } from '../../schema/pshop.ts';
import { authenticate, createUser } from '../../src/auth/index.ts';
import { type DatabaseKey, databases } from '../../src/databases.ts';
import { withDatabase } from '../../src/driver/database-url.ts';
import { createDatabasePool, type PoolOf } from '../../src/pool.ts';
import { requireUser } from '../../src/references/index.ts';
import { createLocationWriter } from '../../src/tracking/index.ts';
import { point } from './tracking-points.ts';

export interface Write {
  key: DatabaseKey;
  /** One of the ids that `storedIds` reads. */
  id: string;
  /** Milliseconds since 1970. */
  begunAt: number;
  acknowledgedAt: number;
}

const password = 'long enough';

/** The ids of the rows that a load wrote and that are there. */
export async function storedIds(server: string, key: DatabaseKey): Promise<ReadonlySet<string>> {
  const queries: Partial<Record<DatabaseKey, string>> = {
    core: 'SELECT id FROM users',
    tracking: 'SELECT device_id AS id FROM location_events',
    atriz: 'SELECT id FROM user_profiles',
    mextrack: 'SELECT id FROM vehicles',
    // An order without its item would be half a transaction.
    pshop: 'SELECT o.id FROM orders o JOIN order_items i ON i.order_id = o.id',
  };
  const query = queries[key];
  if (query === undefined) return new Set();
  await using pool = open(server, key);
  const { rows } = await pool.query<{ id: string }>(query);
  return new Set(rows.map(({ id }) => id));
}

const open = <Key extends DatabaseKey>(server: string, key: Key): PoolOf<Key> =>
  createDatabasePool({ key, connectionString: withDatabase(server, databases[key].database), max: 3 });

export class Load {
  readonly writes: Write[] = [];
  /** An application ends with its first failure. */
  readonly failures = new Map<DatabaseKey, unknown>();
  readonly #pools = new Map<DatabaseKey, { close(): Promise<void> }>();
  readonly #server: string;
  readonly #core: PoolOf<'core'>;
  readonly #running: Promise<unknown>[] = [];
  #isOver = false;

  private constructor(server: string) {
    this.#server = server;
    this.#core = this.#open('core');
  }

  /** @param server URL of any of its databases. */
  static async start(server: string, keys: readonly DatabaseKey[]): Promise<Load> {
    const load = new Load(server);
    const user = await load.#signUp();
    const applications: Partial<Record<DatabaseKey, () => Promise<() => Promise<string>>>> = {
      core: async () => () => load.#signUp(),
      tracking: () => load.#track(user),
      atriz: () => load.#fillProfiles(),
      mextrack: () => load.#buyVehicles(user),
      pshop: () => load.#order(user),
    };
    for (const key of keys) {
      const write = await applications[key]?.();
      if (write) load.#running.push(load.#run(key, write));
    }
    return load;
  }

  of(key: DatabaseKey): Write[] {
    return this.writes.filter((write) => write.key === key);
  }

  async stop(): Promise<void> {
    this.#isOver = true;
    await Promise.all(this.#running);
    await Promise.all([...this.#pools.values()].map((pool) => pool.close()));
  }

  #open<Key extends DatabaseKey>(key: Key): PoolOf<Key> {
    const pool = open(this.#server, key);
    this.#pools.set(key, pool);
    return pool;
  }

  async #run(key: DatabaseKey, write: () => Promise<string>): Promise<void> {
    try {
      while (!this.#isOver) {
        const begunAt = Date.now();
        const id = await write();
        this.writes.push({ key, id, begunAt, acknowledgedAt: Date.now() });
        await sleep(5);
      }
    } catch (error) {
      this.failures.set(key, error);
      await this.#pools.get(key)?.close();
    }
  }

  /** A new person, who logs in. */
  async #signUp(): Promise<string> {
    const email = `${randomUUID()}@example.com`;
    const { id } = await createUser(this.#core, { email, password, name: 'Load' }, { cost: 10 });
    const login = await authenticate(this.#core, { email, password }, { cost: 10 });
    if (!login.ok) throw new Error(`${email} cannot log in: ${login.reason}`);
    return id;
  }

  async #track(userId: string) {
    const writer = createLocationWriter(this.#open('tracking'));
    return async () => {
      const location = point({ userId });
      await writer.write(location);
      return location.deviceId;
    };
  }

  /** Of a person each, whom core has had for a moment only. */
  async #fillProfiles() {
    const { orm } = this.#open('atriz');
    return async () => {
      const userId = await requireUser(this.#core, await this.#signUp());
      const [profile] = await orm.insert(userProfiles).values({ userId }).returning();
      return profile?.id ?? '';
    };
  }

  async #buyVehicles(user: string) {
    const { orm } = this.#open('mextrack');
    return async () => {
      const userId = await requireUser(this.#core, user);
      const [vehicle] = await orm.insert(vehicles).values({ userId, vehicleName: 'Van' }).returning();
      return vehicle?.id ?? '';
    };
  }

  async #order(user: string) {
    const { orm } = this.#open('pshop');
    const values = { userId: user, sku: randomUUID(), name: 'Bread', price: '2.50' };
    const [product] = await orm.insert(products).values(values).returning();
    const productId = product?.id ?? '';
    return async () => {
      const userId = await requireUser(this.#core, user);
      return orm.transaction(async (transaction) => {
        const amounts = { subtotal: '2.50', total: '2.50' };
        const [order] = await transaction
          .insert(orders)
          .values({ userId, ...amounts })
          .returning();
        const orderId = order?.id ?? '';
        await transaction.insert(orderItems).values({ orderId, productId, quantity: 1, unitPrice: '2.50' });
        return orderId;
      });
    };
  }
}
