// A profile and a preference for everybody.
import { userPreferences, userProfiles } from '../../../schema/atriz.ts';
import type { SeedFunction } from '../../../src/seed.ts';
import { people } from '../people.ts';

const seed: SeedFunction = async ({ orm }) => {
  let added = 0;
  for (const { id, name } of Object.values(people)) {
    const profile = await orm
      .insert(userProfiles)
      .values({ userId: id, displayName: name })
      .onConflictDoNothing();
    const preference = await orm
      .insert(userPreferences)
      .values({ userId: id, key: 'theme', value: 'system' })
      .onConflictDoNothing();
    added += profile.count + preference.count;
  }
  return added;
};

export default seed;
