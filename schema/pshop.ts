// Schema of pshop_db: point of sale and deliveries. The locations of couriers are in atriz_tracking.
import { relations, sql } from 'drizzle-orm';
import {
  boolean,
  check,
  index,
  integer,
  numeric,
  pgEnum,
  pgTable,
  text,
  unique,
  uuid,
  varchar,
} from 'drizzle-orm/pg-core';
import { coreUserId, primaryId, timestamps, timestamptz } from './columns.ts';
import { anonymiseRows, type ErasureRule, erasedUserId, keep, keepRows } from './erasure.ts';

/** An exact decimal with two places. Read as a string, because a `Number` is not exact. */
const money = (name: string) => numeric(name, { precision: 12, scale: 2 });

export const products = pgTable(
  'products',
  {
    id: primaryId(),
    userId: coreUserId().notNull(),
    sku: varchar('sku', { length: 64 }).notNull(),
    name: varchar('name', { length: 255 }).notNull(),
    description: text('description'),
    price: money('price').notNull(),
    currency: varchar('currency', { length: 3 }).notNull().default('EUR'),
    stock: integer('stock').notNull().default(0),
    isActive: boolean('is_active').notNull().default(true),
    ...timestamps(),
  },
  (table) => [
    // Each seller assigns their own SKUs. The index also serves queries for a seller's products: WHERE user_id = $1.
    unique('products_user_id_sku_key').on(table.userId, table.sku),
    check('check_product_price', sql`${table.price} > 0`),
    check('check_product_stock', sql`${table.stock} >= 0`),
    check('check_product_currency', sql`${table.currency} ~ '^[A-Z]{3}$'`),
  ],
);
export type Product = typeof products.$inferSelect;
export type NewProduct = typeof products.$inferInsert;

export const orderStatus = pgEnum('order_status', [
  'pending',
  'confirmed',
  'preparing',
  'out_for_delivery',
  'completed',
  'cancelled',
]);

export const orders = pgTable(
  'orders',
  {
    id: primaryId(),
    userId: coreUserId().notNull(),
    status: orderStatus('status').notNull().default('pending'),
    subtotal: money('subtotal').notNull(),
    deliveryFee: money('delivery_fee').notNull().default('0'),
    total: money('total').notNull(),
    currency: varchar('currency', { length: 3 }).notNull().default('EUR'),
    placedAt: timestamptz('placed_at').notNull().defaultNow(),
    ...timestamps(),
  },
  (table) => [
    // Serves queries for the orders of a customer, newest first: WHERE user_id = $1 ORDER BY placed_at DESC.
    index('idx_orders_user').on(table.userId, table.placedAt.desc().nullsFirst()),
    // Serves queries for the orders with a status, oldest first: WHERE status = $1 ORDER BY placed_at.
    index('idx_orders_status').on(table.status, table.placedAt),
    check('check_order_amounts', sql`${table.subtotal} >= 0 AND ${table.deliveryFee} >= 0`),
    check('check_order_total', sql`${table.total} >= 0`),
    check('check_order_currency', sql`${table.currency} ~ '^[A-Z]{3}$'`),
  ],
);
export type Order = typeof orders.$inferSelect;
export type NewOrder = typeof orders.$inferInsert;

export const orderItems = pgTable(
  'order_items',
  {
    id: primaryId(),
    orderId: uuid('order_id')
      .notNull()
      .references(() => orders.id, { onDelete: 'cascade' }),
    productId: uuid('product_id')
      .notNull()
      .references(() => products.id, { onDelete: 'restrict' }),
    quantity: integer('quantity').notNull(),
    unitPrice: money('unit_price').notNull(),
    ...timestamps(),
  },
  (table) => [
    // The index also serves queries for the items of an order: WHERE order_id = $1.
    unique('order_items_order_id_product_id_key').on(table.orderId, table.productId),
    // Serves queries for the orders with a product, and the check of the foreign key when a product is deleted.
    index('idx_order_items_product').on(table.productId),
    check('check_item_quantity', sql`${table.quantity} > 0`),
    check('check_item_price', sql`${table.unitPrice} >= 0`),
  ],
);
export type OrderItem = typeof orderItems.$inferSelect;
export type NewOrderItem = typeof orderItems.$inferInsert;

export const deliveryStatus = pgEnum('delivery_status', [
  'pending',
  'assigned',
  'picked_up',
  'delivered',
  'failed',
]);

export const deliveries = pgTable(
  'deliveries',
  {
    id: primaryId(),
    orderId: uuid('order_id')
      .notNull()
      .references(() => orders.id, { onDelete: 'cascade' }),
    // The courier and the device that reports their locations. Null until a courier takes the delivery.
    userId: coreUserId(),
    deviceId: uuid('device_id'),
    status: deliveryStatus('status').notNull().default('pending'),
    address: text('address').notNull(),
    assignedAt: timestamptz('assigned_at'),
    pickedUpAt: timestamptz('picked_up_at'),
    deliveredAt: timestamptz('delivered_at'),
    ...timestamps(),
  },
  (table) => [
    // Serves queries for the deliveries of an order, and the cascade from orders.
    index('idx_deliveries_order').on(table.orderId),
    // Serves queries for the deliveries of a courier with a status: WHERE user_id = $1 AND status = $2.
    index('idx_deliveries_user').on(table.userId, table.status),
    check(
      'check_delivery_assigned',
      sql`${table.status} = 'pending' OR ${table.status} = 'failed' OR ${table.userId} IS NOT NULL`,
    ),
    check('check_delivery_pickup', sql`${table.pickedUpAt} >= ${table.assignedAt}`),
    check('check_delivery_times', sql`${table.deliveredAt} >= ${table.pickedUpAt}`),
  ],
);
export type Delivery = typeof deliveries.$inferSelect;
export type NewDelivery = typeof deliveries.$inferInsert;

export const productsRelations = relations(products, ({ many }) => ({
  orderItems: many(orderItems),
}));

export const ordersRelations = relations(orders, ({ many }) => ({
  items: many(orderItems),
  deliveries: many(deliveries),
}));

export const orderItemsRelations = relations(orderItems, ({ one }) => ({
  order: one(orders, { fields: [orderItems.orderId], references: [orders.id] }),
  product: one(products, { fields: [orderItems.productId], references: [products.id] }),
}));

export const deliveriesRelations = relations(deliveries, ({ one }) => ({
  order: one(orders, { fields: [deliveries.orderId], references: [orders.id] }),
}));

export const erasure: readonly ErasureRule[] = [
  // Erases the customer's address. Must come before the rule for orders, which erases the user id that this rule
  // looks up.
  anonymiseRows(deliveries, deliveries.orderId, {
    through: { key: orders.id, person: orders.userId },
    because: 'part of an order, which accounting keeps, and the work of a courier',
    columns: {
      id: keep,
      orderId: keep,
      userId: keep,
      deviceId: keep,
      status: keep,
      address: 'erased',
      assignedAt: keep,
      pickedUpAt: keep,
      deliveredAt: keep,
      createdAt: keep,
      updatedAt: keep,
    },
  }),
  // Erases the courier's id and device.
  anonymiseRows(deliveries, deliveries.userId, {
    because: 'part of an order of somebody else',
    columns: {
      id: keep,
      orderId: keep,
      userId: erasedUserId,
      deviceId: null,
      status: keep,
      address: keep,
      assignedAt: keep,
      pickedUpAt: keep,
      deliveredAt: keep,
      createdAt: keep,
      updatedAt: keep,
    },
  }),
  keepRows(orderItems, 'what was sold for how much; the order says to whom'),
  anonymiseRows(orders, orders.userId, {
    because: 'accounting must keep what was sold',
    columns: {
      id: keep,
      userId: erasedUserId,
      status: keep,
      subtotal: keep,
      deliveryFee: keep,
      total: keep,
      currency: keep,
      placedAt: keep,
      createdAt: keep,
      updatedAt: keep,
    },
  }),
  anonymiseRows(products, products.userId, {
    because: 'orders that accounting keeps name what was sold',
    columns: {
      id: keep,
      userId: erasedUserId,
      // SKUs are unique per seller, and two erased sellers may have used the same SKU.
      sku: sql`${products.id}::text`,
      name: keep,
      description: null,
      price: keep,
      currency: keep,
      stock: 0,
      isActive: false,
      createdAt: keep,
      updatedAt: keep,
    },
  }),
];
