// Configures drizzle-kit for the database of the application that APP names: atriz, mextrack or pshop.
import { kitConfig, orExit } from './scripts/drizzle-kit/config.ts';
import { applicationKey } from './src/config.ts';

export default kitConfig(orExit(applicationKey));
