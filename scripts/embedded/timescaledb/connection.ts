// The connection of one client: startup packet, password, and then its session.
import type { Socket } from 'node:net';
import { parseVerifier, type Verifier } from '../../access/scram-verifier.ts';
import type { EmbeddedDatabase } from './database.ts';
import {
  type ErrorFields,
  errorResponse,
  int32,
  MessageReader,
  message,
  ProtocolViolation,
  parameterStatus,
  quoteLiteral,
  readText,
  readyForQuery,
  text,
} from './messages.ts';
import { PostgresError, shuttingDown } from './postgres-error.ts';
import { ScramExchange } from './scram.ts';
import { ClientSession } from './session.ts';
import type { SessionServer } from './session-context.ts';
import { parseOptions, reportedSettings, SessionSettings } from './settings.ts';

const sslRequest = 80_877_103;
const gssRequest = 80_877_104;
const cancelRequest = 80_877_102;
const maximumStartupPacket = 10_000;
const authenticationTimeout = 60_000;
const frontendMessageTypes = 'QPBEFHCDdcfSXp';
/** A socket is paused while more bytes than this are queued for its session. */
const maximumQueuedBytes = 64 * 1024 * 1024;

/** The part of the server that a connection uses. */
interface ConnectionServer extends SessionServer {
  readonly stopping: boolean;
  readonly superuserVerifier: Verifier;
  add(session: ClientSession): void;
  cancel(id: number, secret: number): void;
  database(name: string): EmbeddedDatabase | undefined;
  remove(session: ClientSession): void;
}

export function accept(socket: Socket, server: ConnectionServer): void {
  const connection = new Connection(socket, server);
  socket.setNoDelay(true);
  socket.on('data', (chunk: Buffer) => connection.receive(chunk));
  socket.on('close', () => connection.onSocketClose());
  // If the client resets the connection, `close` follows.
  socket.on('error', () => undefined);
}

class Connection {
  readonly #socket: Socket;
  readonly #server: ConnectionServer;
  readonly #timer: NodeJS.Timeout;
  #startup = Buffer.alloc(0);
  #reader: MessageReader | undefined;
  #onPassword: ((body: Buffer | undefined) => void) | undefined;
  #session: ClientSession | undefined;
  #isEnded = false;
  #databaseName = '';

  constructor(socket: Socket, server: ConnectionServer) {
    this.#socket = socket;
    this.#server = server;
    const timeout: ErrorFields = {
      severity: 'FATAL',
      code: '57014',
      message: 'canceling authentication due to timeout',
    };
    this.#timer = setTimeout(() => this.#refuse(timeout), authenticationTimeout).unref();
  }

  receive(chunk: Buffer): void {
    if (this.#isEnded) return;
    try {
      if (this.#reader) this.#receiveMessages(this.#reader, chunk);
      else this.#receiveStartup(chunk);
    } catch (error) {
      if (!(error instanceof ProtocolViolation)) throw error;
      this.#refuse({ severity: 'FATAL', code: '08P01', message: error.message });
    }
  }

  onSocketClose(): void {
    this.#isEnded = true;
    clearTimeout(this.#timer);
    this.#onPassword?.(undefined);
    this.#session?.close();
  }

  #receiveMessages(reader: MessageReader, chunk: Buffer): void {
    const authenticated = this.#session !== undefined;
    const messages = reader.push(chunk, (type) =>
      authenticated ? frontendMessageTypes.includes(type) : type === 'p',
    );
    if (this.#session) {
      this.#session.receive(messages);
      return;
    }
    for (const { bytes } of messages) this.#onPassword?.(bytes.subarray(5));
  }

  /** The startup packet has no type byte. Encryption requests may precede it. */
  #receiveStartup(chunk: Buffer): void {
    this.#startup = Buffer.concat([this.#startup, chunk]);
    while (!this.#reader && this.#startup.length >= 8) {
      const length = this.#startup.readInt32BE(0);
      if (length < 8 || length > maximumStartupPacket)
        throw new ProtocolViolation('invalid length of startup packet');
      if (this.#startup.length < length) return;
      const packet = this.#startup.subarray(0, length);
      this.#startup = this.#startup.subarray(length);
      const code = packet.readInt32BE(4);
      if (code === sslRequest || code === gssRequest) this.#socket.write('N');
      else if (code === cancelRequest) {
        if (length === 16) this.#server.cancel(packet.readInt32BE(8), packet.readInt32BE(12));
        this.#end();
        return;
      } else this.#readStartupPacket(packet, code);
    }
    if (this.#startup.length > maximumStartupPacket)
      throw new ProtocolViolation('invalid length of startup packet');
  }

  #readStartupPacket(packet: Buffer, version: number): void {
    const major = version >>> 16;
    const minor = version & 0xffff;
    if (major !== 3) {
      this.#refuse({
        severity: 'FATAL',
        code: '0A000',
        message: `unsupported frontend protocol ${major}.${minor}: server supports 3.0 to 3.0`,
      });
      return;
    }
    const parameters = new Map<string, string>();
    for (let at = 8; at < packet.length - 1; ) {
      const name = readText(packet, at);
      const value = readText(packet, name.next);
      parameters.set(name.value, value.value);
      at = value.next;
    }
    const unknown = [...parameters.keys()].filter((name) => name.startsWith('_pq_.'));
    if (minor > 0 || unknown.length > 0) {
      this.#socket.write(message('v', int32(0), int32(unknown.length), ...unknown.map(text)));
    }
    this.#reader = new MessageReader();
    this.#logIn(parameters).catch((error: unknown) => {
      const fields = error instanceof PostgresError ? error.fields : undefined;
      const problem = fields?.message ?? `the embedded database does not start: ${String(error)}`;
      this.#refuse({ ...fields, severity: 'FATAL', code: fields?.code ?? '57P03', message: problem });
    });
    const rest = this.#startup;
    this.#startup = Buffer.alloc(0);
    if (rest.length > 0) this.#receiveMessages(this.#reader, rest);
  }

  async #logIn(parameters: Map<string, string>): Promise<void> {
    if (this.#server.stopping) throw new PostgresError('57P03', 'the database system is shutting down');
    const user = parameters.get('user');
    if (!user) throw new PostgresError('28000', 'no PostgreSQL user name specified in startup packet');
    if ((parameters.get('replication') ?? 'off') !== 'off') {
      throw new PostgresError('0A000', 'the embedded server has no replication');
    }
    this.#databaseName = parameters.get('database') || user;
    const database = this.#server.database(this.#databaseName);
    if (!database) throw new PostgresError('3D000', `database "${this.#databaseName}" does not exist`);
    const startup: Record<string, string> = parseOptions(parameters.get('options') ?? '');
    for (const [name, value] of parameters) {
      const isSetting =
        !['user', 'database', 'options', 'replication'].includes(name) && !name.startsWith('_pq_.');
      if (isSetting) startup[name] = value;
    }
    const session = new ClientSession(this.#server, database, new SessionSettings(user, startup), {
      write: (bytes) => this.#write(bytes),
      close: () => this.#end(),
      onQueuedBytes: (bytes) => this.#pauseOrResume(bytes),
    });
    // From here on the database is in use: it cannot be copied, and dropping it requires FORCE.
    this.#server.add(session);
    try {
      const role =
        user === 'postgres'
          ? { superuser: true, verifier: this.#server.superuserVerifier }
          : readRole(user, await session.queryAsSuperuser(roleSql(user)));
      await this.#checkPassword(user, role.verifier);
      session.superuser = role.superuser;
    } catch (error) {
      session.close();
      this.#server.remove(session);
      throw error;
    }
    if (this.#isEnded || session.closed) {
      this.#server.remove(session);
      if (!this.#isEnded) this.#refuse(shuttingDown);
      return;
    }
    clearTimeout(this.#timer);
    this.#session = session;
    this.#completeStartup(session);
    void session.run().finally(() => this.#server.remove(session));
  }

  #completeStartup(session: ClientSession): void {
    const { settings, id, secret } = session;
    const status: Record<string, string> = {
      server_version: '17.5',
      server_encoding: 'UTF8',
      integer_datetimes: 'on',
      in_hot_standby: 'off',
      is_superuser: session.superuser ? 'on' : 'off',
      session_authorization: settings.sessionUser,
    };
    for (const [setting, name] of Object.entries(reportedSettings)) status[name] = settings.get(setting);
    this.#write(
      Buffer.concat([
        message('R', int32(0)),
        ...Object.entries(status).map(([name, value]) => parameterStatus(name, value)),
        message('K', int32(id), int32(secret)),
        readyForQuery('I'),
      ]),
    );
  }

  async #checkPassword(user: string, verifier: Verifier): Promise<void> {
    const exchange = new ScramExchange(verifier);
    this.#write(message('R', int32(10), text('SCRAM-SHA-256'), Buffer.from([0])));
    const initial = await this.#nextPasswordMessage();
    const { value: mechanism, next } = readText(initial, 0);
    if (mechanism !== 'SCRAM-SHA-256')
      throw new PostgresError('08P01', 'client selected an invalid SASL authentication mechanism');
    const first = exchange.first(initial.toString('utf8', next + 4));
    if (first === undefined) throw new PostgresError('08P01', 'malformed SCRAM message');
    this.#write(message('R', int32(11), Buffer.from(first)));
    const final = exchange.final((await this.#nextPasswordMessage()).toString('utf8'));
    if (final === undefined) throw wrongPassword(user);
    this.#write(message('R', int32(12), Buffer.from(final)));
  }

  async #nextPasswordMessage(): Promise<Buffer> {
    const body = await new Promise<Buffer | undefined>((resolve) => {
      this.#onPassword = resolve;
      if (this.#isEnded) resolve(undefined);
    });
    this.#onPassword = undefined;
    if (!body) throw new PostgresError('08006', 'the client went away');
    return body;
  }

  #write(bytes: Buffer): void {
    if (this.#socket.writable) this.#socket.write(bytes);
  }

  #pauseOrResume(queuedBytes: number): void {
    if (queuedBytes > maximumQueuedBytes) this.#socket.pause();
    else if (this.#socket.isPaused()) this.#socket.resume();
  }

  #refuse(fields: ErrorFields): void {
    this.#server.logEnd('a login', this.#databaseName, fields);
    this.#write(errorResponse(fields));
    this.#end();
  }

  #end(): void {
    this.#isEnded = true;
    clearTimeout(this.#timer);
    this.#session?.close();
    this.#socket.destroySoon();
  }
}

function roleSql(user: string): string {
  return `SELECT rolcanlogin, rolsuper, rolpassword FROM pg_catalog.pg_authid WHERE rolname = ${quoteLiteral(user)}`;
}

function readRole(user: string, [row]: (string | null)[][]): { superuser: boolean; verifier: Verifier } {
  if (!row) throw new PostgresError('28000', `role "${user}" does not exist`);
  if (row[0] !== 't') throw new PostgresError('28000', `role "${user}" is not permitted to log in`);
  const verifier = parseVerifier(row[2] ?? '');
  if (!verifier) throw wrongPassword(user);
  return { superuser: row[1] === 't', verifier };
}

function wrongPassword(user: string): PostgresError {
  return new PostgresError('28P01', `password authentication failed for user "${user}"`);
}
