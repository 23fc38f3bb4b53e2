// Reads the track points of GPX as rows of columns.
import { StringDecoder } from 'node:string_decoder';
import sax from 'sax';
import { ValidationError } from '../../errors.ts';

/** A location as it was read: unchecked values by column name, and the position in the text for error messages. */
export interface Row {
  readonly position: number;
  readonly cells: Readonly<Record<string, unknown>>;
}

/** Namespace of the extensions in which an export writes values that have no GPX element. */
export const atrizNamespace = 'https://atriz.dev/gpx/1';

/**
 * Yields the rows of each piece of the text as a batch. The position of a row is its line, from 1. Converts the speeds
 * of GPX 1.0 and of Garmin's extension from metres per second to km/h.
 * @throws ValidationError if the text is not well-formed XML or has no `gpx` element.
 */
export async function* readGpx(source: AsyncIterable<string | Uint8Array>): AsyncGenerator<Row[]> {
  const parser = sax.parser(true, { position: true });
  let rows: Row[] = [];
  let hasRoot = false;
  let position = 0;
  let cells: Record<string, unknown> | undefined;
  let text = '';
  let failure: Error | undefined;
  parser.onerror = (error) => {
    failure ??= error;
  };
  parser.onopentag = ({ name, attributes }) => {
    text = '';
    if (localName(name) === 'gpx') hasRoot = true;
    if (localName(name) !== 'trkpt') return;
    position = parser.line + 1;
    cells = { latitude: attributes.lat, longitude: attributes.lon };
  };
  parser.ontext = (part) => {
    text += part;
  };
  parser.oncdata = (part) => {
    text += part;
  };
  parser.onclosetag = (name) => {
    if (!cells) return;
    if (localName(name) === 'trkpt') {
      rows.push({ position, cells });
      cells = undefined;
      return;
    }
    const value = text.trim();
    const column = columns.get(localName(name));
    if (name.startsWith('atriz:')) cells[localName(name)] = value;
    else if (column === 'speed') cells.speed = value === '' ? '' : Number(value) * 3.6;
    else if (column) cells[column] = value;
    text = '';
  };
  const decoder = new StringDecoder('utf8');
  const write = (piece: string) => {
    parser.write(piece);
    if (failure) throw notGpx(failure.message);
  };
  for await (const piece of source) {
    write(typeof piece === 'string' ? piece : decoder.write(Buffer.from(piece)));
    if (rows.length === 0) continue;
    yield rows;
    rows = [];
  }
  write(decoder.end());
  parser.close();
  if (failure) throw notGpx(failure.message);
  if (!hasRoot) throw notGpx('it has no element gpx');
}

const localName = (name: string) => name.slice(name.indexOf(':') + 1);

/** Maps the elements of GPX and of Garmin's TrackPointExtension to columns. */
const columns: ReadonlyMap<string, string> = new Map([
  ['time', 'time'],
  ['ele', 'altitude'],
  ['speed', 'speed'],
  ['course', 'heading'],
]);

const notGpx = (reason: string) =>
  new ValidationError(
    `This is not whole GPX: ${reason.split('\n').slice(0, 2).join(', ').trim()}. Nothing was loaded.`,
  );
