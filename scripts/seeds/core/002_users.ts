// One user for each role. Everybody's password is "atriz-dev".
import { hashPassword } from '../../../src/auth/index.ts';
import type { SeedFunction } from '../../../src/seed.ts';
import { people } from '../people.ts';

const seed: SeedFunction = async (pool) => {
  const passwordHash = await hashPassword('atriz-dev');
  let added = 0;
  for (const [role, { id, email, name }] of Object.entries(people)) {
    const user = await pool.query(
      `INSERT INTO users (id, email, password_hash, name, email_verified) VALUES ($1, $2, $3, $4, true)
       ON CONFLICT (email) DO NOTHING`,
      [id, email, passwordHash, name],
    );
    const grant = await pool.query(
      `INSERT INTO user_roles (user_id, role_id) SELECT u.id, r.id FROM users u, roles r WHERE u.email = $1 AND r.name = $2
       ON CONFLICT (user_id, role_id) DO NOTHING`,
      [email, role],
    );
    added += user.rowCount + grant.rowCount;
  }
  return added;
};

export default seed;
