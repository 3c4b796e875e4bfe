/** Publishes so many orders: `node publish.mjs 1000`. Running it again publishes nothing twice: each order has an id of its own. */
import { connectQueue } from 'muster/queue';

const count = Number(process.argv[2] ?? 10);
const queue = connectQueue();
const publisher = queue.publisher('orders', { onFull: 'wait' });
for (let id = 1; id <= count; id += 1) {
  await publisher.add({ payload: JSON.stringify({ id, amount: id * 10 }), dedupeId: `order-${id}` });
}
// Everything is on the queue's disk, or this throws.
await publisher.close();
console.log(`published ${count} orders`);
await queue.close();
