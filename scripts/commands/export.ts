// export: writes the locations of a device as CSV, NDJSON, GeoJSON or GPX, which import reads back.
import { createWriteStream } from 'node:fs';
import { Readable } from 'node:stream';
import { pipeline } from 'node:stream/promises';
import { type Command, Option } from 'commander';
import type { AppSource } from '../../schema/tracking.ts';
import { ConfigurationError } from '../../src/errors.ts';
import { exportLocations } from '../../src/tracking/export.ts';
import { type LocationFormat, locationFormats } from '../../src/tracking/import/dialect.ts';
import { parseApplication, parseTime, parseUuid } from '../cli/arguments.ts';
import { trackingOf, withPool } from '../cli/pools.ts';

interface ExportOptions {
  device: string;
  app?: AppSource;
  from: Date;
  to: Date;
  format: LocationFormat;
  output?: string;
}

export function registerExport(program: Command): void {
  program
    .command('export')
    .description('write the raw locations of a device, oldest first, in a form that import reads back')
    .requiredOption('--device <uuid>', 'whose locations', parseUuid)
    .option('--app <name>', 'whose database, where applications have their own', parseApplication)
    .requiredOption('--from <time>', 'ISO 8601, UTC unless it names a zone', parseTime)
    .option('--to <time>', 'exclusive; default: now', parseTime, new Date())
    .addOption(new Option('--format <format>', 'of the text').choices(locationFormats).default('csv'))
    .option('--output <file>', 'a new file; default: standard output')
    .action(({ device, app, from, to, format, output }: ExportOptions) =>
      withPool(trackingOf(app), async (pool) => {
        const text = Readable.from(exportLocations(pool, device, { from, to }, format));
        const target = output === undefined ? process.stdout : createWriteStream(output, { flags: 'wx' });
        try {
          await pipeline(text, target, { end: output !== undefined });
        } catch (error) {
          const { code } = error as NodeJS.ErrnoException;
          // The reader of the output has ended, as in "| head".
          if (code === 'EPIPE') return;
          if (code === 'EEXIST')
            throw new ConfigurationError(`${output} exists: choose another name for --output.`);
          throw error;
        }
      }),
    );
}
