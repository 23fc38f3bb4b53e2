#!/usr/bin/env node
// The command line of @atriz/database: npm run db -- <command>, or atriz-db <command>.

// Imported dynamically, so that a missing package can be reported. The packages of these modules are optional.
const load = () =>
  Promise.all([import('./cli/arguments.ts'), import('./cli/program.ts'), import('./cli/signals.ts')]);

try {
  const [{ runProgram }, { buildProgram }, { onClosedOutput }] = await load();
  // The command continues when its output is closed: what it changes must not depend on who reads the output.
  onClosedOutput();
  await runProgram(buildProgram());
} catch (error) {
  const { code, message } = error as NodeJS.ErrnoException;
  if (code !== 'ERR_MODULE_NOT_FOUND') throw error;
  const reason = message.split(' imported from ', 1)[0];
  console.error(
    `The command line needs its optional packages: run "npm install --include=optional". (${reason})`,
  );
  process.exitCode = 1;
}
