// Every check of the doctor, in the order in which they run.
import { archivingChecks } from './archiving.ts';
import { driftChecks } from './drift.ts';
import type { Check } from './finding.ts';
import { indexChecks } from './indexes.ts';
import { migrationChecks } from './migrations.ts';
import { operationChecks } from './operations.ts';
import { rowChecks } from './rows.ts';
import { serverChecks } from './server.ts';
import { timescaleChecks } from './timescale.ts';

export const checks: readonly Check[] = [
  ...serverChecks,
  ...migrationChecks,
  ...driftChecks,
  ...timescaleChecks,
  ...indexChecks,
  ...rowChecks,
  ...operationChecks,
  ...archivingChecks,
];
