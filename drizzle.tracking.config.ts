// Configures drizzle-kit for atriz_tracking.
import { kitConfig } from './scripts/drizzle-kit/config.ts';

export default kitConfig('tracking');
