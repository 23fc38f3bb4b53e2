// Empty in the sources. `npm run build` writes the files of drizzle/ into the compiled module, so that a bundle has them.

/** Text of the migrations, down files and journals, by path, such as `drizzle/core/0000_tables.sql`. */
export const packed: Readonly<Record<string, string>> = {};
