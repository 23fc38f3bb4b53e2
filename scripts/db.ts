#!/usr/bin/env node
// The command line of @atriz/database: npm run db -- <command>, or atriz-db <command>.
import { runProgram } from './cli/arguments.ts';
import { buildProgram } from './cli/program.ts';

// A closed pipe, as after "| head", is not an error and must not stop the command.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code !== 'EPIPE') throw error;
});

await runProgram(buildProgram());
