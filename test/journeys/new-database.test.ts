// A sixth database, added as docs/operating.md says under "Add a database", in a copy of the project.
import { appendFileSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { run } from '../support/cli.ts';
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
  const node = (script: string, args: string[] = [], environment: Record<string, string> = {}) =>
    run(process.execPath, [join('dist', 'scripts', script), ...args], environment, root);
  const cli = (args: string[], environment = {}) => node('db.js', args, environment);
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

  // Types of everything, tests too, and what runs below.
  const tsc = join(root, 'node_modules', '.bin', 'tsc');
  const types = await run(tsc, ['-p', 'tsconfig.json', '--noEmit', 'false', '--outDir', 'dist'], {}, root);
  expect(types).toEqual({ code: 0, stdout: '', stderr: '' });

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
  expect(await node('docs.js')).toMatchObject({ code: 0 });

  expect(await node('checks/environment.js')).toMatchObject({ code: 0, stderr: '' });
  expect(await node('checks/sql.js')).toMatchObject({ code: 0, stderr: '' });
  const environment = { BILLING_DATABASE_URL: serverUrl('atriz', uniqueName('atriz')) };
  expect(await cli(['check', 'billing'], environment)).toMatchObject({
    code: 0,
    stderr: '',
    stdout: expect.stringContaining('leaves the same catalog'),
  });
});
