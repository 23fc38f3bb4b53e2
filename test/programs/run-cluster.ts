// Run by lifecycle.test.ts as a process of its own, which can be killed.
import { startCluster } from '../../scripts/embedded/cluster.ts';

const [folder = ''] = process.argv.slice(2);
const cluster = await startCluster({ folder });
console.log(JSON.stringify(cluster.servers));
