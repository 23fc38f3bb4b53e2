// drizzle-kit for atriz_core.
import { kitConfig } from './scripts/drizzle-kit.ts';

export default kitConfig('core');
