// npm run dev: the embedded cluster in .atriz/, until Ctrl-C. Development and tests only.
import { resolve } from 'node:path';
import { Command } from 'commander';
import { useUtc } from '../src/config.ts';
import { definitionOf } from '../src/databases.ts';
import { commandLine } from './cli/arguments.ts';
import { printTable } from './cli/output.ts';
import { onSignal } from './cli/signals.ts';
import { startCluster } from './embedded/cluster.ts';
import { EmbeddedClusterError } from './embedded/errors.ts';
import { startJobs } from './embedded/jobs.ts';
import { clusterUrls, environmentLines } from './embedded/urls.ts';

const { folder } = new Command('dev')
  .description('runs the embedded cluster until Ctrl-C')
  .option('--folder <folder>', 'where its data is', '.atriz')
  .parse(commandLine())
  .opts<{ folder: string }>();
const isDefault = resolve(folder) === resolve('.atriz');

useUtc();
try {
  const cluster = await startCluster({
    folder: resolve(folder),
    onProgress: (message) => console.error(message),
  });
  const urls = clusterUrls(cluster);
  printTable(
    ['database', 'URL'],
    urls.map(({ key, url }) => [key, url]),
  );
  console.log(`\nFor an env file:\n\n${environmentLines(urls).join('\n')}\n`);
  const found = isDefault
    ? 'The commands of this folder find the cluster by themselves.'
    : 'Put these lines into .env.';
  console.log(`${found} Create and fill the databases with`);
  console.log('"npm run db:create", "npm run db:migrate" and "npm run db:seed". Ctrl-C stops the cluster.');
  const tracking = urls.find(({ key }) => definitionOf(key).extensions.includes('timescaledb'));
  const stopJobs = startJobs(tracking?.url ?? '', {
    onError: (job, { message }) => console.error(`${job} failed: ${message}`),
  });
  await stopSignal();
  console.error('stopping');
  await stopJobs();
  await cluster.stop();
} catch (error) {
  if (!(error instanceof EmbeddedClusterError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}

function stopSignal(): Promise<void> {
  return new Promise((done) => {
    // Keep the handlers: a second Ctrl-C must not interrupt the clean shutdown.
    onSignal(() => done());
  });
}
