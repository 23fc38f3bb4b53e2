// Configures drizzle-kit for atriz_core.
import { kitConfig } from './scripts/drizzle-kit/config.ts';

export default kitConfig('core');
