// Two products, one order of both, and its delivery.
import { deliveries, orderItems, orders, products } from '../../../schema/pshop.ts';
import type { SeedFunction } from '../../../src/seed.ts';
import { courierDevice, people } from '../people.ts';

const id = (number: number) => `0c000000-0000-4000-8000-00000000000${number}`;

const seed: SeedFunction = async ({ orm }) => {
  const offered = await orm
    .insert(products)
    .values([
      {
        id: id(1),
        userId: people.seller.id,
        sku: 'COFFEE-250',
        name: 'Coffee, 250 g',
        price: '7.50',
        stock: 40,
      },
      { id: id(2), userId: people.seller.id, sku: 'CUP-BLUE', name: 'Blue cup', price: '12.00', stock: 12 },
    ])
    .onConflictDoNothing();
  const order = await orm
    .insert(orders)
    .values({
      id: id(3),
      userId: people.customer.id,
      status: 'out_for_delivery',
      subtotal: '27.00',
      deliveryFee: '3.00',
      total: '30.00',
    })
    .onConflictDoNothing();
  const items = await orm
    .insert(orderItems)
    .values([
      { id: id(4), orderId: id(3), productId: id(1), quantity: 2, unitPrice: '7.50' },
      { id: id(5), orderId: id(3), productId: id(2), quantity: 1, unitPrice: '12.00' },
    ])
    .onConflictDoNothing();
  const assignedAt = new Date();
  const delivery = await orm
    .insert(deliveries)
    .values({
      id: id(6),
      orderId: id(3),
      userId: people.courier.id,
      deviceId: courierDevice,
      status: 'picked_up',
      address: '12 Harbour Street',
      assignedAt,
      pickedUpAt: assignedAt,
    })
    .onConflictDoNothing();
  return offered.count + order.count + items.count + delivery.count;
};

export default seed;
