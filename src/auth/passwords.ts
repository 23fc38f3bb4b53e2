// Passwords: bcrypt with a cost that the event loop survives.
import bcrypt from 'bcryptjs';
import { ValidationError } from '../errors.ts';

/** bcrypt reads this many bytes and ignores the rest, so a longer password would be a weaker promise. */
const maxPasswordBytes = 72;
const minCost = 10;

/**
 * Hashes a password with bcrypt; yields to the event loop while it works.
 * @param cost log2 of the rounds, 10 to 20. Default 12.
 * @throws ValidationError for an empty password, one of over 72 bytes in UTF-8, or a cost out of range.
 */
export async function hashPassword(password: string, cost = 12): Promise<string> {
  if (!Number.isInteger(cost) || cost < minCost || cost > 20) {
    throw new ValidationError(`The bcrypt cost is ${cost}: use a whole number from ${minCost} to 20.`);
  }
  if (password === '') throw new ValidationError('The password is empty.');
  const bytes = Buffer.byteLength(password, 'utf8');
  if (bytes > maxPasswordBytes) {
    throw new ValidationError(
      `The password has ${bytes} bytes: bcrypt reads ${maxPasswordBytes}, so longer ones are refused.`,
    );
  }
  return bcrypt.hash(password, cost);
}

/** Whether a password belongs to a hash. A password that could never have been hashed does not. */
export async function verifyPassword(password: string, hash: string): Promise<boolean> {
  const matches = await bcrypt.compare(password, hash);
  return matches && Buffer.byteLength(password, 'utf8') <= maxPasswordBytes;
}
