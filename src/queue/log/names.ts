/** What the log is called in errors, with the reasons of those after a failed write and after close(). */
export const LOG_NAMES = { what: "the queue's log", failed: 'LOG_FAILED', closed: 'LOG_CLOSED' } as const;
