// A profile and a preference for everybody.
import { userPreferences, userProfiles } from '../../../schema/atriz.ts';
import type { SeedFunction } from '../../../src/seed.ts';
import { people } from '../people.ts';

const seed: SeedFunction = async ({ orm }) => {
  for (const { id, name } of Object.values(people)) {
    await orm.insert(userProfiles).values({ userId: id, displayName: name }).onConflictDoNothing();
    await orm
      .insert(userPreferences)
      .values({ userId: id, key: 'theme', value: 'system' })
      .onConflictDoNothing();
  }
};

export default seed;
