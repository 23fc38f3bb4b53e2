// Runs before each test file, also where the files of a worker share their modules.
import { afterAll } from 'vitest';
import { clearAway } from './after-file.ts';
import { forgetSettings } from './environment.ts';

forgetSettings();
afterAll(clearAway);
