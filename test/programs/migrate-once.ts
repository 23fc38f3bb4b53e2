// Run by crash.test.ts as a process of its own: says that it starts, migrates, and may be killed.
import { createDatabasePool } from '../../src/index.ts';
import { migrate } from '../../src/migrations/index.ts';

const [connectionString = '', folder = ''] = process.argv.slice(2);
await using pool = createDatabasePool({ connectionString });
await pool.query('SELECT 1');
console.log('started');
await migrate(pool, 'atriz', { folder });
