#!/usr/bin/env node
// The command line of @atriz/database: npm run db -- <command>, or atriz-db <command>.
import { runProgram } from './cli/arguments.ts';
import { buildProgram } from './cli/program.ts';

// A reader that has seen enough, such as head, is no failure of ours, and no reason to stop half-way.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

await runProgram(buildProgram());
