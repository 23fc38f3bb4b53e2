// Drizzle Studio: its page reaches the database, other pages do not.
import { expect, test } from 'vitest';
import { environmentFor, runCli, startCli } from '../support/cli.ts';
import { migratedDatabase, openSessionPool } from '../support/database.ts';
import { freePort } from '../support/free-port.ts';

test('only Drizzle Studio is answered', async () => {
  const url = await migratedDatabase('core');
  const port = await freePort();
  const { child, ended } = startCli(['studio', 'core', '--port', String(port)], environmentFor('core', url));
  try {
    const ask = (sql: string, headers: Record<string, string>) =>
      fetch(`http://127.0.0.1:${port}/`, {
        method: 'POST',
        headers: { 'content-type': 'application/json', ...headers },
        body: JSON.stringify({ type: 'proxy', data: { sql, params: [], method: 'all', mode: 'object' } }),
      });
    const page = { origin: 'https://local.drizzle.studio' };
    const answer = () => ask('SELECT 41 + 1 AS answer', page).then((response) => response.text());
    await expect.poll(() => answer().catch(() => '')).toContain('42');
    for (const headers of [{ origin: 'https://evil.example' }, { origin: 'null' }, {}]) {
      const refused = await ask('CREATE TABLE witness (a int)', headers);
      expect(refused.status).toBe(403);
      expect(refused.headers.get('access-control-allow-origin')).toBeNull();
    }
    await using db = openSessionPool('core', url);
    expect((await db.query("SELECT to_regclass('witness') AS name")).rows).toEqual([{ name: null }]);
  } finally {
    child.kill('SIGINT');
  }
  const { stdout } = await ended;
  expect(stdout).toContain(`https://local.drizzle.studio?port=${port}`);
  expect(stdout).toContain('it needs the internet');
});

test('production is refused', async () => {
  const environment = {
    ...environmentFor('core', 'postgresql://a@127.0.0.1:1/atriz_core'),
    NODE_ENV: 'production',
  };
  expect(await runCli(['studio', 'core'], environment)).toMatchObject({
    code: 2,
    stderr: 'NODE_ENV is "production": studio is for development and was not run.\n',
  });
});
