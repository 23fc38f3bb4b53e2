// A Drizzle user: the README's steps from a changed schema to a migrated database, then drizzle-kit by itself.
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { environmentFor } from '../support/cli.ts';
import { migratedDatabase, openPool } from '../support/database.ts';
import { Checkout } from '../support/journey.ts';

/** The commands of the numbered steps, without those that belong to another story. */
function steps(): string[] {
  const readme = readFileSync(join(packageRoot(), 'README.md'), 'utf8');
  const [, section = ''] = readme.split('\n## Change a schema\n');
  const list = section.slice(0, section.indexOf('\n\n', section.indexOf('5. **Migrate')));
  const commands = [...list.matchAll(/`(npm run [^`]+)`/g)].map(([, command = '']) => command);
  return commands.filter((command) => !/migrate:create|verify/.test(command));
}

test('change, generate, lint, check and migrate, as the README says; then drizzle-kit finds nothing to do', async () => {
  const url = await migratedDatabase('core');
  const checkout = new Checkout(environmentFor('core', url));
  const schema = checkout.path('schema/core.ts');
  const before = readFileSync(schema, 'utf8');
  const after = before.replace(
    "name: text('name').notNull()",
    "name: text('name').notNull(), phone: text('phone')",
  );
  expect(after).not.toBe(before);
  writeFileSync(schema, after);

  const commands = steps();
  expect(commands.map((command) => command.split(' ')[2])).toEqual([
    'db:generate',
    'db:lint',
    'db:check',
    'db:migrate:core',
  ]);
  for (const line of commands) {
    expect({ line, ...(await checkout.type(line)) }).toMatchObject({ line, code: 0 });
  }
  const db = openPool('core', url);
  expect((await db.query('SELECT phone FROM users')).rows).toEqual([]);

  const kit = (command: string) =>
    checkout.type(`npx drizzle-kit ${command} --config drizzle.core.config.ts`);
  expect(await kit('generate')).toMatchObject({
    code: 0,
    stdout: expect.stringContaining('No schema changes'),
  });
  expect(await kit('migrate')).toMatchObject({ code: 0 });
  const pushed = await kit('push');
  expect(pushed.code).not.toBe(0);
  expect(pushed.stdout + pushed.stderr).toContain('behind its migrations, and nothing was done');
});
