/** Nobody mistypes more, and the time it takes grows with both lengths: what strangers send must not hold up anybody. */
const TYPED_MAX = 100;
/** Names that are looked at. */
const KNOWN_MAX = 2000;

/** Edit distance with transpositions (optimal string alignment). */
function distance(a: string, b: string): number {
  const rows: number[][] = [Array.from({ length: b.length + 1 }, (_, column) => column)];
  const at = (row: number, column: number): number => rows[row]?.[column] ?? 0;
  for (let row = 1; row <= a.length; row += 1) {
    const current = [row];
    rows.push(current);
    for (let column = 1; column <= b.length; column += 1) {
      const same = a[row - 1] === b[column - 1];
      let best = Math.min(at(row - 1, column) + 1, at(row, column - 1) + 1, at(row - 1, column - 1) + (same ? 0 : 1));
      if (row > 1 && column > 1 && a[row - 1] === b[column - 2] && a[row - 2] === b[column - 1]) {
        best = Math.min(best, at(row - 2, column - 2) + 1);
      }
      current.push(best);
    }
  }
  return at(a.length, b.length);
}

/** The known name nearest to what was typed, or undefined where nothing is near. */
export function nearest(typed: string, known: Iterable<string>): string | undefined {
  if (typed.length > TYPED_MAX) return undefined;
  const limit = Math.max(1, Math.floor(typed.length / 3));
  let best: { name: string; distance: number } | undefined;
  let looked = 0;
  for (const name of known) {
    looked += 1;
    if (looked > KNOWN_MAX) break;
    if (Math.abs(name.length - typed.length) > limit) continue;
    const far = distance(typed.toLowerCase(), name.toLowerCase());
    if (far <= limit && (!best || far < best.distance)) best = { name, distance: far };
  }
  return best?.name;
}

/** ` Did you mean "x"?` with a leading space, or an empty string. */
export function didYouMean(typed: string, known: Iterable<string>): string {
  const name = nearest(typed, known);
  return name === undefined ? '' : ` Did you mean "${name}"?`;
}
