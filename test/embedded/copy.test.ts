// COPY FROM STDIN, which would crash the WASM backend for good if it saw it, and COPY TO STDOUT.
import { spawn, spawnSync } from 'node:child_process';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { text as readText } from 'node:stream/consumers';
import postgres from 'postgres';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { flush, query, sync } from '../../scripts/embedded/timescaledb/messages.ts';
import {
  bind,
  copyData,
  copyDone,
  copyFail,
  errorOf,
  execute,
  parse,
  RawClient,
  statusOf,
  type TemporaryCluster,
  temporaryCluster,
  types,
} from './support.ts';

let cluster: TemporaryCluster;
let sql: postgres.Sql;
let raw: RawClient;
const hasPsql = spawnSync('psql', ['--version']).status === 0;

beforeAll(async () => {
  cluster = await temporaryCluster();
  sql = postgres(`${cluster.servers.timescaledb}/postgres`, { max: 1, onnotice: () => undefined });
  await sql`CREATE TABLE item (id int PRIMARY KEY, name text, twice int GENERATED ALWAYS AS (id * 2) STORED)`;
  raw = await RawClient.open(cluster.servers.timescaledb, 'postgres');
});

afterAll(async () => {
  await sql?.end({ timeout: 1 });
  await raw?.close();
  await cluster?.[Symbol.asyncDispose]();
});

async function load(statement: string, data: string | Buffer): Promise<void> {
  const stream = await sql.unsafe(statement).writable();
  await new Promise((resolve, reject) => stream.on('finish', resolve).on('error', reject).end(data));
}

const rows = async () => (await sql`SELECT id, name FROM item ORDER BY id`).map(({ id, name }) => [id, name]);
const empty = () => sql`TRUNCATE item`;

test('text, csv and binary data arrive', async () => {
  await empty();
  await load('COPY item (id, name) FROM STDIN', '1\tone\n2\t\\N\n');
  await load(
    `COPY item (name, id) FROM STDIN WITH (FORMAT csv, HEADER, DELIMITER ';')`,
    'name;id\n"th;ree";3\n',
  );
  const binary = await readText(
    (
      await sql`COPY (SELECT id + 10, name FROM item WHERE id = 1) TO STDOUT (FORMAT binary)`.readable()
    ).setEncoding('latin1'),
  );
  await load('COPY BINARY item (id, name) FROM stdin', Buffer.from(binary, 'latin1'));
  expect(await rows()).toEqual([
    [1, 'one'],
    [2, null],
    [3, 'th;ree'],
    [11, 'one'],
  ]);
});

test('large data arrives, by the extended protocol too', async () => {
  await empty();
  const lines = Array.from({ length: 50_000 }, (_, i) => `${i}\tname ${i}\n`).join('');
  raw.send(parse('', 'COPY item (id, name) FROM STDIN'), bind('', ''), execute(), sync);
  expect(types(await raw.answer('G'))).toBe('12G');
  for (let at = 0; at < lines.length; at += 60_000) raw.send(copyData(lines.slice(at, at + 60_000)));
  raw.send(copyDone, sync);
  const answer = await raw.answer();
  expect(types(answer)).toBe('CZ');
  expect(answer[0]?.bytes.toString()).toContain('COPY 50000');
});

test('data sent ahead of the answer arrives all the same', async () => {
  await empty();
  raw.send(parse('', 'COPY item (id) FROM STDIN'), bind('', ''), execute(), copyData('1\n'), copyDone, sync);
  expect(types(await raw.answer())).toBe('12GCZ');
  raw.send(query('COPY item (id) FROM STDIN'), copyData('2\n'), flush, sync, copyDone);
  expect(types(await raw.answer())).toBe('GCZ');
  expect(await rows()).toEqual([
    [1, null],
    [2, null],
  ]);
});

test('a bad row names its line, nothing of the COPY stays, and the connection lives on', async () => {
  await empty();
  raw.send(query('COPY item (id, name) FROM STDIN'), copyData('1\tone\nx\ttwo\n'), copyDone);
  expect(errorOf(await raw.answer())).toMatchObject({ C: '22P02', W: 'COPY item, line 2, column id: "x"' });
  raw.send(parse('', 'COPY item (id, name) FROM STDIN'), bind('', ''), execute(), sync);
  raw.send(copyData('x\n'), copyDone, sync);
  expect(types(await raw.answer())).toBe('12GEZ');
  expect(await rows()).toEqual([]);
});

test('a missing table is refused before any data is asked for', async () => {
  raw.send(query('COPY missing FROM STDIN'));
  const answer = await raw.answer();
  expect(types(answer)).toBe('EZ');
  expect(errorOf(answer)?.C).toBe('42P01');
  raw.send(parse('', 'COPY missing FROM STDIN'), bind('', ''), execute(), sync);
  expect(types(await raw.answer())).toBe('12EZ');
});

test('CopyFail fails the COPY with the reason, and the transaction around it', async () => {
  await empty();
  raw.send(query('COPY item (id) FROM STDIN'), copyData('1\n'), copyFail('changed my mind'));
  expect(errorOf(await raw.answer())).toMatchObject({
    C: '57014',
    M: 'COPY from stdin failed: changed my mind',
  });
  raw.send(query('BEGIN'));
  await raw.answer();
  raw.send(parse('', 'COPY item (id) FROM STDIN'), bind('', ''), execute(), sync, copyFail('no'), sync);
  const answer = await raw.answer();
  expect(types(answer)).toBe('12GEZ');
  expect(statusOf(answer)).toBe('E');
  raw.send(query('ROLLBACK'));
  expect(statusOf(await raw.answer())).toBe('I');
  expect(await rows()).toEqual([]);
});

test('a COPY in a transaction goes with its rollback', async () => {
  await empty();
  raw.send(query('BEGIN'));
  await raw.answer();
  raw.send(query('COPY item (id) FROM STDIN'), copyData('1\n'), copyDone);
  expect(statusOf(await raw.answer())).toBe('T');
  raw.send(query('ROLLBACK'));
  await raw.answer();
  expect(await rows()).toEqual([]);
});

test('a client that goes away in the middle of its data leaves nothing', async () => {
  await empty();
  const leaver = await RawClient.open(cluster.servers.timescaledb, 'postgres');
  leaver.send(query('COPY item (id) FROM STDIN'), copyData('1\n'));
  await leaver.answer('G');
  await leaver.close();
  expect(await rows()).toEqual([]);
});

test('COPY FROM STDIN among other statements is refused, and the words in strings do no harm', async () => {
  raw.send(query('SELECT 1; COPY item (id) FROM STDIN'));
  expect(errorOf(await raw.answer())?.C).toBe('0A000');
  raw.send(query("SELECT 'copy item from stdin' AS stdin -- copy from stdin"));
  expect(types(await raw.answer())).toBe('TDCZ');
  raw.send(query('EXPLAIN COPY item FROM STDIN'));
  expect(errorOf(await raw.answer())?.C).toBe('42601');
  raw.send(query("DO 'BEGIN COPY item FROM STDIN; END'"));
  expect(errorOf(await raw.answer())?.C).toBeDefined();
  expect(await sql`SELECT 1 AS one`).toEqual([{ one: 1 }]);
});

test.skipIf(!hasPsql)('psql: \\copy in and out, \\d (skipped where psql is not on PATH)', async () => {
  await empty();
  const file = join(cluster.folder, 'items.csv');
  await writeFile(file, 'id,name\n1,one\n2,"two, too"\n');
  // Not spawnSync: the server runs in this process.
  const psql = async (...commands: string[]) => {
    const url = `${cluster.servers.timescaledb}/postgres`;
    const child = spawn('psql', ['-X', '-A', '-t', url, ...commands.flatMap((each) => ['-c', each])]);
    const [stdout, stderr] = await Promise.all([readText(child.stdout), readText(child.stderr)]);
    return { stdout, stderr };
  };
  expect(await psql(`\\copy item (id, name) FROM '${file}' CSV HEADER`)).toEqual({
    stdout: 'COPY 2\n',
    stderr: '',
  });
  expect((await psql('\\copy item (name) TO stdout')).stdout).toBe('one\ntwo, too\n');
  expect((await psql('\\d item')).stdout).toContain('name|text');
  const failed = await psql(`\\copy item (id) FROM '${file}'`, 'SELECT 5');
  expect(failed.stderr).toContain('invalid input syntax');
  expect(failed.stdout).toBe('5\n');
});
