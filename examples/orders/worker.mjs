/** Consumes orders until it is told to stop, then finishes what it has. Several may run: they share the orders. `node worker.mjs` */
import { connectQueue } from 'muster/queue';

const queue = connectQueue();
// What one worker has, the others wait for: a few are enough where each takes some time.
const orders = queue.subscribe('orders', 'billing', {
  create: { start: 'earliest', maxAttempts: 5 },
  maxMessages: 10,
});

// Finishes what is being worked on; the rest goes to others at once.
for (const signal of ['SIGINT', 'SIGTERM']) process.once(signal, () => void orders.drain());

await orders.process(
  async (message) => {
    const order = JSON.parse(message.text());
    console.log(`billed order ${order.id}: ${order.amount}`);
  },
  {
    onError: (error, message) =>
      console.error(`order at ${message.sequence}, attempt ${message.attempt}: ${error.message}`),
  },
);
await queue.close();
