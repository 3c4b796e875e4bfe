/** The entry of a worker thread: does the one job it was given, answers, and ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { failureOf, type Job, type JobAnswer } from './jobs.js';
import { placeArchive } from './place.js';

function work(job: Job): Promise<unknown> {
  switch (job.kind) {
    case 'unpack':
      return placeArchive(job);
  }
}

const answer: JobAnswer = await work(workerData as Job).then((done) => ({ done }), failureOf);
parentPort?.postMessage(answer);
