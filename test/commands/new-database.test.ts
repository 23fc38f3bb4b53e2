// A sixth database, added as docs/operating.md says under "Add a database", in a copy of the project.
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run, runCli, runSource } from '../support/cli.ts';
import { serverUrl, uniqueName } from '../support/database.ts';
import { copyOfProject, Folder } from '../support/migrations.ts';

const schema = `// Schema of billing_db: invoices.
import { index, numeric, pgTable } from 'drizzle-orm/pg-core';
import { coreUserId, primaryId, timestamps } from './columns.ts';
import { deleteRows, type ErasureRule } from './erasure.ts';

export const invoices = pgTable(
  'invoices',
  {
    id: primaryId(),
    userId: coreUserId().notNull(),
    total: numeric('total', { precision: 12, scale: 2 }).notNull(),
    ...timestamps(),
  },
  (table) => [index('idx_invoices_user').on(table.userId)],
);

export const erasure: readonly ErasureRule[] = [deleteRows(invoices, invoices.userId)];
`;

test('a new database needs what the page says, and then passes types, lint, docs and check', async () => {
  const { root } = copyOfProject(['test', 'docs', 'README.md', 'env.example']);
  const cli = (args: string[], environment: Record<string, string> = {}) =>
    runCli(args, environment, { root, fromSource: true });
  const edit = (path: string, from: string, to: string) => {
    const before = readFileSync(join(root, path), 'utf8');
    if (!before.includes(from)) throw new Error(`${path} has no ${from}`);
    writeFileSync(join(root, path), before.replace(from, to));
  };

  edit(
    'src/databases.ts',
    'import * as core',
    "import * as billing from '../schema/billing.ts';\nimport * as core",
  );
  edit(
    'src/databases.ts',
    '  pshop: {',
    `  billing: {
    database: 'billing_db', urlVariable: 'BILLING_DATABASE_URL', holds: 'invoices', dependsOn: ['core'],
    application: true, extensions: [], backup: { every: 'day', critical: true }, schema: billing,
  },
  pshop: {`,
  );
  writeFileSync(join(root, 'schema', 'billing.ts'), schema);

  expect(await cli(['generate', 'billing', '--name', 'tables'])).toMatchObject({ code: 0, stderr: '' });
  const manifest = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
    scripts: Record<string, string>;
  };
  expect(manifest.scripts['db:migrate:billing']).toBe('tsx scripts/db.ts migrate billing');

  expect(await cli(['create-migration', 'billing', 'triggers_and_comments'])).toMatchObject({ code: 0 });
  const folder = new Folder(join(root, 'drizzle', 'billing'));
  folder.write('0001_triggers_and_comments.sql', 'COMMENT ON TABLE "invoices" IS \'What people owe.\';\n');
  folder.write('0001_triggers_and_comments.down.sql', 'COMMENT ON TABLE "invoices" IS NULL;\n');
  appendFileSync(
    join(root, 'env.example'),
    '# BILLING_DATABASE_URL=postgresql://localhost:5432/billing_db\n',
  );
  expect(await runSource('scripts/docs.ts', [], {}, { root })).toMatchObject({ code: 0 });

  const environment = { BILLING_DATABASE_URL: serverUrl('atriz', uniqueName('atriz')) };
  const [types, environmentPage, lint, check] = await Promise.all([
    run(join(root, 'node_modules', '.bin', 'tsc'), ['-p', 'tsconfig.json'], {}, root),
    runSource('scripts/checks/environment.ts', [], {}, { root }),
    runSource('scripts/checks/sql.ts', [], {}, { root }),
    cli(['check', 'billing'], environment),
  ]);
  expect(types).toEqual({ code: 0, stdout: '', stderr: '' });
  expect(environmentPage).toMatchObject({ code: 0, stderr: '' });
  expect(lint).toMatchObject({ code: 0 });
  expect(check).toMatchObject({
    code: 0,
    stderr: '',
    stdout: expect.stringContaining('leaves the same catalog'),
  });
});
