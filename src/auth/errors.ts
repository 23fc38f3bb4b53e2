// Errors that the authentication functions throw.
import { AtrizDatabaseError } from '../errors.ts';

const tokenFailures = {
  unknown: 'was never issued, or was purged after it expired',
  'wrong type': 'is of another type',
  revoked: 'was revoked',
  used: 'was used before',
  reused: 'was rotated before and came back, so that its whole family is revoked now',
  expired: 'has expired',
  'inactive user': 'belongs to a user who is not active',
};
/** Why a token is refused. From `rotateRefreshToken`, `used` means rotated less than `reuseGraceMs` ago. */
export type TokenFailure = keyof typeof tokenFailures;

/** A token is refused. `reason` is for logs: do not send it to the client. */
export class TokenError extends AtrizDatabaseError {
  override readonly name = 'TokenError';
  override readonly code = 'INVALID_TOKEN';
  readonly reason: TokenFailure;

  constructor(reason: TokenFailure) {
    super(`The token ${tokenFailures[reason]}.`);
    this.reason = reason;
  }
}

/** atriz_core has no role with this name. */
export class UnknownRoleError extends AtrizDatabaseError {
  override readonly name = 'UnknownRoleError';
  override readonly code = 'UNKNOWN_ROLE';
  readonly role: string;

  constructor(role: string) {
    super(
      `There is no role ${JSON.stringify(role.slice(0, 100))}: insert it into roles of atriz_core first.`,
    );
    this.role = role;
  }
}

/** A user already has this e-mail, compared without regard to case. */
export class EmailTakenError extends AtrizDatabaseError {
  override readonly name = 'EmailTakenError';
  override readonly code = 'EMAIL_TAKEN';
  readonly email: string;

  constructor(email: string) {
    super(`There is a user with the e-mail ${email} already.`);
    this.email = email;
  }
}
