// Schema of atriz_db: the data of the Atriz site about the users of atriz_core.
import { relations } from 'drizzle-orm';
import { jsonb, pgTable, text, unique, varchar } from 'drizzle-orm/pg-core';
import { coreUserId, primaryId, timestamps } from './columns.ts';
import { deleteRows, type ErasureRule } from './erasure.ts';

export const userProfiles = pgTable('user_profiles', {
  id: primaryId(),
  userId: coreUserId().notNull().unique('user_profiles_user_id_key'),
  displayName: varchar('display_name', { length: 255 }),
  bio: text('bio'),
  company: varchar('company', { length: 255 }),
  phone: varchar('phone', { length: 50 }),
  website: varchar('website', { length: 500 }),
  locale: varchar('locale', { length: 35 }).notNull().default('en'),
  timeZone: varchar('time_zone', { length: 64 }).notNull().default('UTC'),
  ...timestamps(),
});
export type UserProfile = typeof userProfiles.$inferSelect;
export type NewUserProfile = typeof userProfiles.$inferInsert;

export const userPreferences = pgTable(
  'user_preferences',
  {
    id: primaryId(),
    userId: coreUserId().notNull(),
    key: varchar('key', { length: 100 }).notNull(),
    value: jsonb('value').notNull(),
    ...timestamps(),
  },
  // The index also serves queries for the preferences of a user: WHERE user_id = $1.
  (table) => [unique('user_preferences_user_id_key_key').on(table.userId, table.key)],
);
export type UserPreference = typeof userPreferences.$inferSelect;
export type NewUserPreference = typeof userPreferences.$inferInsert;

// user_id, which refers to atriz_core, joins the two tables. There is no foreign key between them.
export const userProfilesRelations = relations(userProfiles, ({ many }) => ({
  preferences: many(userPreferences),
}));

export const userPreferencesRelations = relations(userPreferences, ({ one }) => ({
  profile: one(userProfiles, { fields: [userPreferences.userId], references: [userProfiles.userId] }),
}));

export const erasure: readonly ErasureRule[] = [
  deleteRows(userPreferences, userPreferences.userId),
  deleteRows(userProfiles, userProfiles.userId),
];
