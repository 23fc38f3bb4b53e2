// Entry point of @atriz/database/auth: credentials, tokens and roles of atriz_core.
export {
  type CostOptions,
  changePassword,
  createUser,
  type NewAccount,
  type PasswordChange,
  resetPassword,
  setPassword,
  verifyEmail,
} from './accounts.ts';
export {
  type AuthenticateOptions,
  authenticate,
  type Credentials,
  type Login,
  type LoginFailure,
  type Origin,
} from './authenticate.ts';
export { EmailTakenError, TokenError, type TokenFailure, UnknownRoleError } from './errors.ts';
export { defaultLoginLimits, type LoginLimit, type LoginLimits } from './login-attempts.ts';
export { hashPassword, verifyPassword } from './passwords.ts';
export { type PurgeOptions, purgeExpiredTokens, purgeLoginAttempts } from './purge.ts';
export { type RotateOptions, rotateRefreshToken } from './refresh.ts';
export { revokeToken, revokeUserTokens } from './revoke.ts';
export { assignRole, getUserRoles, hasRole, removeRole } from './roles.ts';
export {
  consumeToken,
  type IssuedToken,
  type IssueTokenOptions,
  issueToken,
  type NewTokenOptions,
  type OneTimeTokenType,
  type PresentedToken,
  type Token,
  type TokenType,
  tokenLifetimesMs,
  type VerifiedToken,
  verifyToken,
} from './tokens.ts';
export type { AuthenticatedUser } from './users.ts';
