// A cluster in a folder of its own, and a client that speaks the protocol message by message.
import { createHash, createHmac, pbkdf2Sync } from 'node:crypto';
import { once } from 'node:events';
import { rm } from 'node:fs/promises';
import { connect, type Socket } from 'node:net';
import { type EmbeddedClusterOptions, startCluster } from '../../scripts/embedded/cluster.ts';
import {
  int32,
  type Message,
  MessageReader,
  message,
  readFields,
  text,
} from '../../scripts/embedded/timescaledb/messages.ts';
import { makeDataFolder } from '../support/data-folder.ts';

export async function temporaryCluster(options: Partial<EmbeddedClusterOptions> = {}) {
  const folder = makeDataFolder('atriz-embedded-test-');
  const cluster = await startCluster({ folder, durable: false, ...options });
  return {
    ...cluster,
    folder,
    async [Symbol.asyncDispose]() {
      await cluster.stop();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

export type TemporaryCluster = Awaited<ReturnType<typeof temporaryCluster>>;

const none = Buffer.alloc(2);
export const parse = (name: string, sql: string) => message('P', text(name), text(sql), none);
export const bind = (portal: string, name: string) =>
  message('B', text(portal), text(name), none, none, none);
export const execute = (portal = '') => message('E', text(portal), int32(0));
export const describe = (name: string) => message('D', Buffer.from('S'), text(name));
export const copyData = (data: string | Buffer) => message('d', Buffer.from(data));
export const copyDone = message('c');
export const copyFail = (reason: string) => message('f', text(reason));

export class RawClient {
  readonly socket: Socket;
  backendKey: Buffer = Buffer.alloc(0);
  #reader = new MessageReader();
  #messages: Message[] = [];
  #wake: (() => void) | undefined;
  #closed = false;

  constructor(socket: Socket) {
    this.socket = socket;
    socket.on('data', (chunk: Buffer) => {
      this.#messages.push(...this.#reader.push(chunk));
      this.#wake?.();
    });
    socket.on('error', () => undefined);
    socket.on('close', () => {
      this.#closed = true;
      this.#wake?.();
    });
  }

  static async dial(server: string): Promise<RawClient> {
    const socket = connect(Number(new URL(server).port), '127.0.0.1');
    await once(socket, 'connect');
    return new RawClient(socket);
  }

  static async open(server: string, database: string, ...settings: string[]): Promise<RawClient> {
    const client = await RawClient.dial(server);
    const startup = Buffer.concat([
      int32(196_608),
      ...['user', 'postgres', 'database', database, ...settings].map(text),
      Buffer.from([0]),
    ]);
    client.socket.write(Buffer.concat([int32(startup.length + 4), startup]));
    await client.#authenticate('postgres');
    const greeting = await client.answer();
    client.backendKey = greeting.find(({ type }) => type === 'K')?.bytes.subarray(5) ?? client.backendKey;
    return client;
  }

  send(...messages: Buffer[]): void {
    this.socket.write(Buffer.concat(messages));
  }

  async next(): Promise<Message | undefined> {
    while (this.#messages.length === 0) {
      if (this.#closed) return undefined;
      await new Promise<void>((resolve) => {
        this.#wake = resolve;
      });
    }
    return this.#messages.shift();
  }

  /** Everything up to ReadyForQuery, or up to the given type, or the end of the connection. */
  async answer(last = 'Z'): Promise<Message[]> {
    const messages: Message[] = [];
    for (let message = await this.next(); message; message = await this.next()) {
      messages.push(message);
      if (message.type === last) break;
    }
    return messages;
  }

  async close(): Promise<void> {
    this.socket.destroy();
    if (!this.#closed) await once(this.socket, 'close');
  }

  async #authenticate(password: string): Promise<void> {
    await this.next();
    const bare = 'n=,r=abcdef';
    const initial = Buffer.from(`n,,${bare}`);
    this.send(message('p', text('SCRAM-SHA-256'), int32(initial.length), initial));
    const challenge = (await this.next())?.bytes.toString('utf8', 9) ?? '';
    const [, nonce = '', salt = '', iterations = ''] = /r=(.+),s=(.+),i=(\d+)/.exec(challenge) ?? [];
    const salted = pbkdf2Sync(password, Buffer.from(salt, 'base64'), Number(iterations), 32, 'sha256');
    const hmac = (key: Buffer, data: string) => createHmac('sha256', key).update(data).digest();
    const clientKey = hmac(salted, 'Client Key');
    const storedKey = createHash('sha256').update(clientKey).digest();
    const withoutProof = `c=biws,r=${nonce}`;
    const signature = hmac(storedKey, `${bare},${challenge},${withoutProof}`);
    const proof = Buffer.from(clientKey.map((byte, index) => byte ^ (signature[index] ?? 0)));
    this.send(message('p', Buffer.from(`${withoutProof},p=${proof.toString('base64')}`)));
    await this.next();
  }
}

/** The types of an answer as one word, e.g. '12DCZ'. */
export function types(messages: Message[]): string {
  return messages.map(({ type }) => type).join('');
}

export function errorOf(messages: Message[]): Record<string, string> | undefined {
  const error = messages.find(({ type }) => type === 'E');
  return error && readFields(error.bytes);
}

/** The transaction status of the last ReadyForQuery. */
export function statusOf(messages: Message[]): string | undefined {
  return messages.findLast(({ type }) => type === 'Z')?.bytes.toString('latin1', 5, 6);
}
