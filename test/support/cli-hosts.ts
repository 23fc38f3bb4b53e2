// Commands run in processes that have the program loaded already: cli-host.js says how.
import { type ChildProcess, fork } from 'node:child_process';
import { randomUUID } from 'node:crypto';
import type { Socket } from 'node:net';
import { join } from 'node:path';

export interface CliResult {
  code: number | null;
  stdout: string;
  stderr: string;
}

export class CliHosts {
  readonly #folder: string;
  readonly #idle: ChildProcess[] = [];

  /** @param folder of the compiled scripts. */
  constructor(folder: string) {
    this.#folder = folder;
  }

  /** One command at a time in each process; as many processes as commands run at once. */
  async run(args: readonly string[], environment: Record<string, string>, cwd: string): Promise<CliResult> {
    const host = this.#idle.pop() ?? this.#start();
    const mark = `\0${randomUUID()}\n`;
    const [stdout, stderr] = [collect(host.stdout as Socket, mark), collect(host.stderr as Socket, mark)];
    const code = await new Promise<number | null>((resolve) => {
      host.once('message', ({ code }: { code: number }) => resolve(code)).once('exit', resolve);
      host.send({ args, environment, cwd, mark });
    });
    const result = { code, stdout: await stdout, stderr: await stderr };
    host.removeAllListeners('exit');
    if (host.connected) this.#idle.push(host);
    return result;
  }

  #start(): ChildProcess {
    const host = fork(join(import.meta.dirname, 'cli-host.js'), [this.#folder], {
      env: {},
      execArgv: [],
      stdio: ['ignore', 'pipe', 'pipe', 'ipc'],
    });
    // It ends when the channel closes, with the process of the tests.
    host.unref();
    host.channel?.unref();
    for (const stream of [host.stdout, host.stderr]) (stream as Socket).setEncoding('utf8').unref();
    return host;
  }
}

/** What a process writes until the mark, or until its end. */
function collect(stream: Socket, mark: string): Promise<string> {
  let text = '';
  stream.ref();
  return new Promise((resolve) => {
    const done = () => {
      stream.off('data', onData).off('end', done).unref();
      resolve(text.split(mark)[0] ?? '');
    };
    const onData = (part: string) => {
      text += part;
      if (text.endsWith(mark)) done();
    };
    stream.on('data', onData).once('end', done);
  });
}
