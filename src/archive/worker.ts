/** The entry of a worker thread: does the one job it was given, answers, and ends. */
import { parentPort, workerData } from 'node:worker_threads';
import { failureOf, type Job, type JobAnswer } from './jobs.js';

/** What a job does not need is not loaded: each thread has its own copy of what it runs. */
async function work(job: Job): Promise<unknown> {
  switch (job.kind) {
    case 'unpack':
      return (await import('./place.js')).placeArchive(job);
    case 'write-tree':
      return (await import('./tree-write.js')).writeTreeHere(job);
    case 'verify-tree':
      return (await import('./tree-jobs.js')).verifyTreeHere(job);
    case 'restore-tree':
      return (await import('./tree-jobs.js')).restoreTreeHere(job);
  }
}

const answer: JobAnswer = await work(workerData as Job).then((done) => ({ done }), failureOf);
parentPort?.postMessage(answer);
