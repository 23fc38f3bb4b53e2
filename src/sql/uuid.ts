// Validates UUIDs in the usual form with hyphens; PostgreSQL would also accept other forms.
import { ValidationError } from '../errors.ts';

const uuid = /^[\da-fA-F]{8}-[\da-fA-F]{4}-[\da-fA-F]{4}-[\da-fA-F]{4}-[\da-fA-F]{12}$/;

export const isUuid = (value: unknown): value is string => typeof value === 'string' && uuid.test(value);

/** @returns the UUID in lower case. @throws ValidationError for any other value. */
export function requireUuid(value: unknown, name: string): string {
  if (isUuid(value)) return value.toLowerCase();
  const shown = typeof value === 'string' ? JSON.stringify(value.slice(0, 60)) : `of type ${typeof value}`;
  throw new ValidationError(`${name} ${shown} is not a uuid.`);
}
