// drizzle-kit for the applications' databases: APP=atriz|mextrack|pshop says which.
import { kitConfig, orExit } from './scripts/drizzle-kit/config.ts';
import { applicationKey } from './src/config.ts';

export default kitConfig(orExit(applicationKey));
