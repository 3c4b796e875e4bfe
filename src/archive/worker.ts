/** The entry of a worker thread: does the one job it was given, answers, and ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { failureOf, type Job, type JobAnswer } from './jobs.js';
import { placeArchive } from './place.js';
import { restoreTreeHere, verifyTreeHere } from './tree-jobs.js';
import { writeTreeHere } from './tree-write.js';

function work(job: Job): Promise<unknown> {
  switch (job.kind) {
    case 'unpack':
      return placeArchive(job);
    case 'write-tree':
      return writeTreeHere(job);
    case 'verify-tree':
      return verifyTreeHere(job);
    case 'restore-tree':
      return restoreTreeHere(job);
  }
}

const answer: JobAnswer = await work(workerData as Job).then((done) => ({ done }), failureOf);
parentPort?.postMessage(answer);
