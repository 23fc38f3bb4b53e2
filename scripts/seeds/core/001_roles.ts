// Roles that the applications check.
import type { SeedFunction } from '../../../src/seed.ts';

const roles = {
  admin: 'Manages users and roles',
  manager: 'Sees the whole fleet or shop',
  driver: 'Drives vehicles of Mextrack',
  seller: 'Offers products in PShop',
  courier: 'Delivers orders of PShop',
  customer: 'Places orders in PShop',
};

const seed: SeedFunction = async (pool) => {
  const { rowCount } = await pool.query(
    `INSERT INTO roles (name, description) SELECT key, value FROM jsonb_each_text($1::jsonb)
     ON CONFLICT (name) DO NOTHING`,
    [roles],
  );
  return rowCount;
};

export default seed;
