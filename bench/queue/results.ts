import type { ScenarioName, Subject } from './subjects.js';

/** How a figure is read. */
export interface Column {
  readonly key: string;
  readonly title: string;
  readonly unit: 'per second' | 'ms' | 's' | 'bytes' | 'count';
  /** Shown as Muster's share of the best peer's. Not set: no ratio. */
  readonly better?: 'more' | 'less';
  readonly aim?: string;
}

/** What was measured of one subject. */
export interface Result {
  readonly subject: string;
  readonly role: Subject['role'];
  readonly figures: Readonly<Record<string, number>>;
  /** Why there are no figures. */
  readonly failure?: string;
}

export interface Table {
  readonly scenario: ScenarioName;
  readonly title: string;
  readonly columns: readonly Column[];
  readonly results: Result[];
}

export interface Ratio {
  readonly key: string;
  readonly peer: string;
  /** How many times better Muster is. */
  readonly times: number;
}

/** For each column with a direction: Muster against the best peer. Above 1 Muster is ahead. */
export function ratiosOf(table: Table): Ratio[] {
  const muster = table.results.find(({ role }) => role === 'muster');
  const ratios: Ratio[] = [];
  for (const { key, better } of table.columns) {
    const ours = muster?.figures[key];
    if (better === undefined || ours === undefined) continue;
    const best = bestPeer(table.results, key, better);
    if (best)
      ratios.push({ key, peer: best.subject, times: better === 'more' ? ours / best.value : best.value / ours });
  }
  return ratios;
}

function bestPeer(
  results: readonly Result[],
  key: string,
  better: 'more' | 'less',
): { readonly subject: string; readonly value: number } | undefined {
  const peers = results.flatMap(({ subject, role, figures }) => {
    const value = figures[key];
    return role === 'peer' && value !== undefined ? [{ subject, value }] : [];
  });
  return peers.sort((a, b) => (better === 'more' ? b.value - a.value : a.value - b.value))[0];
}

function shown(value: number | undefined, unit: Column['unit']): string {
  if (value === undefined || Number.isNaN(value)) return '-';
  switch (unit) {
    case 'per second':
    case 'count':
      return Math.round(value).toLocaleString('en');
    case 'ms':
      return value < 100 ? value.toFixed(2) : value.toFixed(0);
    case 's':
      return value.toFixed(2);
    case 'bytes':
      return `${(value / 1e6).toFixed(1)} MB`;
  }
}

/** The table as text, its ratios below. */
export function printed(table: Table): string {
  const head = ['', ...table.columns.map(({ title }) => title)];
  const rows = table.results.map(({ subject, figures }) => [
    subject,
    ...table.columns.map(({ key, unit }) => shown(figures[key], unit)),
  ]);
  const widths = head.map((title, column) => Math.max(title.length, ...rows.map((row) => row[column]?.length ?? 0)));
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) => (column === 0 ? cell.padEnd(widths[0] ?? 0) : cell.padStart(widths[column] ?? 0)))
      .join('  ');
  return `${[`\n${table.title}`, line(head), ...rows.map(line), ...aims(table), ...failures(table)].join('\n')}\n`;
}

/** What the figures are held against. */
function aims(table: Table): string[] {
  const ratios = ratiosOf(table);
  return table.columns.flatMap(({ key, title, aim }) => {
    const ratio = ratios.find((one) => one.key === key);
    const aimed = aim === undefined ? '' : `; aim: ${aim}`;
    if (ratio) return [`  ${title}: ${ratio.times.toFixed(2)} times as good as ${ratio.peer}${aimed}`];
    return aim === undefined ? [] : [`  ${title}${aimed}`];
  });
}

function failures(table: Table): string[] {
  return table.results.flatMap(({ subject, failure }) =>
    failure === undefined ? [] : [`  ${subject}: not measured: ${failure}`],
  );
}
