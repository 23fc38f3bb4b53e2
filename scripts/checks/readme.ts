// Fails if README.md or docs/ names a script or file that does not exist, or shows TypeScript that does not compile.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { packageRoot } from '../../src/migrations/package-root.ts';

const root = packageRoot();
const docs = readdirSync(join(root, 'docs')).filter((name) => name.endsWith('.md'));
const pages = ['README.md', ...docs.sort().map((name) => `docs/${name}`)].map((path) => ({
  path,
  text: readFileSync(join(root, path), 'utf8'),
}));
type Page = (typeof pages)[number];
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  scripts: Record<string, string>;
};

const problems = [
  ...pages.flatMap((page) =>
    [...missingScripts(page), ...missingFiles(page)].map((problem) => `${page.path}: ${problem}`),
  ),
  ...typeErrors(),
];
for (const problem of problems) console.error(problem);
if (problems.length > 0) process.exitCode = 1;
else console.log('README.md and docs/ are true: their scripts and files exist, their TypeScript compiles.');

function missingScripts({ text }: Page): string[] {
  const named = text.matchAll(
    /(?:npm run (?:-s )?|`)((?:db|migrate|verify)(?::[a-z-]+)+|(?<=npm run (?:-s )?)[a-z][a-z:-]*)/g,
  );
  const missing = [...named].map(([, name]) => name ?? '').filter((name) => !(name in scripts));
  return [...new Set(missing)].map((name) => `npm run ${name} does not exist.`);
}

function missingFiles({ path: page, text }: Page): string[] {
  const links = [...text.matchAll(/\]\((?!https?:|#)([^)#]+)[^)]*\)/g)].map(([, path]) =>
    join(dirname(page), path ?? ''),
  );
  const inline = [...text.matchAll(/`((?:schema|src|scripts|drizzle|test)\/[\w./-]*)`/g)].map(
    ([, path]) => path ?? '',
  );
  // NNNN is a placeholder for the number of a migration.
  const paths = [...links, ...inline].filter((path) => !path.includes('NNNN'));
  const missing = paths.filter((path) => !existsSync(join(root, path)));
  return [...new Set(missing)].map((path) => `${path} does not exist.`);
}

/** Compiles each block of TypeScript as a module. Imports of this package resolve to the sources. */
function typeErrors(): string[] {
  const folder = join(root, 'node_modules', '.cache', 'readme');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  for (const { path, text } of pages) {
    const blocks = [...text.matchAll(/```ts\n(.*?)```/gs)].map(([, code]) => code ?? '');
    for (const [index, code] of blocks.entries()) {
      const name = `${path.replace(/\W/g, '-')}-${index + 1}.ts`;
      writeFileSync(join(folder, name), `${code}\nexport {};\n`);
    }
  }
  const source = (path: string) => [join(root, path)];
  writeFileSync(
    join(folder, 'tsconfig.json'),
    JSON.stringify({
      extends: join(root, 'tsconfig.json'),
      compilerOptions: {
        noUnusedLocals: false,
        paths: {
          '@atriz/database': source('src/index.ts'),
          '@atriz/database/schema/*': source('schema/*.ts'),
          '@atriz/database/*': source('src/*/index.ts'),
        },
      },
      include: ['*.ts'],
    }),
  );
  try {
    execFileSync(join(root, 'node_modules', '.bin', 'tsc'), ['-p', folder], { encoding: 'utf8' });
    return [];
  } catch (error) {
    return [(error as { stdout: string }).stdout];
  }
}
