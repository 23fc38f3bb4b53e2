// The generated page of the commands, and how a stale page is found.
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { Command } from 'commander';
import { afterAll, expect, test } from 'vitest';
import { buildProgram } from '../../scripts/cli/program.ts';
import { commandsPage } from '../../scripts/docs/commands-page.ts';
import { generatePages, stalePages, writePages } from '../../scripts/docs/pages.ts';

const folder = mkdtempSync(join(tmpdir(), 'atriz-docs-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

const page = (program: Command, scripts = {}) => commandsPage(program, scripts);

test('a command is told with its npm script, arguments, options and their defaults', () => {
  const program = new Command('tool');
  program
    .command('load')
    .description('load a file')
    .argument('<file>', 'which')
    .argument('[more...]', 'others')
    .option('--port <port>', 'where a|b', Number, 5432)
    .option('--quiet', 'say nothing');
  const group = program.command('access').description('gather');
  group.command('show').description('print it');
  const text = page(program, {
    'db:load:core': 'tsx scripts/db.ts load core',
    load: 'tsx scripts/db.ts load',
  });
  expect(text).toContain('## load\n\nLoad a file.\n\n```sh\nnpm run load -- <file> [more…] [options]\n```');
  expect(text).toContain('| `--port <port>` | where a\\|b (default: 5432) |\n| `--quiet` | say nothing |');
  expect(text).toContain(
    '## access\n\nGather.\n\n### access show\n\nPrint it.\n\n```sh\nnpm run db -- access show\n```',
  );
});

test('every command of the command line is on the page, nested ones too, and so is every exit code', () => {
  const program = buildProgram();
  const text = page(program);
  const names = (command: Command, parents: string[]): string[] =>
    command.commands.flatMap((child) => {
      const path = [...parents, child.name()];
      return [path.join(' '), ...names(child, path)];
    });
  const all = names(program, []);
  expect(all).toContain('migrate down');
  for (const name of all) expect(text).toMatch(new RegExp(`^##+ ${name}$`, 'm'));
  for (const code of [0, 1, 2, 3]) expect(text).toContain(`| ${code} |`);
});

test('a page that is missing or says something else is stale; line endings are no difference', async () => {
  const pages = await generatePages();
  const paths = pages.map(({ path }) => path);
  mkdirSync(join(folder, 'docs'));
  expect(stalePages(pages, folder)).toEqual(paths);
  writePages(pages, folder);
  expect(stalePages(pages, folder)).toEqual([]);
  const [first, second] = pages;
  writeFileSync(join(folder, first?.path ?? ''), first?.text.replaceAll('\n', '\r\n') ?? '');
  writeFileSync(join(folder, second?.path ?? ''), second?.text.replace('failed', 'broken') ?? '');
  expect(stalePages(pages, folder)).toEqual([second?.path]);
});
