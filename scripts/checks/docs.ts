// Fails if a generated page of docs/ does not match the schema and the command line.
import { generatePages, stalePages } from '../docs/pages.ts';

const stale = stalePages(await generatePages());
for (const path of stale) console.error(`${path} is stale: "npm run docs" writes it again.`);
if (stale.length > 0) process.exitCode = 1;
else console.log('The generated pages of docs/ are current.');
