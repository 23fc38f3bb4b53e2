// Encodes JavaScript values as query parameters, as users of node-postgres expect.

/** OID of `unknown`: PostgreSQL infers the type from the context, as for a quoted literal. */
export const unknownType = 705;

/**
 * Encodes a value as text for PostgreSQL. `undefined` becomes NULL, dates ISO 8601 in UTC, objects JSON, arrays array
 * literals, bytes hexadecimal. postgres.js would encode by the type that the server describes: it would quote a string
 * for jsonb twice, and send an array of booleans or dates as a single value.
 */
export function encodeParameter(value: unknown): string | null {
  if (value === null || value === undefined) return null;
  if (typeof value !== 'object') return String(value);
  if (value instanceof Date) return value.toISOString();
  if (ArrayBuffer.isView(value)) {
    return `\\x${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')}`;
  }
  if (value instanceof ArrayBuffer) return `\\x${Buffer.from(value).toString('hex')}`;
  if (Array.isArray(value)) return encodeArray(value);
  return JSON.stringify(value);
}

function encodeArray(values: readonly unknown[]): string {
  const elements = values.map((value) => {
    if (Array.isArray(value)) return encodeArray(value);
    const text = encodeParameter(value);
    return text === null ? 'NULL' : `"${text.replace(/["\\]/g, '\\$&')}"`;
  });
  return `{${elements.join(',')}}`;
}
