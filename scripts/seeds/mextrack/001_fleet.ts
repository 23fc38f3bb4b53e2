// A vehicle, its driver, and the open assignment between them.
import { drivers, vehicleAssignments, vehicles } from '../../../schema/mextrack.ts';
import type { SeedFunction } from '../../../src/seed.ts';
import { people, vehicleDevice } from '../people.ts';

const vehicleId = '0b000000-0000-4000-8000-000000000001';
const driverId = '0b000000-0000-4000-8000-000000000002';
const assignmentId = '0b000000-0000-4000-8000-000000000003';

const seed: SeedFunction = async ({ orm }) => {
  const vehicle = await orm
    .insert(vehicles)
    .values({
      id: vehicleId,
      userId: people.manager.id,
      vehicleName: 'Delivery van 1',
      licensePlate: 'AB 123 CD',
      deviceId: vehicleDevice,
      make: 'Renault',
      model: 'Kangoo',
      modelYear: 2024,
    })
    .onConflictDoNothing();
  const driver = await orm
    .insert(drivers)
    .values({ id: driverId, userId: people.driver.id, fullName: people.driver.name, licenseNumber: 'B-0001' })
    .onConflictDoNothing();
  const assignment = await orm
    .insert(vehicleAssignments)
    .values({ id: assignmentId, vehicleId, driverId })
    .onConflictDoNothing();
  return vehicle.count + driver.count + assignment.count;
};

export default seed;
