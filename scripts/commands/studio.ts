// studio: opens drizzle-kit studio on one port for each database, and prints the addresses.
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { type Command, InvalidArgumentError } from 'commander';
import { databaseUrl } from '../../src/config.ts';
import { keyOf } from '../../src/databases.ts';
import { maskPassword } from '../../src/driver/database-url.ts';
import { AtrizDatabaseError } from '../../src/errors.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { selectTargets } from '../../src/targets.ts';
import { printTable, refuseProduction } from '../cli/output.ts';
import { onSignal } from '../cli/signals.ts';
import { saysWhere } from '../cli/where.ts';
import { kitArguments, kitEnvironment } from '../drizzle-kit/process.ts';

/** The default port of drizzle-kit. */
const firstPort = 4983;

export function registerStudio(program: Command): void {
  saysWhere(program.command('studio'))
    .description('open Drizzle Studio, a page of the internet; each database gets a port of its own')
    .argument('[database...]', 'which; default: all')
    .option('--port <port>', 'the first port', parsePort, firstPort)
    .action((names: string[], { port }: { port: number }) => openStudios(names, port));
}

function parsePort(text: string): number {
  const port = Number(text);
  if (!Number.isInteger(port) || port < 1 || port > 65_000) {
    throw new InvalidArgumentError('It should be a number from 1 to 65000.');
  }
  return port;
}

/** URL of the script that accepts requests only from Drizzle Studio. Like drizzle-kit, it is not published. */
const originGuard = () => pathToFileURL(join(packageRoot(), 'scripts/drizzle-kit/studio-origin.js')).href;

async function openStudios(names: readonly string[], port: number): Promise<void> {
  refuseProduction('studio');
  const studios = selectTargets(names).map((key, index) => ({
    key,
    port: port + index,
    url: databaseUrl(key).url,
  }));
  const children: ChildProcess[] = [];
  const stop = () => {
    for (const child of children) child.kill('SIGTERM');
  };
  using _ = onSignal(stop);
  try {
    for (const studio of studios) {
      if (await answers(studio.port)) throw portProblem(studio.key, studio.port);
      const child = spawn(
        process.execPath,
        [
          '--import',
          originGuard(),
          ...kitArguments(keyOf(studio.key), 'studio', ['--port', String(studio.port)]),
        ],
        {
          cwd: packageRoot(),
          env: kitEnvironment(studio.key, studio.url),
          stdio: ['ignore', 'ignore', 'inherit'],
        },
      );
      children.push(child);
      await listening(studio.port, child, studio.key);
    }
    printTable(
      ['database', 'open in a browser', 'shows'],
      studios.map(({ key, port, url }) => [
        key,
        `https://local.drizzle.studio?port=${port}`,
        maskPassword(url),
      ]),
    );
    console.log(
      '\nThe page comes from local.drizzle.studio, so it needs the internet, and it reads and writes these databases ' +
        'through this machine.\nOther pages get no answer. Ctrl-C closes them.',
    );
    await Promise.race(children.map((child) => once(child, 'exit')));
  } finally {
    stop();
  }
}

async function listening(port: number, child: ChildProcess, key: string): Promise<void> {
  const deadline = Date.now() + 60_000;
  while (Date.now() < deadline && child.exitCode === null) {
    if (await answers(port)) return;
    await sleep(100);
  }
  throw portProblem(key, port);
}

const portProblem = (key: string, port: number) =>
  new AtrizDatabaseError(
    `drizzle-kit studio for ${key} did not start on port ${port}: is the port taken? Choose others with --port.`,
  );

async function answers(port: number): Promise<boolean> {
  const socket = connect({ host: '127.0.0.1', port });
  try {
    await once(socket, 'connect');
    return true;
  } catch {
    return false;
  } finally {
    socket.destroy();
  }
}
