// Validates the arguments of the authentication functions.
import { isIP, SocketAddress } from 'node:net';
import { ValidationError } from '../errors.ts';

/** A longer user agent is cut, because a header from a client must not cause an error. */
const maxUserAgentLength = 1_024;
const maxEmailLength = 255;
/** As `check_email_format` of atriz_core. ASCII only, because the lower case of other letters depends on the locale. */
const emailFormat = /^[A-Za-z0-9._%+-]+@[A-Za-z0-9.-]+\.[A-Za-z]{2,}$/;

/** Whether a text has no NUL, which PostgreSQL cannot store, and no unpaired surrogate, which UTF-8 would replace. */
export const isStorable = (text: string): boolean => !text.includes('\0') && !/\p{Surrogate}/u.test(text);

/** Cuts a text to `units` UTF-16 code units, or one less if the last would be half of a surrogate pair. */
const cutText = (text: string, units: number): string =>
  text.length > units ? text.slice(0, units).replace(/[\ud800-\udbff]$/, '') : text;

/** Formats a value for a message: a string (cut to 60 characters), a number or null. For others, shows the type. */
const show = (value: unknown): string => {
  if (typeof value === 'string') return JSON.stringify(value.slice(0, 60));
  return value === null || typeof value === 'number' ? String(value) : typeof value;
};

/** @throws ValidationError unless the value is a string. */
export function requireString(value: unknown, name: string): string {
  if (typeof value === 'string') return value;
  throw new ValidationError(`${name} is ${show(value)}: pass a string.`);
}

/** @throws ValidationError with a list of the choices, unless the value is one of them. */
export function requireOneOf<Choice extends string>(
  value: unknown,
  name: string,
  choices: readonly Choice[],
): Choice {
  const found = choices.find((choice) => choice === value);
  if (found !== undefined) return found;
  throw new ValidationError(`${name} is ${show(value)}: use ${choices.join(', ')}.`);
}

/** @throws ValidationError unless the value is an object. */
export function requireFields<Fields extends object>(value: Fields, name: string): Fields {
  if (typeof value === 'object' && value !== null) return value;
  throw new ValidationError(`${name} is ${show(value)}: pass an object.`);
}

/** The e-mail in lower case, or undefined if malformed. @throws ValidationError unless it is a string. */
export function parseEmail(value: unknown): string | undefined {
  const text = requireString(value, 'email');
  return text.length <= maxEmailLength && emailFormat.test(text) ? text.toLowerCase() : undefined;
}

/**
 * Converts an IP address for a column of type inet. Removes the zone; an IPv4-mapped IPv6 address becomes IPv4.
 * @throws ValidationError for a value that is not an IP address.
 */
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

/** @throws ValidationError for a value that is not a string or that PostgreSQL cannot store. */
export function parseUserAgent(value: unknown): string | null {
  if (value === undefined || value === null) return null;
  const text = cutText(requireString(value, 'userAgent'), maxUserAgentLength);
  if (isStorable(text)) return text;
  throw new ValidationError('userAgent holds a NUL or half of a surrogate pair.');
}

/** @throws ValidationError unless the value is a whole number from `min` to `max`. */
export function requireInteger(value: unknown, name: string, min: number, max: number): number {
  if (Number.isInteger(value) && (value as number) >= min && (value as number) <= max) return value as number;
  throw new ValidationError(`${name} is ${show(value)}: use a whole number from ${min} to ${max}.`);
}
