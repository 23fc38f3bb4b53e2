// Reads cells of CSV from the bytes of a file, in the forms that most files have. A cell in another form is not
// "plain": column-types.ts reads it from a string, decides whether it is valid, and says why not.

const [minus, plus, point, zero, nine] = [0x2d, 0x2b, 0x2e, 0x30, 0x39];
const [letterT, letterZ, space, colon] = [0x54, 0x5a, 0x20, 0x3a];

/** A double holds the powers of ten up to 10^22 exactly. */
const powersOfTen = Array.from({ length: 23 }, (_, exponent) => 10 ** exponent);

/** Reads a decimal number without exponent. @returns what `Number` returns for the text, or NaN if it is not plain. */
export function readDecimal(bytes: Buffer, start: number, end: number): number {
  const sign = bytes[start];
  const first = sign === minus || sign === plus ? start + 1 : start;
  let digits = 0;
  let pointAt = -1;
  for (let at = first; at < end; at += 1) {
    const byte = bytes[at] as number;
    if (byte >= zero && byte <= nine) digits = digits * 10 + (byte - zero);
    else if (byte === point && pointAt < 0) pointAt = at;
    else return Number.NaN;
  }
  const hasDigit = end - first > (pointAt < 0 ? 0 : 1);
  if (!hasDigit) return Number.NaN;
  const decimals = pointAt < 0 ? 0 : end - pointAt - 1;
  if (digits > Number.MAX_SAFE_INTEGER || decimals >= powersOfTen.length)
    return Number(bytes.toString('latin1', start, end));
  // Equals the result of `Number`, because the quotient of two exact numbers is rounded once.
  const number = digits / (powersOfTen[decimals] as number);
  return sign === minus ? -number : number;
}

/**
 * Reads a time in UTC, such as `2026-01-02T03:04:05.678Z`. A space may replace the T. The zone may be missing, or `+00`
 * as PostgreSQL writes it. Only the first three decimals are used.
 * @returns milliseconds since 1970, or NaN if the time is not plain or does not exist.
 */
export function readTime(bytes: Buffer, start: number, end: number): number {
  const clock = start + 11;
  const hasForm =
    end - start >= 19 &&
    bytes[start + 4] === minus &&
    bytes[start + 7] === minus &&
    (bytes[start + 10] === letterT || bytes[start + 10] === space) &&
    bytes[clock + 2] === colon &&
    bytes[clock + 5] === colon;
  if (!hasForm) return Number.NaN;
  const year = readTwoDigits(bytes, start) * 100 + readTwoDigits(bytes, start + 2);
  const month = readTwoDigits(bytes, start + 5);
  const day = readTwoDigits(bytes, start + 8);
  const hour = readTwoDigits(bytes, clock);
  const minute = readTwoDigits(bytes, clock + 3);
  const second = readTwoDigits(bytes, clock + 6);
  // Also false for NaN. Date.UTC would read the years up to 99 as 1900 to 1999.
  const isInRange =
    year >= 100 &&
    month >= 1 &&
    month <= 12 &&
    day >= 1 &&
    day <= 31 &&
    hour <= 23 &&
    minute <= 59 &&
    second <= 59;
  if (!isInRange) return Number.NaN;
  let at = clock + 8;
  let millisecond = 0;
  if (bytes[at] === point) {
    const fraction = at + 1;
    for (at = fraction; isDigit(bytes[at]); at += 1) {
      if (at < fraction + 3)
        millisecond += ((bytes[at] as number) - zero) * (powersOfTen[2 - (at - fraction)] as number);
    }
    if (at === fraction) return Number.NaN;
  }
  if (!isUtc(bytes, at, end)) return Number.NaN;
  const time = Date.UTC(year, month - 1, day, hour, minute, second, millisecond);
  // Date.UTC turns the 30th of February into the 2nd of March.
  return day <= 28 || new Date(time).getUTCDate() === day ? time : Number.NaN;
}

/** Reads the two bytes at `at` as a number. Returns NaN if they are not digits. */
function readTwoDigits(bytes: Buffer, at: number): number {
  const [tens, ones] = [bytes[at], bytes[at + 1]];
  return isDigit(tens) && isDigit(ones) ? (tens - zero) * 10 + (ones - zero) : Number.NaN;
}

const isDigit = (byte: number | undefined): byte is number =>
  byte !== undefined && byte >= zero && byte <= nine;

/** Whether the zone of a time is `Z`, `+00` or missing. */
function isUtc(bytes: Buffer, at: number, end: number): boolean {
  if (end - at === 3) return bytes[at] === plus && bytes[at + 1] === zero && bytes[at + 2] === zero;
  return end === at || (end - at === 1 && bytes[at] === letterZ);
}

/** Whether the text needs no trimming and has only printable ASCII characters. */
export function isPlainText(bytes: Buffer, start: number, end: number): boolean {
  if (bytes[start] === space || bytes[end - 1] === space) return false;
  for (let at = start; at < end; at += 1) {
    const byte = bytes[at] as number;
    if (byte < 0x20 || byte > 0x7e) return false;
  }
  return true;
}

export function equals(bytes: Buffer, start: number, end: number, text: Uint8Array): boolean {
  if (end - start !== text.length) return false;
  for (let at = 0; at < text.length; at += 1) {
    if (bytes[start + at] !== text[at]) return false;
  }
  return true;
}

/** Whether a number could be 0: its first character after a sign is not a digit from 1 to 9. */
export function mayBeZero(bytes: Buffer, start: number): boolean {
  const first = bytes[start] === minus || bytes[start] === plus ? bytes[start + 1] : bytes[start];
  return !isDigit(first) || first === zero;
}
