import {
  isAlias,
  isMap,
  isScalar,
  isSeq,
  LineCounter,
  parseDocument,
  type Document,
  type Node,
  type Pair,
  type YAMLMap,
} from 'yaml';
import { messageOf } from '../kit/errors.js';

/** Where a text is wrong and how. */
export interface Mistake {
  /** Path of the field, for example `ports[0].port`; empty for the whole. */
  readonly field: string;
  /** `file:line:column: what is wrong, what was expected`. */
  readonly text: string;
  /** Where it is in the text, in characters. */
  readonly offset: number;
}

/** A field and what is wrong with it, before its place in the text is known. */
export interface Issue {
  readonly path: readonly PropertyKey[];
  readonly text: string;
  /** The place is the key, not its value. */
  readonly atKey?: boolean;
}

export interface YamlText {
  /** Plain values; undefined when there are mistakes. */
  readonly value: unknown;
  readonly mistakes: readonly Mistake[];
  /** Finds the places of issues in the text; in its order. */
  locate(issues: readonly Issue[]): Mistake[];
}

/** Longest text read, in characters. */
const TEXT_MAX = 256 * 1024;
/** Values in one text, aliases written out: a bound on alias bombs. */
const VALUES_MAX = 10_000;
const DEPTH_MAX = 32;
/** Syntax errors named of one text: one slip can make the parser complain of every line after it. */
const SYNTAX_ERRORS_MAX = 10;

/** Reads YAML (or JSON, which is YAML) into plain values, remembering where each stands. Never throws. */
export function readYaml(text: string, file: string): YamlText {
  const lines = new LineCounter();
  const at = (issue: Issue, offset: number): Mistake => {
    const { line, col } = lines.linePos(offset);
    const field = fieldName(issue.path);
    const place = `${file}:${Math.max(line, 1)}:${Math.max(col, 1)}`;
    return { field, text: `${place}: ${field === '' ? '' : `${field}: `}${issue.text}`, offset };
  };
  const unreadable = (mistakes: readonly Mistake[]): YamlText => ({
    value: undefined,
    mistakes,
    locate: (issues) => issues.map((issue) => at(issue, 0)),
  });
  if (text.length > TEXT_MAX) {
    return unreadable([at({ path: [], text: `the text is longer than ${TEXT_MAX} characters: shorten it` }, 0)]);
  }
  let document: Document.Parsed;
  try {
    document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, prettyErrors: false });
  } catch (error) {
    return unreadable([at({ path: [], text: `the text cannot be read as YAML: ${messageOf(error)}` }, 0)]);
  }
  const syntax = [...document.errors, ...document.warnings]
    .slice(0, SYNTAX_ERRORS_MAX)
    .map((error) => at({ path: [], text: plainMessage(error.code, error.message) }, error.pos[0]));
  if (syntax.length > 0) return unreadable(syntax);

  const mistakes: Mistake[] = [];
  const reader = new Reader(document, (issue, offset) => mistakes.push(at(issue, offset)));
  const value = reader.read(document.contents, []);
  return {
    value: mistakes.length > 0 ? undefined : value,
    mistakes,
    locate: (issues) =>
      issues.map((issue) => at(issue, findOffset(document, issue))).sort((a, b) => a.offset - b.offset),
  };
}

function plainMessage(code: string, message: string): string {
  if (code === 'DUPLICATE_KEY') return 'this key is written twice in one mapping: keep one of them';
  if (code === 'MULTIPLE_DOCS') return 'a second document begins here: write one document per file';
  if (message.startsWith('Maximum call stack')) return 'the text is nested too deeply here: flatten it';
  return message;
}

/** `ports[0].port` of ['ports', 0, 'port']. */
export function fieldName(path: readonly PropertyKey[]): string {
  return path
    .map((step, index) => (typeof step === 'number' ? `[${step}]` : `${index > 0 ? '.' : ''}${String(step)}`))
    .join('');
}

/** Turns nodes into plain values, refusing what no mapping of ours may hold. */
class Reader {
  readonly #document: Document.Parsed;
  readonly #report: (issue: Issue, offset: number) => void;
  #values = 0;

  constructor(document: Document.Parsed, report: (issue: Issue, offset: number) => void) {
    this.#document = document;
    this.#report = report;
  }

  read(node: unknown, path: readonly PropertyKey[]): unknown {
    this.#values += 1;
    if (this.#values > VALUES_MAX || path.length > DEPTH_MAX) {
      if (this.#values <= VALUES_MAX + 1)
        this.#refuse(node, path, 'too many values or levels: simplify, or write aliases out');
      this.#values = VALUES_MAX + 2;
      return undefined;
    }
    if (isAlias(node)) {
      const target = node.resolve(this.#document);
      if (target) return this.read(target, path);
      this.#refuse(node, path, `*${node.source} names no anchor before it`);
      return undefined;
    }
    if (isSeq(node)) return node.items.map((item, index) => this.read(item, [...path, index]));
    if (isMap(node)) return this.#readMap(node, path);
    return isScalar(node) ? node.value : null;
  }

  #readMap(map: YAMLMap, path: readonly PropertyKey[]): Record<string, unknown> {
    const result: Record<string, unknown> = {};
    for (const pair of map.items) {
      const key = keyOf(pair);
      if (key === undefined || key === '__proto__') {
        this.#refuse(pair.key, path, key === undefined ? 'a key must be text' : '"__proto__" cannot be a key');
      } else {
        result[key] = this.read(pair.value, [...path, key]);
      }
    }
    return result;
  }

  #refuse(node: unknown, path: readonly PropertyKey[], text: string): void {
    this.#report({ path, text }, offsetOf(node) ?? 0);
  }
}

function keyOf(pair: Pair): string | undefined {
  if (!isScalar(pair.key)) return undefined;
  const { value } = pair.key;
  if (typeof value === 'string') return value;
  return typeof value === 'number' || typeof value === 'boolean' ? String(value) : undefined;
}

function offsetOf(node: unknown): number | undefined {
  return (node as Node | null | undefined)?.range?.[0];
}

/** The offset of the issue's value or key; where there is none, of what is around it. */
function findOffset(document: Document.Parsed, issue: Issue): number {
  let node: unknown = document.contents;
  let offset = offsetOf(node) ?? 0;
  for (const [index, step] of issue.path.entries()) {
    if (isAlias(node)) node = node.resolve(document);
    const found = child(node, step);
    if (!found) return offset;
    const wantKey = issue.atKey === true && index === issue.path.length - 1;
    offset = offsetOf(wantKey ? found.key : found.value) ?? offsetOf(found.key) ?? offset;
    node = found.value;
  }
  return offset;
}

function child(node: unknown, step: PropertyKey): { key: unknown; value: unknown } | undefined {
  if (isSeq(node) && typeof step === 'number') return { key: undefined, value: node.items[step] };
  if (isMap(node)) return node.items.find((pair) => keyOf(pair) === String(step));
  return undefined;
}
