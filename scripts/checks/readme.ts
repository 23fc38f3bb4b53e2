// Fails when README.md names a script or a file that does not exist, or shows TypeScript that does not compile.
import { execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { packageRoot } from '../../src/package-root.ts';

const root = packageRoot();
const readme = readFileSync(join(root, 'README.md'), 'utf8');
const { scripts } = JSON.parse(readFileSync(join(root, 'package.json'), 'utf8')) as {
  scripts: Record<string, string>;
};

const problems = [...missingScripts(), ...missingFiles(), ...typeErrors()];
for (const problem of problems) console.error(`README.md: ${problem}`);
if (problems.length > 0) process.exitCode = 1;
else console.log('README.md is true: its scripts and files exist, its TypeScript compiles.');

function missingScripts(): string[] {
  const named = readme.matchAll(/(?:npm run |`)((?:db|migrate|verify)(?::[a-z-]+)+|(?<=npm run )[a-z:-]+)/g);
  const missing = [...named].map(([, name]) => name ?? '').filter((name) => !(name in scripts));
  return [...new Set(missing)].map((name) => `npm run ${name} does not exist.`);
}

function missingFiles(): string[] {
  const links = [...readme.matchAll(/\]\((?!https?:|#)([^)]+)\)/g)].map(([, path]) => path ?? '');
  const inline = [...readme.matchAll(/`((?:schema|src|scripts|drizzle|test)\/[\w./-]*)`/g)].map(
    ([, path]) => path ?? '',
  );
  // NNNN stands for a number that the reader's own migration gets.
  const paths = [...links, ...inline].filter((path) => !path.includes('NNNN'));
  const missing = paths.filter((path) => !existsSync(join(root, path)));
  return [...new Set(missing)].map((path) => `${path} does not exist.`);
}

/** Each block of TypeScript is a module that sees the sources as the package. */
function typeErrors(): string[] {
  const folder = join(root, 'node_modules', '.cache', 'readme');
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(folder, { recursive: true });
  const blocks = [...readme.matchAll(/```ts\n(.*?)```/gs)].map(([, code]) => code ?? '');
  for (const [index, code] of blocks.entries()) {
    writeFileSync(join(folder, `block${index + 1}.ts`), `${code}\nexport {};\n`);
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
          '@atriz/database/references': source('src/references.ts'),
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
