import { MusterError } from '../kit/errors.js';

export interface PageRequest {
  /** 0: the default. */
  readonly size: number;
  readonly token: string;
}

export interface Page<T> {
  readonly items: readonly T[];
  /** Empty on the last page. */
  readonly nextToken: string;
}

export interface PageRules<T> {
  /** Where an item stands: rises strictly over the list, and stays the item's own while others come and go. */
  readonly keyOf: (item: T) => string;
  /** Largest first. */
  readonly reverse?: boolean;
  /** About how many bytes an item takes in an answer; default: nothing. */
  readonly weightOf?: (item: T) => number;
}

export const PAGE_SIZE_DEFAULT = 100;
export const PAGE_SIZE_MAX = 1000;
/** A page ends early rather than outgrow the largest message. */
export const PAGE_BYTES_MAX = 2 * 1024 * 1024;

const TOKEN_PREFIX = 'after:';

function readToken(token: string): string | undefined {
  if (token === '') return undefined;
  const text = Buffer.from(token, 'base64url').toString();
  if (!text.startsWith(TOKEN_PREFIX)) {
    throw new MusterError(
      'invalid',
      'this page token is not one of ours: use the next_page_token of the answer before, unchanged',
      {
        reason: 'PAGE_TOKEN',
      },
    );
  }
  return text.slice(TOKEN_PREFIX.length);
}

function sizeOf(request: PageRequest): number {
  if (request.size < 0) throw new MusterError('invalid', 'page_size must not be negative', { reason: 'PAGE_SIZE' });
  return request.size === 0 ? PAGE_SIZE_DEFAULT : Math.min(request.size, PAGE_SIZE_MAX);
}

/**
 * One page of a list. The token names the last item given, so items that come or go between pages shift nothing.
 * @throws invalid for a size or token that cannot be one
 */
export function pageOf<T>(items: Iterable<T>, request: PageRequest, rules: PageRules<T>): Page<T> {
  const { keyOf, reverse = false, weightOf } = rules;
  const size = sizeOf(request);
  const after = readToken(request.token);
  const behind = (key: string): boolean => after === undefined || (reverse ? key < after : key > after);
  const rest = [...items]
    .map((item) => ({ key: keyOf(item), item }))
    .filter(({ key }) => behind(key))
    .sort((a, b) => (a.key < b.key === reverse ? 1 : -1));
  const page: T[] = [];
  let bytes = 0;
  let last = '';
  for (const { key, item } of rest) {
    bytes += weightOf?.(item) ?? 0;
    if (page.length >= size || (page.length > 0 && bytes > PAGE_BYTES_MAX)) break;
    page.push(item);
    last = key;
  }
  const nextToken = page.length < rest.length ? Buffer.from(TOKEN_PREFIX + last).toString('base64url') : '';
  return { items: page, nextToken };
}
