// The live page: for browsers of this machine only, and only to read.
import { request } from 'node:http';
import { afterAll, expect, test } from 'vitest';
import { servePage } from '../../scripts/report/serve.ts';

const live = await servePage();
afterAll(() => live[Symbol.asyncDispose]());
const { hostname, port, host } = new URL(live.url);

/** fetch sets the Host header by itself. */
const ask = (options: { method?: string; path?: string; host?: string } = {}) =>
  new Promise<{ status: number; headers: object; body: string }>((resolve, reject) => {
    const { method = 'GET', path = '/' } = options;
    request({ hostname, port, method, path, headers: { Host: options.host ?? host } }, (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => {
        body += text;
      });
      response.on('end', () =>
        resolve({ status: response.statusCode ?? 0, headers: response.headers, body }),
      );
    })
      .once('error', reject)
      .end();
  });

test('is the report, which the browser loads again by itself', async () => {
  const { status, headers, body } = await ask();
  expect({ status, headers }).toMatchObject({
    status: 200,
    headers: { 'content-type': 'text/html; charset=utf-8', 'cache-control': 'no-store' },
  });
  expect(headers).not.toHaveProperty('access-control-allow-origin');
  expect(body).toContain('<meta http-equiv="refresh" content="10">');
  expect(body).toContain('not configured');
  expect(hostname).toBe('127.0.0.1');
});

test('is the same for visitors at the same time', async () => {
  const [one, other] = await Promise.all([ask(), ask({ host: `localhost:${port}` })]);
  expect(one.body).toBe(other.body);
});

test('is refused under another name, with another method, at another path', async () => {
  const refusals = [
    { host: `atriz.example:${port}` },
    { host: '127.0.0.1' },
    { method: 'POST' },
    { path: '/etc' },
  ];
  const answers = await Promise.all(refusals.map(ask));
  expect(answers.map(({ status }) => status)).toEqual([421, 421, 405, 404]);
  for (const { body } of answers) expect(body).not.toContain('<html');
});
