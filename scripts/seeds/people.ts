// The people of the seeds. Their ids are fixed, because the other databases refer to them without a foreign key.

export const people = {
  admin: { id: '0a000000-0000-4000-8000-000000000001', email: 'admin@atriz.dev', name: 'Ada Admin' },
  manager: { id: '0a000000-0000-4000-8000-000000000002', email: 'manager@atriz.dev', name: 'Mara Manager' },
  driver: { id: '0a000000-0000-4000-8000-000000000003', email: 'driver@atriz.dev', name: 'Dario Driver' },
  seller: { id: '0a000000-0000-4000-8000-000000000004', email: 'seller@atriz.dev', name: 'Sol Seller' },
  courier: { id: '0a000000-0000-4000-8000-000000000005', email: 'courier@atriz.dev', name: 'Cora Courier' },
  customer: {
    id: '0a000000-0000-4000-8000-000000000006',
    email: 'customer@atriz.dev',
    name: 'Cleo Customer',
  },
} as const;

/** GPS device in the seeded vehicle. */
export const vehicleDevice = '0d000000-0000-4000-8000-000000000001';
/** The seeded courier's phone. */
export const courierDevice = '0d000000-0000-4000-8000-000000000002';
