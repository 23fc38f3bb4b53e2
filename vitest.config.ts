// One suite over three kinds of server: test/support/server.ts says which. The journeys, in which a person uses the
// project with other programs (npm, bundlers, a browser, Patroni, pgBackRest), take longer: "npm run test:journeys".
import { defineConfig } from 'vitest/config';
import { BaseSequencer, type TestSpecification } from 'vitest/node';

/** Starts with the files that take longest, so that none of them runs alone at the end. */
class LongestFirst extends BaseSequencer {
  override async sort(files: TestSpecification[]): Promise<TestSpecification[]> {
    const rank = ({ moduleId }: TestSpecification) => (moduleId.includes('/commands/') ? 0 : 1);
    return [...(await super.sort(files))].sort((one, other) => rank(one) - rank(other));
  }
}

const report = process.env.TEST_REPORT;
// Of each project: Vitest would run one of the whole once more, with servers that no test uses.
const globalSetup = ['test/support/global-setup.ts'];

export default defineConfig({
  test: {
    projects: [
      {
        extends: true,
        // Not by `exclude`, which would hide --exclude of the command line.
        test: { name: 'suite', globalSetup, include: ['test/*.test.ts', 'test/!(journeys)/**/*.test.ts'] },
      },
      { extends: true, test: { name: 'journeys', globalSetup, include: ['test/journeys/**/*.test.ts'] } },
    ],
    setupFiles: ['test/support/setup.ts'],
    isolate: false,
    sequence: { sequencer: LongestFirst },
    reporters: report ? ['default', ['json', { outputFile: report }]] : ['default'],
    env: { TZ: 'UTC' },
    // These end what hangs, and nothing else: a machine may be slow or busy.
    testTimeout: 600_000,
    hookTimeout: 600_000,
    teardownTimeout: 60_000,
    expect: { poll: { timeout: 120_000 } },
    // Tests wait for servers more than they compute; with more workers those servers would compete.
    maxWorkers: 4,
  },
});
