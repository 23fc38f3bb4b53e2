#!/usr/bin/env node
// The command line of @atriz/database: npm run db -- <command>, or atriz-db <command>.
import { runProgram } from './cli/arguments.ts';
import { buildProgram } from './cli/program.ts';
import { onClosedOutput } from './cli/signals.ts';

// The command goes on: what it changes must not depend on who reads its output.
onClosedOutput();
await runProgram(buildProgram());
