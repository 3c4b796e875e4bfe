/**
 * Characters that would act on a terminal or reorder what a person reads: C0 and C1 controls but tab and newline,
 * bidirectional overrides and isolates, zero-width and line separators. Source: Unicode TR 36 and the "Trojan Source" paper, 2021.
 */
const ACTIVE = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Text from a service or a peer, safe to show: active characters appear as `\xNN` or `\uNNNN`. */
export function inert(text: string): string {
  return text.replace(ACTIVE, (character) => {
    const code = character.charCodeAt(0);
    return code < 256 ? `\\x${code.toString(16).padStart(2, '0')}` : `\\u${code.toString(16).padStart(4, '0')}`;
  });
}

/** Like inert, and on one line. */
export function inertLine(text: string): string {
  return inert(text.replaceAll('\n', ' ').replaceAll('\t', ' '));
}
