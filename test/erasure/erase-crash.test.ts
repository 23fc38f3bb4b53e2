// Erasure interrupted at every step, then run again: the same end as if nothing had happened.
import { expect, test } from 'vitest';
import { packageRoot } from '../../src/migrations/package-root.ts';
import { eraseUser } from '../../src/references/index.ts';
import { addPeople, bystander, openPools, refresh, rowsLeft, userIdOf } from '../references/people.ts';
import { programPath, run } from '../support/cli.ts';
import { describeWith } from '../support/database.ts';

/** More than an erasure has steps; the test says if it has more. */
const people = 48;
const kills = 5;

describeWith(['timescaledb'], 'erasure', () => {
  test('ends the same, whatever step it was interrupted at, by an error or by kill -9', async () => {
    const { pools, urls } = await openPools();
    await addPeople(pools, people + kills);
    const before = await rowsLeft(pools, bystander);

    const steps: string[] = [];
    await eraseUser(pools, userIdOf(1), {
      graceMs: 0,
      onProgress: (progress) => steps.push(JSON.stringify(progress)),
    });
    const wanted = await rowsLeft(pools, 1);
    expect(steps.length).toBeLessThan(people);

    // The second pass finds nothing: to be interrupted at one of its steps is as good as at any other.
    const idle = (step: string | undefined) => step?.includes('"rows":0');
    const fatalSteps = steps.flatMap((step, index) =>
      idle(step) && idle(steps[index + 1]) ? [] : [index + 1],
    );
    expect(fatalSteps.length).toBeGreaterThan(15);
    for (const fatal of fatalSteps) {
      const person = 1 + fatal;
      let step = 0;
      const interrupted = eraseUser(pools, userIdOf(person), {
        graceMs: 0,
        onProgress: () => {
          step += 1;
          if (step === fatal) throw new Error(`interrupted at ${step}`);
        },
      });
      await expect(interrupted).rejects.toThrow(`interrupted at ${fatal}`);
      await eraseUser(pools, userIdOf(person), { graceMs: 0 });
      expect(await rowsLeft(pools, person), `interrupted at ${steps[fatal - 1]}`).toEqual(wanted);
    }

    // The lock-out, between two chunks, inside of two transactions of applications, the very last.
    for (const [index, fatal] of [1, 3, 8, 14, steps.length].slice(0, kills).entries()) {
      const userId = userIdOf(people + 1 + index);
      const killed = await run(
        process.execPath,
        [programPath('erase-once'), JSON.stringify(urls), userId, String(fatal)],
        {},
        packageRoot(),
      );
      expect(killed).toEqual({ code: null, stdout: '', stderr: '' });
      expect(await rowsLeft(pools, people + 1 + index)).not.toEqual(wanted);
      expect((await eraseUser(pools, userId, { graceMs: 0 })).rows).toBeGreaterThan(0);
      expect(await rowsLeft(pools, people + 1 + index), `killed at ${steps[fatal - 1]}`).toEqual(wanted);
      expect((await eraseUser(pools, userId, { graceMs: 0 })).rows).toBe(0);
    }

    // Nothing comes back, and nobody else lost anything.
    await refresh(pools.tracking);
    expect(await rowsLeft(pools, 2)).toEqual(wanted);
    expect(await rowsLeft(pools, bystander)).toEqual(before);
  });
});
