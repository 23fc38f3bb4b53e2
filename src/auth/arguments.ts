// What callers pass to the authentication functions, checked once where it enters.
import { isIP, SocketAddress } from 'node:net';
import { ValidationError } from '../errors.ts';

/** Longer ones are cut: a header that a client makes up must not make its login fail. */
const maxUserAgentLength = 1_024;
const maxEmailLength = 255;
/** `check_email_format` of atriz_core. ASCII only, so that lower case means the same here and there. */
const emailFormat = /^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$/;

/** PostgreSQL stores no NUL, and UTF-8 no half of a surrogate pair: it would arrive as another text. */
export const isStorable = (text: string): boolean => !text.includes('\0') && !/\p{Surrogate}/u.test(text);

/** At most so many UTF-16 units of a text, which never end inside of a character. */
const cutText = (text: string, units: number): string =>
  text.length > units ? text.slice(0, units).replace(/[\ud800-\udbff]$/, '') : text;

/** A value in a message: short; of a value that is not a text, only the type. */
const show = (value: unknown): string => {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 60));
  return value === null || typeof value === 'number' ? String(value) : typeof value;
};

/** @throws ValidationError */
export function requireString(value: unknown, name: string): string {
  if (typeof value === 'string') return value;
  throw new ValidationError(`${name} is ${show(value)}: pass a string.`);
}

/** @throws ValidationError listing the choices. */
export function requireOneOf<Choice extends string>(
  value: unknown,
  name: string,
  choices: readonly Choice[],
): Choice {
  const found = choices.find((choice) => choice === value);
  if (found !== undefined) return found;
  throw new ValidationError(`${name} is ${show(value)}: use ${choices.join(', ')}.`);
}

/** An argument with named fields. @throws ValidationError for what has none. */
export function requireFields<Fields extends object>(value: Fields, name: string): Fields {
  if (typeof value === 'object' && value !== null) return value;
  throw new ValidationError(`${name} is ${show(value)}: pass an object.`);
}

/** Lower-case, or undefined for what cannot be anybody's e-mail. @throws ValidationError for no string. */
export function parseEmail(value: unknown): string | undefined {
  const text = requireString(value, 'email');
  return text.length <= maxEmailLength && emailFormat.test(text) ? text.toLowerCase() : undefined;
}

/** The address as PostgreSQL's inet takes it: without a zone, IPv4 never wrapped in IPv6. */
export function parseAddress(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  const text = requireString(value, 'ipAddress');
  if (isIP(text) === 0) {
    throw new ValidationError(
      `ipAddress ${show(text)} is not an IP address: pass the client's, without a port.`,
    );
  }
  const [address = ''] = text.split('%');
  const canonical = new SocketAddress({ address, family: isIP(address) === 6 ? 'ipv6' : 'ipv4' }).address;
  return canonical.replace(/^::ffff:(?=\d+\.)/, '');
}

/** @throws ValidationError for what no header can hold. */
export function parseUserAgent(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  const text = cutText(requireString(value, 'userAgent'), maxUserAgentLength);
  if (isStorable(text)) return text;
  throw new ValidationError('userAgent holds a NUL or half of a surrogate pair.');
}

/** @throws ValidationError unless it is a whole number in the range. */
export function requireInteger(value: unknown, name: string, min: number, max: number): number {
  if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max) return value as number;
  throw new ValidationError(`${name} is ${show(value)}: use a whole number from ${min} to ${max}.`);
}
