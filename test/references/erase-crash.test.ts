// Erasure interrupted at every step, then run again: the same end as if nothing had happened.
import { expect, test } from 'vitest';
import { eraseUser } from '../../src/references/index.ts';
import { runSource } from '../support/cli.ts';
import { describeWith } from '../support/database.ts';
import { addPeople, bystander, openPools, refresh, rowsLeft, userIdOf } from './people.ts';

/** More than an erasure has steps; the test says if it has more. */
const people = 48;
const kills = [1, 3, 8, 14, 30];

describeWith(['timescaledb'], 'erasure', () => {
  test('ends the same, whatever step it was interrupted at, by an error or by kill -9', async () => {
    const { pools, urls } = await openPools();
    await addPeople(pools, people + kills.length);
    const before = await rowsLeft(pools, bystander);

    const steps: string[] = [];
    await eraseUser(pools, userIdOf(1), {
      graceMs: 0,
      onProgress: (progress) => steps.push(JSON.stringify(progress)),
    });
    const wanted = await rowsLeft(pools, 1);
    expect(steps.length).toBeLessThan(people);

    for (let fatal = 1; fatal <= steps.length; fatal += 1) {
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
      expect(await rowsLeft(pools, person), `interrupted at ${steps[fatal - 1]}`).not.toEqual(wanted);
      await eraseUser(pools, userIdOf(person), { graceMs: 0 });
      expect(await rowsLeft(pools, person), `interrupted at ${steps[fatal - 1]}`).toEqual(wanted);
    }

    for (const [index, fatal] of kills.entries()) {
      const userId = userIdOf(people + 1 + index);
      const killed = await runSource(
        'test/references/erase-once.ts',
        [JSON.stringify(urls), userId, String(fatal)],
        {},
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
  }, 180_000);
});
