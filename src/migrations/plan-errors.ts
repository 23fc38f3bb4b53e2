// Error messages for refused plans, with the fix.
import type { DatabaseTarget } from '../databases.ts';
import { OutOfStepError, ValidationError } from '../errors.ts';
import type { Migration } from './journal.ts';
import type { Plan, Refusal } from './state.ts';

/** The migrations of a plan. @throws OutOfStepError or ValidationError if it was refused. */
export function orRefuse(plan: Plan, key: DatabaseTarget): readonly Migration[] {
  if ('refused' in plan) throw refusalError(plan.refused, key);
  return plan.run;
}

export function refusalError(refusal: Refusal, key: DatabaseTarget): Error {
  const tags = 'tags' in refusal ? refusal.tags.join(', ') : '';
  const outOfStep = (sentence: string) => new OutOfStepError(sentence, { database: key });
  switch (refusal.kind) {
    case 'unsound':
      return outOfStep(
        `The migrations of ${key} are not sound, nothing was run: ${refusal.problems.join(' ')}`,
      );
    case 'edited':
      return outOfStep(
        `${tags} of ${key} was edited after it was applied, nothing was run: restore the file and write a new migration, ` +
          `or accept the file as it is with "npm run migrate -- repair ${key}".`,
      );
    case 'out-of-order':
      return outOfStep(
        `${tags} of ${key} is older than the latest applied migration, as after a late merge, nothing was run: ` +
          'apply it with --allow-out-of-order, or generate it again.',
      );
    case 'empty':
      return outOfStep(
        `${tags} of ${key} holds no statement, nothing was run: write what it is to do, or delete its files and its entry in meta/_journal.json.`,
      );
    case 'orphaned':
      return outOfStep(
        `${tags} of ${key} cannot be taken back from this checkout, nothing was run: the database has a newer migration ` +
          'that has no file here. Use the checkout that has it.',
      );
    case 'unknown-target':
      return new ValidationError(
        `${key} has no migration "${tags}": "npm run db:status -- ${key} --json" lists them.`,
      );
  }
}
