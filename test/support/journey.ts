// A day of a person who follows the pages: a checkout of this project, in which their commands are typed as written.
import { chmodSync, cpSync, readFileSync, symlinkSync } from 'node:fs';
import { join, relative, sep } from 'node:path';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { temporaryFolder } from './backups.ts';
import { run } from './cli.ts';
import type { CliResult } from './cli-hosts.ts';

/** Not in version control, and the packages, which the checkout shares. */
const leftOut = ['.git', '.atriz', '.env', 'backups', 'dist', 'node_modules'];

export class Checkout {
  readonly root = temporaryFolder();
  readonly #environment: Readonly<Record<string, string>>;

  constructor(environment: Readonly<Record<string, string>> = {}) {
    const from = packageRoot();
    const isKept = (path: string) => !leftOut.includes(relative(from, path).split(sep)[0] ?? '');
    // Run as root, PostgreSQL runs as another user, who has to enter it.
    chmodSync(this.root, 0o755);
    cpSync(from, this.root, { recursive: true, filter: isKept });
    symlinkSync(join(from, 'node_modules'), join(this.root, 'node_modules'));
    this.#environment = environment;
  }

  path(name: string): string {
    return join(this.root, name);
  }

  /** Runs a line of a page. */
  type(line: string): Promise<CliResult> {
    return run('bash', ['-c', line], this.#environment, this.root);
  }
}

/** The commands of a page's blocks of `sh` under a heading, with what they print on a terminal left out. */
export function commandsUnder(page: string, heading: string): string[] {
  const text = readFileSync(join(packageRoot(), page), 'utf8');
  const [, section = ''] = text.split(`\n${heading}\n`);
  const [own = ''] = section.split(/\n#{1,4} /);
  const blocks = [...own.matchAll(/^```sh\n(.*?)^```/gms)].map(([, block]) => block ?? '');
  const lines = blocks.flatMap((block) => block.replaceAll('\\\n', '').trim().split('\n'));
  if (lines.length === 0) throw new Error(`${page} has no commands under "${heading}".`);
  return lines;
}
