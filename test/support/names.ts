// Names that global-setup and the test files share. Imports nothing of vitest, which global-setup may not run.
import { join } from 'node:path';

/** Where global-setup compiles the command line to: it starts in a quarter of the time, as users have it. */
export const compiledFolder = join('node_modules', '.cache', 'atriz-database');

/** The migrated database that a run clones for each test file. */
export const templateName = (run: string, key: string): string => `atriz_test_${run}_template_${key}`;
