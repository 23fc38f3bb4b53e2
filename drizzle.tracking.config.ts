// drizzle-kit for atriz_tracking.
import { kitConfig } from './scripts/drizzle-kit.ts';

export default kitConfig('tracking');
