// @atriz/database/auth: credentials of atriz_core.
export { hashPassword, verifyPassword } from './passwords.ts';
