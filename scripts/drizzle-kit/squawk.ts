// Runs squawk on migrations. Its rules differ for migrations that run outside of a transaction.
import { spawnSync } from 'node:child_process';
import { createRequire } from 'node:module';
import { relative } from 'node:path';
import { childEnvironment } from '../../src/config.ts';
import { AtrizDatabaseError } from '../../src/errors.ts';
import type { SqlFile } from '../../src/migrations/journal.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';

type File = Pick<SqlFile, 'path' | 'inTransaction'>;

/** Runs squawk once for files that run in a transaction and once for the others. A run without files is skipped. */
export function runSquawk(files: readonly File[], options: readonly string[] = []) {
  return [true, false].flatMap((inTransaction) => {
    const chosen = files.filter((file) => file.inTransaction === inTransaction);
    if (chosen.length === 0) return [];
    const more = inTransaction ? [] : ['--no-assume-in-transaction'];
    return [squawk([...options, ...more, ...chosen.map(({ path }) => relative(packageRoot(), path))])];
  });
}

function squawk(args: readonly string[]) {
  const program = createRequire(import.meta.url).resolve('squawk-cli/js/bin/squawk');
  const { status, stdout, stderr, error } = spawnSync(process.execPath, [program, ...args], {
    cwd: packageRoot(),
    env: childEnvironment({}),
    encoding: 'utf8',
  });
  if (error) throw error;
  return { status: status ?? 1, stdout, stderr };
}

interface Finding {
  file: string;
  /** Starts at 0. */
  line: number;
  message: string;
  help: string | null;
  rule_name: string;
}

/** Returns squawk's findings as text. For each line of SQL, adds the comment that makes squawk accept it. */
export function squawkAdvice(files: readonly File[]): string[] {
  const findings = runSquawk(files, ['--reporter', 'json']).flatMap(({ stdout, stderr }) => {
    if (!stdout.startsWith('[')) throw new AtrizDatabaseError(`squawk did not run: ${stderr || stdout}`);
    return JSON.parse(stdout) as Finding[];
  });
  const place = ({ file, line }: Finding) => `${file}:${line + 1}`;
  const places = [...new Set(findings.map(place))];
  return places.flatMap((where) => {
    const found = findings.filter((finding) => place(finding) === where);
    const rules = found.map(({ rule_name }) => rule_name);
    return [
      ...found.map(({ rule_name, message, help }) =>
        `${where} ${rule_name}: ${message} ${help ?? ''}`.trimEnd(),
      ),
      ...(rules.includes('syntax-error')
        ? []
        : [`  to keep it as it is, write in the line above: -- squawk-ignore ${rules.join(', ')}`]),
    ];
  });
}
