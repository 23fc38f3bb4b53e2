// Fails if env.example lacks a variable that src/config.ts reads, or shows one that nothing reads.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { definitionOf, possibleTargets } from '../../src/databases.ts';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { environmentProblems } from './variables.ts';

const file = (path: string) => readFileSync(join(packageRoot(), path), 'utf8');
const problems = environmentProblems(
  file('env.example'),
  file('src/config.ts'),
  possibleTargets.map((target) => definitionOf(target).urlVariable),
);
for (const problem of problems) console.error(`env.example: ${problem}`);
if (problems.length > 0) process.exitCode = 1;
else console.log('env.example names every variable that is read, and no other.');
