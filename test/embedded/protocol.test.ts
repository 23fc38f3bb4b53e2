// What comes over the socket is anything at all: it gets a PostgreSQL error or a closed door, never a crash.
import { once } from 'node:events';
import { connect } from 'node:net';
import { networkInterfaces } from 'node:os';
import postgres from 'postgres';
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest';
import { int32, message, query, sync, text } from '../../scripts/embedded/timescaledb/messages.ts';
import { bind, errorOf, RawClient, type TemporaryCluster, temporaryCluster, types } from './support.ts';

let cluster: TemporaryCluster;
let sql: postgres.Sql;

beforeAll(async () => {
  cluster = await temporaryCluster();
  sql = postgres(`${cluster.servers.timescaledb}/postgres`, { max: 1 });
});

afterEach(async () => {
  expect(await sql`SELECT 1 AS one`).toEqual([{ one: 1 }]);
});

afterAll(async () => {
  await sql?.end({ timeout: 1 });
  await cluster?.[Symbol.asyncDispose]();
});

async function startup(...bytes: Buffer[]): Promise<RawClient> {
  const client = await RawClient.dial(cluster.servers.timescaledb);
  client.send(...bytes);
  return client;
}

function packet(version: number, parameters: Record<string, string>): Buffer {
  const body = Buffer.concat([
    int32(version),
    ...Object.entries(parameters).flat().map(text),
    Buffer.from([0]),
  ]);
  return Buffer.concat([int32(body.length + 4), body]);
}

test('garbage instead of a startup packet is refused', async () => {
  for (const garbage of [
    'GET / HTTP/1.1\r\nHost: x\r\n\r\n',
    '\0\0\0\0\0\0\0\0',
    '\xff\xff\xff\xff\xff\xff\xff\xff',
  ]) {
    const client = await startup(Buffer.from(garbage, 'latin1'));
    expect(errorOf(await client.answer())).toMatchObject({ S: 'FATAL', C: '08P01' });
    await client.close();
  }
  const old = await startup(packet(2 << 16, { user: 'postgres' }));
  expect(errorOf(await old.answer())).toMatchObject({ S: 'FATAL', C: '0A000' });
  const silent = await startup(Buffer.from([0, 0]));
  await silent.close();
});

test('a newer minor protocol version is negotiated, and requests for encryption are declined', async () => {
  const socket = connect(Number(new URL(cluster.servers.timescaledb).port), '127.0.0.1');
  socket.write(Buffer.concat([int32(8), int32(80_877_103)]));
  expect(String((await once(socket, 'data'))[0])).toBe('N');
  socket.destroy();
  const newer = await startup(
    packet((3 << 16) + 2, { user: 'postgres', database: 'postgres', '_pq_.x': '1' }),
  );
  expect(types([...(await newer.answer('R'))])).toBe('vR');
  await newer.close();
});

test('malformed messages after the login end the connection with 08P01', async () => {
  const bad: Buffer[] = [
    message('y', Buffer.from([1])),
    Buffer.concat([Buffer.from('Q'), int32(2)]),
    Buffer.concat([Buffer.from('Q'), int32(0x7fff_ffff)]),
    Buffer.concat([Buffer.from('Q'), int32(-1)]),
    message('P', Buffer.from('no end')),
  ];
  for (const bytes of bad) {
    const client = await RawClient.open(cluster.servers.timescaledb, 'postgres');
    client.send(bytes, sync);
    expect(errorOf(await client.answer('E'))).toMatchObject({ S: 'FATAL', C: '08P01' });
    expect(await client.next()).toBeUndefined();
  }
});

test('errors within a message leave the connection alive', async () => {
  const client = await RawClient.open(cluster.servers.timescaledb, 'postgres');
  client.send(message('Q', Buffer.from('SELECT 1\0SELECT 2\0')));
  expect(errorOf(await client.answer())?.C).toBe('08P01');
  client.send(message('F', Buffer.alloc(10)));
  expect(errorOf(await client.answer())?.C).toBe('42883');
  client.send(bind('', 'never parsed'), sync);
  expect(errorOf(await client.answer())).toMatchObject({
    C: '26000',
    M: 'prepared statement "never parsed" does not exist',
  });
  client.send(message('d', Buffer.from('x')), message('c'), query('SELECT 1'));
  expect(types(await client.answer())).toBe('TDCZ');
  client.send(Buffer.concat([Buffer.from('Q'), int32(100), Buffer.from('SELECT')]));
  await client.close();
});

test('a setting in the startup packet that cannot be is refused at the first statement', async () => {
  const client = await RawClient.open(cluster.servers.timescaledb, 'postgres', 'TimeZone', 'Nowhere/Land');
  client.send(query('SELECT 1'));
  expect(errorOf(await client.answer())).toMatchObject({ S: 'FATAL', C: '22023' });
});

test('both servers listen on loopback only', async () => {
  const outside = Object.values(networkInterfaces())
    .flat()
    .find((entry) => entry && !entry.internal && entry.family === 'IPv4');
  for (const server of Object.values(cluster.servers)) {
    expect(new URL(server).hostname).toBe('127.0.0.1');
    if (!outside) continue;
    const socket = connect(Number(new URL(server).port), outside.address);
    const [error] = (await once(socket, 'error')) as [NodeJS.ErrnoException];
    expect(error.code).toBe('ECONNREFUSED');
  }
});
