// A uuid in its usual form, with hyphens: PostgreSQL would also take others.

const uuid = /^[\da-fA-F]{8}-[\da-fA-F]{4}-[\da-fA-F]{4}-[\da-fA-F]{4}-[\da-fA-F]{12}$/;

export const isUuid = (value: unknown): value is string => typeof value === 'string' && uuid.test(value);
