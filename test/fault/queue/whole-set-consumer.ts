/**
 * A consumer in a process of its own: node --import tsx whole-set-consumer.ts ADDRESS TOPIC SUBSCRIPTION COUNT. Each message is a number below
 * COUNT, as text. Ends when all of them have come and are settled, and prints { unique, received, wrong }.
 */
import { connectQueue } from '../../../src/client/queue/index.js';

const [address = '', topic = '', subscription = '', countText = ''] = process.argv.slice(2);
const count = Number(countText);
const queue = connectQueue({ address });
const seen = new Uint8Array(count);
let unique = 0;
let received = 0;
let wrong = 0;
let settled = Promise.resolve();

function take(text: string): void {
  const number = Number(text);
  received += 1;
  if (!Number.isSafeInteger(number) || number < 0 || number >= count) wrong += 1;
  else if (seen[number] === 0) {
    seen[number] = 1;
    unique += 1;
  }
}

for await (const batch of queue.subscribeBatches(topic, subscription)) {
  for (const message of batch) take(message.payload.toString('utf8'));
  // What is not settled because the queue was killed comes again, and is settled then.
  settled = batch.ackedAll().catch(() => undefined);
  if (unique === count) break;
}
await settled;
await queue.close();
process.stdout.write(`${JSON.stringify({ unique, received, wrong })}\n`);
