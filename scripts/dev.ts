// npm run dev: runs the embedded cluster in .atriz/ until Ctrl-C. For development and tests only.
import { once } from 'node:events';
import { resolve } from 'node:path';
import { Command } from 'commander';
import { useUtc } from '../src/config.ts';
import { definitionOf } from '../src/databases.ts';
import { databaseTargets } from '../src/targets.ts';
import { commandLine } from './cli/arguments.ts';
import { loadEnvironmentFile } from './cli/environment-file.ts';
import { printTable } from './cli/output.ts';
import { interruption } from './cli/signals.ts';
import { describeServers } from './cli/where.ts';
import { startCluster } from './embedded/cluster.ts';
import { EmbeddedClusterError } from './embedded/errors.ts';
import { startJobs } from './embedded/jobs.ts';
import { type ClusterUrl, clusterUrls, environmentLines } from './embedded/urls.ts';
import { servePage } from './report/serve.ts';

const { folder } = new Command('dev')
  .description('runs the embedded cluster until Ctrl-C')
  .option('--folder <folder>', 'where its data is', '.atriz')
  .parse(commandLine())
  .opts<{ folder: string }>();

loadEnvironmentFile();
useUtc();
const interrupted = interruption();
try {
  const cluster = await startCluster({
    folder: resolve(folder),
    onProgress: (message) => console.error(message),
  });
  try {
    await serve(clusterUrls(cluster));
  } finally {
    console.error('stopping');
    await cluster.stop();
  }
} catch (error) {
  if (!(error instanceof EmbeddedClusterError)) throw error;
  console.error(error.message);
  process.exitCode = 1;
}

async function serve(urls: readonly ClusterUrl[]): Promise<void> {
  printTable(
    ['database', 'URL'],
    urls.map(({ key, url }) => [key, url]),
  );
  console.log(`\nFor an env file:\n\n${environmentLines(urls).join('\n')}\n`);
  const used = describeServers(databaseTargets());
  const cluster = new Set(urls.map(({ url }) => new URL(url).host));
  const isUsed = used.addresses.length > 0 && used.addresses.every((address) => cluster.has(address));
  // The page shows the databases that commands in this folder use. Serve it only if this cluster holds them.
  await using page = isUsed ? await servePage() : undefined;
  if (page) console.log(`See it, live:  ${page.url}\n`);
  console.log(sayHowToReach(isUsed, used.text));
  console.log('"npm run db:prepare" creates, migrates and fills the databases. Ctrl-C stops the cluster.');
  const tracking = urls.find(({ key }) => definitionOf(key).extensions.includes('timescaledb'));
  const stopJobs = startJobs(tracking?.url ?? '', {
    onError: (job, { message }) => console.error(`${job} failed: ${message}`),
  });
  if (!interrupted.aborted) await once(interrupted, 'abort');
  await stopJobs();
}

function sayHowToReach(isUsed: boolean, used: string): string {
  if (resolve(folder) !== resolve('.atriz')) return 'Put these lines into .env.';
  if (isUsed) return 'The commands of this folder find the cluster by themselves.';
  return `Your settings win over this cluster: the commands of this folder work elsewhere.\n${used}
To use the cluster, take those settings out, or put the lines above into .env.\n`;
}
