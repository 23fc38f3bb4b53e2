// compose.yaml: what Docker Compose itself makes of it, and that it starts what the tests run on.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, test } from 'vitest';
import { databaseKeys } from '../src/databases.ts';
import { packageRoot } from '../src/migrations/package-root.ts';
import { run } from './support/cli.ts';

const file = (path: string) => readFileSync(join(packageRoot(), path), 'utf8');
const compose = file('compose.yaml');

const image = /timescale\/timescaledb:[\w.-]+/;
const number = (name: string) => Number(new RegExp(`\\b${name} ?= ?(\\d+)`).exec(compose)?.[1]);

test('compose.yaml starts the image of the tests, with every image pinned to a version', () => {
  expect(image.exec(compose)?.[0]).toBe(image.exec(file('test/support/server.ts'))?.[0]);
  const images = [...compose.matchAll(/^ +image: (.+)$/gm)].map(([, name]) => name);
  expect(images).toHaveLength(2);
  for (const name of images) expect(name).toMatch(/:v?\d+\.\d+\.\d+/);
});

test('the pooler leaves connections of the server to migrations and backups', () => {
  expect(number('max_db_connections') * databaseKeys.length).toBeLessThanOrEqual(
    number('max_connections') - 20,
  );
});

test('env.example shows the port of the pooler with pgbouncer=true, and the password that compose.yaml wants', () => {
  const example = file('env.example');
  const pooled = example.split('\n').filter((line) => line.includes(':6432/'));
  expect(pooled).toHaveLength(databaseKeys.length);
  for (const line of pooled) expect(line).toMatch(/\?pgbouncer=true$/);
  expect(compose).toContain('127.0.0.1:6432:6432');
  expect(compose).toMatch(/\$\{PGPASSWORD:\?/);
  expect(example).toMatch(/^PGPASSWORD=./m);
});

const config = (environment: Record<string, string>) =>
  run(
    'docker',
    [
      'compose',
      '--file',
      join(packageRoot(), 'compose.yaml'),
      '--env-file',
      '/dev/null',
      'config',
      '--format',
      'json',
    ],
    environment,
    '/',
  );
const reason = await run('docker', ['compose', 'version'], {}, '/').then(
  ({ code }) => (code === 0 ? undefined : 'docker has no compose command'),
  () => 'docker is not on the PATH',
);

describe.skipIf(reason)(reason ? `Docker Compose (skipped: ${reason})` : 'Docker Compose', () => {
  test('accepts the file, and starts the pooler after a healthy server', async () => {
    const { code, stdout } = await config({ PGPASSWORD: 'a secret' });
    expect(code).toBe(0);
    const { services } = JSON.parse(stdout) as { services: Record<string, { depends_on?: object }> };
    expect(services.pgbouncer?.depends_on).toMatchObject({ postgres: { condition: 'service_healthy' } });
  });

  test('refuses to go on without a password, and says which variable holds it', async () => {
    const { code, stderr } = await config({});
    expect(code).not.toBe(0);
    expect(stderr).toContain('PGPASSWORD');
  });
});
